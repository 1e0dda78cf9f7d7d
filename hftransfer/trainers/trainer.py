"""`AdaptationTrainer`: transformers' `Trainer` on one joint module and one paired dataset."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer

from ..data.pairing import PairedBatchSampler, PairedDataset
from ..ignored_label import IGNORE
from ..models.blocks import split
from ..models.norm_statistics import average_statistics
from ..stages import stage
from .callbacks import Clock, Unfreezing
from .config import AdaptationConfig
from .evaluation import Evaluating, check_outputs, measures_of
from .hub.push import Publishing
from .hyperparameters import Searching
from .metrics import metrics_for, without_nothing
from .optimizer import Optimizing
from .progress import ProgressLine
from .saving.checkpoints import PlainCheckpoints
from .saving.output_folder import check_access
from .setup.batch_check import check_batch, check_collator, check_untouched_batch, collator_name
from .setup.batch_norm import adapt_to_target
from .setup.constructor import check_arguments, first_model
from .setup.dependent_settings import check_sharding
from .setup.inherited_settings import check_for_model
from .setup.label_shift import correct_bias
from .setup.metric_choice import check_evaluation, check_selection
from .setup.model_assembly import build_joint_model
from .setup.optimizer_check import check_passed_optimizer
from .setup.preparation import prepare
from .setup.sampling import paired_sampler
from .setup.schedule import check_schedule
from .setup.unfreezing import build_phases, check_wrapping
from .step.loss_log import LossLog
from .teachers.fitting import fit_objectives

logger = logging.getLogger(__name__)


class AdaptationTrainer(PlainCheckpoints, Publishing, Optimizing, Evaluating, Searching, Trainer):
    """Trains a model on labelled sources and an unlabelled target.

    Args:
        model: Hub id or folder (a head for the task is put on it), or a loaded `AutoModelFor…Classification`,
            PEFT-wrapped or not; or a dict of settings, `{"model_type": "resnet", …}`, for one from scratch.
        args: an `AdaptationConfig`.
        train_dataset: the labelled source, or a dict of several by name. Map-style or streaming; columns `text` (or
            `tokens`), or `image`, and `label`, or those that `args` names.
        target_dataset: the unlabelled target. Its labels, if any, are never read, unless some are revealed.
        eval_dataset: a labelled source set, or a dict. Names of sources, and names that start with "source", are
            source; metrics that read the labels of any other are called `oracle_…`.
        processing_class: the tokenizer or image processor, or the Hub id or folder of one; the checkpoint's own when
            absent.
        peft_config: LoRA-style partial transfer; open targets are read off the model's structure.
        compute_metrics: yours instead of ours, as in `Trainer`.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        model_init: instead of `model`, a function that returns a new one; `hyperparameter_search` calls it for each
            trial, with the trial if it takes an argument.
        **kwargs: `callbacks`, `optimizers`, `preprocess_logits_for_metrics` … as in `Trainer`.

    Raises:
        ValueError, FileNotFoundError: whatever is wrong with data, labels, model or settings, before training.

    Example:
        >>> trainer = AdaptationTrainer(
        ...     model="sentence-transformers/all-MiniLM-L6-v2",
        ...     args=AdaptationConfig(output_dir="news-to-medical", objectives="mmd"),
        ...     train_dataset=news,
        ...     target_dataset=medical,
        ...     eval_dataset={"source": news_validation, "target": medical_validation},
        ... )
        >>> trainer.train()
        >>> trainer.save_model()
        >>> trainer.push_to_hub()  # doctest: +SKIP
    """

    args: AdaptationConfig
    model: Any
    loss_is_scaled_for_ga = False  # our loss is a mean over the update's items; see get_batch_samples

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        target_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: Any = None,
        compute_metrics: Any = None,
        data_collator: Any = None,
        model_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(args, AdaptationConfig):
            raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
        if not os.path.isdir(str(args.output_dir)):
            check_access(Path(str(args.output_dir)))
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs are visible but no launcher started the run, which would use nn.DataParallel. "
                "Start it with `accelerate launch` or `torchrun`, or show it one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        check_sharding(args)
        check_schedule(args)
        check_arguments(type(self), {**kwargs, "compute_metrics": compute_metrics, "data_collator": data_collator})
        self.made_from = {
            "model": model,
            "model_init": kwargs.pop("model_init", None),
            "train_dataset": train_dataset,
            "target_dataset": target_dataset,
            "eval_dataset": eval_dataset,
            "processing_class": processing_class,
            "peft_config": copy.copy(peft_config),
            "compute_metrics": compute_metrics,
            "data_collator": data_collator,
            "model_kwargs": model_kwargs,
            **kwargs,
        }
        model = first_model(self.made_from)
        check_evaluation(args, eval_dataset, kwargs.get("callbacks"))
        torch.manual_seed(args.seed)  # new heads and discriminators are drawn here, the same on every process
        ready = prepare(
            model, args, train_dataset, target_dataset, eval_dataset, processing_class, peft_config, model_kwargs
        )
        check_for_model(args, ready.space.task, ready.model)
        label_free = check_outputs(args, ready.space, compute_metrics, kwargs.get("preprocess_logits_for_metrics"))
        measures = measures_of(args, ready.space, compute_metrics)
        check_selection(args, ready.space, ready.evaluation, ready.source_names, measures, label_free)
        adapter = build_joint_model(args, ready)
        optimizers = kwargs.get("optimizers")
        self.passed_optimizer = check_passed_optimizer(
            optimizers, kwargs.get("optimizer_cls_and_kwargs"), adapter, args
        )
        check_collator(data_collator, ready)
        if args.recomputes_activations and hasattr(ready.model, "peft_config"):
            ready.model.enable_input_require_grads()
        self.prepared = ready
        self.space, self.trainable, self.source_names = ready.space, ready.trainable, ready.source_names
        self.pair_sampler: PairedBatchSampler | None = None
        self.blocks, self._rates = split(ready.model, ready.head), {}
        epochs = isinstance(ready.train, PairedDataset)
        self.phases = build_phases(args, ready.model, self.blocks, self.trainable.names, epochs)
        super().__init__(
            model=adapter,
            args=args,
            data_collator=data_collator or ready.collator,
            train_dataset=ready.train,
            eval_dataset=ready.evaluation,
            processing_class=ready.processing_class,
            compute_metrics=compute_metrics or metrics_for(ready.space.task, ready.space.names),
            **kwargs,
        )
        self.label_names = ["labels"]
        self._parts = LossLog(self.accelerator)
        self.add_callback(Clock(self))
        if self.phases is not None:
            check_wrapping(self)
            self.add_callback(Unfreezing(self, self.phases))
        self._progress = ProgressLine(live=not args.disable_tqdm)
        if any(self.pop_callback(stock) is not None for stock in (ProgressCallback, PrinterCallback)):
            self.add_callback(self._progress)

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Joint batches, the same rows in the same updates however they are cut between processes."""
        if not isinstance(self.train_dataset, PairedDataset):
            return super().get_train_dataloader()
        args = self.args
        self.pair_sampler = paired_sampler(self.train_dataset, args, self._train_batch_size)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.pair_sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            in_order=getattr(args, "dataloader_in_order", True),
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of one update, and how many labelled items each would hold if they were spread evenly.

        The task loss divides by that number, so that accumulation and DDP's mean give exactly the mean over all
        labelled items of the update, wherever they fell.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        check_batch(batches[0], collator_name(self.data_collator))
        labels = [b["labels"] for b in batches]
        known = [(~torch.isnan(y).view(len(y), -1).any(1) if y.is_floating_point() else y != IGNORE) for y in labels]
        count = torch.stack([k.sum() for k in known]).sum().to(device, torch.float32)
        if self.args.world_size > 1:
            count = self.accelerator.reduce(count, "sum")
        count = count.clamp_min(1)  # words may vanish in the tokenizer, and all of an update's with them: cost is 0
        return batches, count / (len(batches) * self.args.world_size)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["labels", *self.prepared.processing_class.model_input_names]  # type: ignore[assignment]

    # ---- a step

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The joint loss in training, the model's own in evaluation."""
        check_untouched_batch(inputs, type(self), model.training and self.is_in_train)
        if "domain" not in inputs:
            outputs = model(**inputs)
            loss = without_nothing(outputs["loss"], inputs.get("labels"))
            return (loss, outputs) if return_outputs else loss
        outputs = model(**inputs, num_items=num_items_in_batch)
        if self.args.save_total_limit:
            self._last_inputs = inputs
        self._parts.add(outputs["losses"], outputs["extent"])
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds every part under its own name, averaged since the last log; one device sync a log, none a step.

        Raises:
            FloatingPointError: a part, or the gradient, is not finite.
        """
        values = self._mean_parts() if "loss" in logs or "train_loss" in logs else {}
        if "loss" in logs:
            logs |= {f"{name}_loss": value for name, value in values.items()}
            logs |= self.logged_rates()
        super().log(logs, start_time)
        self._parts.check(values, self.state.global_step, self._advice)
        if "grad_norm" in logs:
            self._check_norm(logs["grad_norm"])
        if values:
            self._followed()
            self._parts.clear()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A run that broke since the last log stops here instead of saving."""
        self._check_parts()
        self._check_norm()
        average_statistics(self.model)
        with stage("saving a checkpoint"):
            super()._save_checkpoint(model, trial)

    def _check_parts(self) -> None:
        self._parts.check(self._mean_parts(), self.state.global_step, self._advice)

    def _mean_parts(self) -> dict[str, float]:
        return self._parts.mean(self.accelerator.unwrap_model(self.model, keep_torch_compile=False).loss_names)

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in `Trainer`.

        Args:
            resume_from_checkpoint: the folder of a checkpoint, as a string or a path; `True` for the last one of the
                output folder; `False` for none. The config's when `None`.
            **kwargs: as in `Trainer`.

        Raises:
            FileExistsError: the output folder holds another run, and neither `resume_from_checkpoint` nor
                `overwrite_output_dir` says what to do with it; or it holds files of somebody else's that would be
                replaced.
            FileNotFoundError: there is no such checkpoint.
            FolderInUse: another run writes to it.
            ValueError: the checkpoint is not whole, or was made with other settings.
            FloatingPointError: the loss, the gradient or the weights are not finite.
        """
        wanted = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        with self._in_output_folder(wanted) as checkpoint:
            if checkpoint is None:  # what was learned then is in the checkpoint
                fit_objectives(
                    self.accelerator.unwrap_model(self.model, keep_torch_compile=False), self.prepared, self.args
                )
            doing = stage(lambda: f"training, step {self.state.global_step + 1}")
            with doing, self._without_a_false_word(), self._progress.closing():
                output = super().train(resume_from_checkpoint=checkpoint, **kwargs)
        for name in self._parts.always_zero if self.is_world_process_zero() else ():
            logger.warning("%s was 0 in every step and asked nothing of the model. Lower its threshold, if any.", name)
        if self.args.label_shift_task == "bias":
            correct_bias(self.accelerator.unwrap_model(self.model, keep_torch_compile=False))
        if self.args.adabn:
            adapt_to_target(self)
        else:
            average_statistics(self.model)
        return output

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As in `Trainer`, which takes one step too many when a run that had reached its last one is resumed."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)
