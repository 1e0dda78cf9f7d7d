"""`BaseTrainer`: transformers' `Trainer` with collaborators for evaluation, optimizer, saving, Hub and search.

Each method says what is done around `Trainer`'s own; the work is in the collaborators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import BestRun, EvalLoopOutput, PredictionOutput

from ..models.batch_norm_statistics import average_statistics
from ..stages import stage
from .config import AdaptationConfig
from .evaluation import Evaluator
from .frozen_layer_cache import FrozenLayerCache
from .hub.push import HubPublisher
from .hub.run_card import ModelCard
from .hyperparameter_search import HyperparameterSearch
from .optimizer import OptimizerBuilder, without_norms
from .progress_line import ProgressLine
from .run_watch import RunWatch
from .saving.checkpoint_loading import CheckpointReader
from .saving.checkpoint_writing import CheckpointWriter
from .saving.finite_guard import FiniteGuard
from .saving.run_folder import RunFolder
from .setup.learning_rate_schedule import SLANTED
from .setup.preparation import Prepared
from .step.loss_log import LossLog

if TYPE_CHECKING:
    from optuna import Trial

    from ..data.pairing import PairedBatchSampler
    from ..models.parameter_blocks import Block
    from .argument_types import Domains, Rows
    from .label_shift_verdict import LabelShiftVerdict
    from .setup.unfreezing import Phases


class BaseTrainer(Trainer):
    """`Trainer` whose model is a `JointModel`: evaluation, optimizer, schedule and hyperparameter search.

    Attributes:
        prepared: data, labels, model and head of the run.
        constructor_arguments: what the trainer was made with, by name.
        pair_sampler: of the training batches, once their loader is made; a stream has none.
        loss_log: task loss and objectives since the last log.
        run_watch: what went wrong in training, as it began.
        label_shift_verdict: after training with `label_shift`, whether its class weights are to be trusted.
        run_folder, finite_guard, checkpoint_reader, checkpoint_writer, evaluator, optimizer_builder, model_card,
            hub_publisher, frozen_layer_cache: the collaborators.
    """

    args: AdaptationConfig
    model: Any
    hub_model_id: str | None  # type: ignore[assignment]  # annotated as None
    prepared: Prepared
    constructor_arguments: dict[str, Any]
    pair_sampler: PairedBatchSampler | None = None
    label_shift_verdict: LabelShiftVerdict | None = None

    def _add_collaborators(self, blocks: list[Block], phases: Phases | None) -> None:
        """Collaborators of the trainer, made once `Trainer` itself is."""
        self.loss_log = LossLog(self.accelerator)
        self.run_folder = RunFolder(self, self.prepared)
        self.finite_guard = FiniteGuard(self, self.run_folder, self.loss_log)
        self.checkpoint_reader = CheckpointReader(self, self.finite_guard)
        self.checkpoint_writer = CheckpointWriter(self, self.prepared, self.run_folder, self.finite_guard)
        self.evaluator = Evaluator(self, self.prepared)
        self.optimizer_builder = OptimizerBuilder(self, blocks, phases)
        self.frozen_layer_cache = FrozenLayerCache(self, self.prepared)
        self.model_card = ModelCard(self, self.prepared)
        self.hub_publisher = HubPublisher(self, self.model_card)
        self.run_watch = RunWatch(self)
        self.progress_line = ProgressLine(live=not self.args.disable_tqdm)

    # ---- evaluation

    def evaluate(
        self,
        eval_dataset: Domains | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """As in `Trainer`; the name of one of the trainer's evaluation sets stays in the names of its metrics.

        Args:
            eval_dataset: rows, a dict of columns or of sets by name, or the name of an evaluation set; all of them
                when `None`.
            ignore_keys: of the model's outputs.
            metric_key_prefix: what the metrics' names start with.

        Raises:
            ValueError: there is no evaluation set of that name.

        Example:
            >>> 0 <= trainer.evaluate("source")["eval_source_accuracy"] <= 1
            True
        """
        dataset, prefix = self.evaluator.data_and_prefix(eval_dataset, metric_key_prefix)
        with self.evaluator.hidden_from_early_stopping(prefix), self.evaluator.scoring_selection(dataset):
            return super().evaluate(dataset, ignore_keys, prefix)

    def predict(
        self, test_dataset: Rows | str, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """As in `Trainer`; takes the name of one of the trainer's evaluation sets, too.

        Raises:
            ValueError: there is no evaluation set of that name.
        """
        dataset: Any = test_dataset
        if isinstance(test_dataset, str):
            metric_key_prefix = f"{metric_key_prefix}_{test_dataset}"
            dataset = self.evaluator.named_set(test_dataset)
        return super().predict(dataset, ignore_keys, metric_key_prefix)

    def get_eval_dataloader(self, eval_dataset: Rows | str | None = None) -> DataLoader:
        """As in `Trainer`; raw datasets are encoded first."""
        dataset: Any = eval_dataset
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            dataset = self.prepared.encode_evaluation(eval_dataset, "eval_dataset")
        return super().get_eval_dataloader(dataset)

    def get_test_dataloader(self, test_dataset: Rows) -> DataLoader:
        """As in `Trainer`; raw datasets are encoded first."""
        return super().get_test_dataloader(self.prepared.encode_evaluation(test_dataset, "test_dataset"))

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As in `Trainer`; a tagger's logits are -100 where no word begins, as they are in the padding of batches."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        return loss, *self.evaluator.mask_words(inputs, logits, labels)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in `Trainer`, with `oracle_…` in the names of metrics that read target labels, and label-free metrics."""
        average_statistics(self.model)
        self.evaluator.check_ignored(ignore_keys, prediction_loss_only)
        with stage("evaluating"), self.progress_line.closing(), self.evaluator.checking_metrics():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        return self.evaluator.named_metrics(output, metric_key_prefix)

    # ---- optimizer and schedule

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """As in `Trainer`, but no norm decays."""
        return without_norms(super().get_decay_parameter_names(model), model)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As in `Trainer`, with named parameter groups: one for each part of the model and each rate."""
        return self.optimizer_builder.create(model, super().create_optimizer)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """As in `Trainer`, which does not know `slanted_triangular`."""
        if self.lr_scheduler is not None or self.args.lr_scheduler_type != SLANTED:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = self.optimizer_builder.slanted_schedule(num_training_steps, optimizer)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`; the optimizer holds everything that trains, whoever made it."""
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.optimizer_builder.check()
        return prepared

    def _get_learning_rate(self) -> float:
        """As in `Trainer`, which asks after a step and before the schedule moves on."""
        self.optimizer_builder.keep_rates()
        return super()._get_learning_rate()

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """As in `Trainer`; kept, and looked at when something is logged or saved."""
        self.finite_guard.grad_norm = super()._get_grad_norm(model, grad_norm)
        return self.finite_guard.grad_norm

    # ---- hyperparameter search

    def hyperparameter_search(
        self,
        hp_space: Callable[[Trial], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: str | None = None,
        hp_name: Callable[[Trial], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Hyperparameter search: a new trainer is trained and scored for each trial; this trainer stays as it is.

        Args:
            hp_space: of an optuna trial, the settings to try: fields of the config, and `objectives.<name>.<setting>`.
                When `None`, the learning rates and what the objectives' `search` says.
            compute_objective: of the metrics of all evaluation sets, what to optimise; it sees none that reads target
                labels unless `allow_oracle_selection` is on. When `None`, the config's `metric_for_best_model`, else
                the target's `information`, which needs no label, else a metric of the source.
            n_trials: how many.
            direction: `"maximize"` or `"minimize"`; needed with `compute_objective`, a list where it gives several.
            backend: `"optuna"`, the only one.
            hp_name: of a trial, the run's name in reports.
            **kwargs: optuna's `storage`, `sampler`, `pruner`, `study_name`, `load_if_exists`, `timeout` and `catch`.

        Returns:
            transformers' `BestRun`, whose `hyperparameters` go into `config.with_hyperparameters(…)`; a list of them
            for several aims. Each trial has a folder of its own, `run-<id>` in the output folder, with its settings
            and score in `trial.json`.

        Raises:
            ImportError: optuna is not installed.
            ValueError: a loaded model without `model_init`, no evaluation sets, a setting that there is not, an aim
                that reads target labels, or no trial that came to an end.

        Example:
            >>> best = trainer.hyperparameter_search(n_trials=10)  # doctest: +SKIP
            >>> config = trainer.args.with_hyperparameters(best.hyperparameters)  # doctest: +SKIP
        """
        search = HyperparameterSearch(self, self.prepared, self.constructor_arguments)
        search.check(hp_space, n_trials, backend, kwargs)
        return search.run(hp_space, search.find_aim(compute_objective, direction), n_trials, hp_name, kwargs)
