"""`PretrainingTrainer`: transformers' `Trainer` for what is masked, with the saving that all trainers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback
from transformers.trainer_utils import TrainOutput

from ..data.pairing import PairedBatchSampler, PairedDataset
from ..models.adapters import is_peft, plain_model
from ..models.parameter_blocks import split_into_blocks
from ..stages import stage
from ..trainers.optimizer import OptimizerBuilder
from ..trainers.progress_line import ProgressLine
from ..trainers.saving.checkpoint_loading import CheckpointReader
from ..trainers.saving.checkpoint_writing import CheckpointWriter
from ..trainers.saving.finite_guard import FiniteGuard
from ..trainers.saving.run_folder import RunFolder
from ..trainers.saving.run_settings import describe_adapters, describe_model, describe_optimizer, describe_trainable
from ..trainers.saving_trainer import SavingTrainer
from ..trainers.setup.sampling import paired_loader
from ..trainers.step.loss_log import LossLog
from .held_out_scores import held_out_scores
from .pretraining_config import PretrainingConfig
from .pretraining_kind import IMAGE_SETTINGS
from .pretraining_run import PreparedPretraining

MASKING = (
    "mask_probability",
    "mask_hidden_share",
    "mask_random_share",
    "target_word_bias",
    "sentence_anchor",
    "sentence_contrast",
    "contrast_temperature",
    "sentence_denoising",
    "deleted_share",
    "denoising_layers",
    "balance_domains",
    *IMAGE_SETTINGS,
)


class PretrainingFolder(RunFolder):
    """Output folder of a pre-training, whose checkpoints say how rows were masked."""

    def describe_run(self) -> dict[str, Any]:
        prepared: Any = self.prepared
        args, model = self.trainer.args, prepared.joint.model
        return {
            "start": prepared.start,
            "model": describe_model(model),
            "adapter": describe_adapters(model),
            "masking": {name: getattr(args, name) for name in MASKING}
            | {"seed": args.seed, "packed": prepared.joint.attention is not None, **prepared.masking},
            "trainable": describe_trainable(prepared.trainable),
            "optimizer": describe_optimizer(args),
        }


class PretrainingWriter(CheckpointWriter):
    """Writer of models that predict what is masked."""

    def _describe(self, model: Any) -> None:
        prepared: Any = self.prepared
        plain_model(model).config.hftransfer = {
            "pretraining": {
                prepared.kind.inputs: list(prepared.domain_names),
                **prepared.masking,
                "trainable": prepared.trainable.choice,
            }
        }

    def _write_labels(self, folder: Path) -> None:
        """Nothing: there are no labels."""


class PretrainingTrainer(SavingTrainer):
    """Trainer of a `WrappedModel` on masked rows.

    Args:
        prepared: from `prepare_pretraining`.
        args: the run's settings.
    """

    loss_is_scaled_for_ga = False  # our losses are means over the update's items; see get_batch_samples

    def __init__(self, prepared: PreparedPretraining, args: PretrainingConfig):
        self.prepared = prepared  # type: ignore[assignment]
        self.passed_optimizer = None
        if args.recomputes_activations and is_peft(prepared.joint.model):
            prepared.joint.model.enable_input_require_grads()
        super().__init__(
            model=prepared.joint,
            args=args,
            data_collator=prepared.collator,
            train_dataset=prepared.train,
            eval_dataset=prepared.held_out or None,
            processing_class=prepared.processing_class,
        )
        self.label_names = ["labels"]
        self._add_collaborators(split_into_blocks(prepared.joint.model, prepared.head), None)
        if any(self.pop_callback(stock) is not None for stock in (ProgressCallback, PrinterCallback)):
            self.add_callback(self.progress_line)

    def _add_collaborators(self, blocks: Any, phases: Any) -> None:
        prepared: Any = self.prepared
        self.loss_log = LossLog(self.accelerator, prepared.joint.value_names)
        self.run_folder = PretrainingFolder(self, prepared)
        self.finite_guard = FiniteGuard(self, self.run_folder, self.loss_log)
        self.checkpoint_reader = CheckpointReader(self, self.finite_guard)
        self.checkpoint_writer = PretrainingWriter(self, prepared, self.run_folder, self.finite_guard)
        self.optimizer_builder = OptimizerBuilder(self, blocks, phases)
        self.progress_line = ProgressLine(live=not self.args.disable_tqdm)

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Loader of masked batches, the same rows in each update for any number of processes."""
        if not isinstance(self.train_dataset, PairedDataset):
            return super().get_train_dataloader()
        args: Any = self.args
        self.pair_sampler = PairedBatchSampler(
            self.train_dataset,
            self._train_batch_size or args.per_device_train_batch_size,
            chunks=args.world_size * args.gradient_accumulation_steps,
            balanced=args.balance_domains,
            group_by_length=self.model.attention is None,
            drop_last=args.dataloader_drop_last,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )
        return self.accelerator.prepare(paired_loader(self.train_dataset, self.pair_sampler, self.data_collator, args))

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """Micro-batches of one update, and the items that each would count if they were spread evenly."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        items = [self.prepared.joint.count_items(batch) for batch in batches]  # type: ignore[attr-defined]
        count = torch.tensor(items, dtype=torch.float32, device=device).sum(0)
        if self.args.world_size > 1:
            count = self.accelerator.reduce(count, "sum")
        return batches, count.clamp_min(1) / (len(batches) * self.args.world_size)

    # ---- a step

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Loss at what is masked of a batch, and those of sentences, if any."""
        outputs = model(**inputs, num_items=num_items_in_batch)
        if model.training:
            self.loss_log.add(outputs["losses"], outputs["largest_values"])
            if self.args.save_total_limit:  # the last checkpoint is tried on these before an older one is removed
                self.finite_guard.last_inputs = inputs
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As in `Trainer`, which counts tokens: of what is left of the texts where nothing else is read."""
        renamed = {"input_ids": inputs["left_input_ids"]} if "left_input_ids" in inputs else {}
        return super().floating_point_ops(renamed | inputs)

    # ---- evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Scores of `held_out_scores`, logged; the held-out rows are masked the same way each time."""
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.held_out_scores().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_scores(self) -> dict[str, float]:
        """Scores on the held-out rows, as the function of this name says."""
        prepared: Any = self.prepared
        return self._scores(prepared.held_out)

    def loss_of_a_batch(self) -> float:
        """Loss on the first batch that is trained on, in evaluation mode: of a run that holds no rows out."""
        batch = next(iter(self.get_train_dataloader()))
        return self._scores([batch] * self.args.world_size)["loss"]

    def _scores(self, batches: Any) -> dict[str, float]:
        prepared: Any = self.prepared
        args, add_up = self.args, lambda sums: sums
        if args.world_size > 1:
            add_up = lambda sums: self.accelerator.reduce(sums, "sum")  # noqa: E731
        prepared.joint.to(args.device)
        share = slice(args.process_index, None, args.world_size)
        with stage("evaluating"), self.compute_loss_context_manager():
            measured = (prepared.joint, prepared.kind, batches)
            return held_out_scores(*measured, args.seed, args.device, share, add_up)

    # ---- a run

    def train(
        self, resume_from_checkpoint: Any = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> TrainOutput:
        """As in `AdaptationTrainer`; raises what it raises."""
        resume = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        with self.run_folder.training(resume) as checkpoint:
            self.finite_guard.start(checkpoint)
            training = stage(lambda: f"training, step {self.state.global_step + 1}")
            with training, self.checkpoint_reader.without_false_best_warning(), self.progress_line.closing():
                return super().train(checkpoint, trial, ignore_keys_for_eval)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.pair_sampler is not None:  # of a resumed run, too
            self.pair_sampler.set_epoch(self.state.global_step // self.pair_sampler.updates)
        super()._run_epoch(*args, **kwargs)
