"""`AdaptationTrainer`: transformers' `Trainer` on one joint module and one paired dataset."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback

from ..data.pairing import PairedDataset
from ..models.atomic_folder import check_access
from ..models.batch_norm_statistics import average_statistics
from ..models.parameter_blocks import split_into_blocks
from ..stages import stage
from .callbacks import Clock, Unfreezing, WeightAveraging
from .config import AdaptationConfig
from .label_shift_verdict import judge_label_shift
from .metrics import metrics_for, zero_without_labels
from .saving_trainer import SavingTrainer
from .setup.batch_norm_setting import adapt_to_target
from .setup.collated_batch_check import (
    check_batch,
    check_collator,
    check_untouched_batch,
    collator_name,
    count_labelled,
)
from .setup.constructor_check import check_arguments, check_prepared, check_settings
from .setup.label_shift import correct_bias
from .setup.metric_choice_check import check_evaluation
from .setup.model_assembly import build_joint_model
from .setup.model_init import initial_model
from .setup.optimizer_check import check_passed_optimizer
from .setup.preparation import prepare
from .setup.sampling import paired_loader, paired_sampler
from .setup.unfreezing import build_phases, check_wrapping
from .teachers.objective_fitting import fit_objectives
from .trainer_access import joint_model_of

if TYPE_CHECKING:
    from optuna import Trial
    from peft import PeftConfig
    from transformers import EvalPrediction, TrainerCallback
    from transformers.trainer_utils import TrainOutput

    from .argument_types import Domains, Model, Processing, Rows

logger = logging.getLogger(__name__)


class AdaptationTrainer(SavingTrainer):
    """Trainer of a model on labelled sources and an unlabelled target.

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
        data_collator: yours instead of ours; see `trainer.prepared.collator`.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        model_init: instead of `model`, a function that returns a new one; `hyperparameter_search` calls it for each
            trial, with the trial if it takes an argument.
        callbacks, optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics: as in `Trainer`.
        **kwargs: of `Trainer`, as far as they have an effect here; any other is refused.

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

    loss_is_scaled_for_ga = False  # our loss is a mean over the update's items; see get_batch_samples

    def __init__(
        self,
        model: Model | None = None,
        args: AdaptationConfig | None = None,
        train_dataset: Domains | None = None,
        target_dataset: Rows | None = None,
        eval_dataset: Domains | None = None,
        processing_class: Processing | None = None,
        peft_config: PeftConfig | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        model_kwargs: dict[str, Any] | None = None,
        model_init: Callable[..., Model] | None = None,
        callbacks: list[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(args, AdaptationConfig):
            raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
        if not os.path.isdir(str(args.output_dir)):
            check_access(Path(str(args.output_dir)))
        check_settings(args)
        stock_arguments = {  # those that go on to `Trainer`
            "callbacks": callbacks,
            "optimizers": optimizers,
            "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs,
            "preprocess_logits_for_metrics": preprocess_logits_for_metrics,
            **kwargs,
        }
        functions = {"compute_metrics": compute_metrics, "data_collator": data_collator, "model_init": model_init}
        check_arguments(type(self), {**functions, **stock_arguments})
        check_evaluation(args, eval_dataset, callbacks)
        self.constructor_arguments = {
            "model": model,
            "train_dataset": train_dataset,
            "target_dataset": target_dataset,
            "eval_dataset": eval_dataset,
            "processing_class": processing_class,
            "peft_config": copy.copy(peft_config),
            "model_kwargs": model_kwargs,
            **functions,
            **stock_arguments,
        }

        user_model = initial_model(model, model_init)
        torch.manual_seed(args.seed)  # new heads and discriminators are drawn here, the same on every process
        prepared = self.prepared = prepare(
            user_model,
            args,
            train_dataset,
            target_dataset,
            eval_dataset,
            processing_class,
            peft_config,
            model_kwargs,
        )
        check_prepared(args, prepared, compute_metrics, preprocess_logits_for_metrics)
        self.label_space, self.trainable = prepared.label_space, prepared.trainable
        self.source_names = prepared.source_names

        joint = build_joint_model(args, prepared)
        self.passed_optimizer = check_passed_optimizer(optimizers, optimizer_cls_and_kwargs, joint, args)
        check_collator(data_collator, prepared)
        if args.recomputes_activations and hasattr(prepared.model, "peft_config"):
            prepared.model.enable_input_require_grads()
        self.blocks = split_into_blocks(prepared.model, prepared.head)
        counts_epochs = isinstance(prepared.train, PairedDataset)
        self.phases = build_phases(args, prepared.model, self.blocks, self.trainable.names, counts_epochs)

        super().__init__(
            model=joint,
            args=args,
            data_collator=data_collator or prepared.collator,
            train_dataset=prepared.train,
            eval_dataset=prepared.evaluation,
            processing_class=prepared.processing_class,
            compute_metrics=compute_metrics or metrics_for(prepared.label_space.task, prepared.label_space.names),
            **stock_arguments,
        )
        self.label_names = ["labels"]
        self._add_collaborators(self.blocks, self.phases)
        self._add_callbacks()

    def _add_callbacks(self) -> None:
        self.add_callback(Clock(self))
        self.add_callback(self.run_watch)
        if self.model.weight_average is not None:
            self.add_callback(WeightAveraging(self))
        if self.phases is not None:
            check_wrapping(self)
            self.add_callback(Unfreezing(self, self.phases))
        if any(self.pop_callback(stock) is not None for stock in (ProgressCallback, PrinterCallback)):
            self.add_callback(self.progress_line)

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Loader of joint batches: source and target rows, the same in each update for any number of processes."""
        if not isinstance(self.train_dataset, PairedDataset):
            return super().get_train_dataloader()
        self.pair_sampler = paired_sampler(self.train_dataset, self.args, self._train_batch_size)
        loader = paired_loader(self.train_dataset, self.pair_sampler, self.data_collator, self.args)
        return self.accelerator.prepare(loader)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """Micro-batches of one update, and the number of labelled items in each if they were spread evenly.

        The task loss divides by that number, so that accumulation and DDP's mean give exactly the mean over all
        labelled items of the update, wherever they fell.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        check_batch(batches[0], collator_name(self.data_collator))
        count = count_labelled(batches).to(device, torch.float32)
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
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Joint loss of a training batch; in evaluation the model's own loss."""
        check_untouched_batch(inputs, type(self), model.training and self.is_in_train)
        if "domain" not in inputs:  # evaluation
            outputs = model(**inputs)
            loss = zero_without_labels(outputs["loss"], inputs.get("labels"))
            return (loss, outputs) if return_outputs else loss
        outputs = model(**inputs, num_items=num_items_in_batch)  # see JointModel.forward
        self.loss_log.add(outputs["losses"], outputs["largest_values"])
        self.run_watch.add(outputs["logits"], inputs)
        if self.args.save_total_limit:  # the last checkpoint is tried on these before an older one is removed
            self.finite_guard.last_inputs = inputs
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    # ---- a run

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """As in `BaseTrainer`; what frozen layers give is stored, if the settings ask for it."""
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.frozen_layer_cache.fill()  # a checkpoint's weights are loaded by now
        return prepared

    def train(
        self,
        resume_from_checkpoint: str | os.PathLike[str] | bool | None = None,
        trial: Trial | dict[str, Any] | None = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As in `Trainer`.

        Args:
            resume_from_checkpoint: the folder of a checkpoint, as a string or a path; `True` for the last one of the
                output folder; `False` for none. The config's when `None`.
            trial, ignore_keys_for_eval: as in `Trainer`.

        Raises:
            FileExistsError: the output folder holds another run, and neither `resume_from_checkpoint` nor
                `overwrite_output_dir` says what to do with it; or it holds files of somebody else's that would be
                replaced.
            FileNotFoundError: there is no such checkpoint.
            FolderInUse: another run writes to it.
            ValueError: the checkpoint is not whole, or was made with other settings.
            FloatingPointError: the loss, the gradient or the weights are not finite.
        """
        resume = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        with self.run_folder.training(resume) as checkpoint:
            self.finite_guard.start(checkpoint)
            self.run_watch.start(checkpoint)
            if checkpoint is None:  # what was learned then is in the checkpoint
                fit_objectives(joint_model_of(self), self.prepared, self.args)
            training = stage(lambda: f"training, step {self.state.global_step + 1}")
            with training, self.checkpoint_reader.without_false_best_warning(), self.progress_line.closing():
                try:
                    output = super().train(checkpoint, trial, ignore_keys_for_eval)
                finally:
                    self.frozen_layer_cache.clear()
        for name in self.loss_log.always_zero if self.is_world_process_zero() else ():
            if name == "task" and not self.source_names:
                continue  # it reads labelled rows alone
            logger.warning("%s was 0 in every step and asked nothing of the model. Lower its threshold, if any.", name)
        average = joint_model_of(self).weight_average
        if average is not None and average.keeps_teacher:
            average.write_to(joint_model_of(self).model)
        self.label_shift_verdict = judge_label_shift(self)
        if self.args.label_shift_task == "bias":
            correct_bias(joint_model_of(self))
        if self.args.adabn:
            adapt_to_target(self)
        else:
            average_statistics(self.model)
        return output

    # ---- saving

    def _check_before_checkpoint(self) -> None:
        """As in `SavingTrainer`; what went wrong so far is named, too."""
        super()._check_before_checkpoint()
        self.run_watch.read()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """As in `SavingTrainer`; a checkpoint also holds what the watch has counted."""
        super()._save(output_dir, state_dict)
        if self.checkpoint_writer.staging is not None and self.args.should_save:
            self.run_watch.write(Path(str(output_dir or self.args.output_dir)))
