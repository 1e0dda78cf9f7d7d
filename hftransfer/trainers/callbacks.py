"""Trainer callbacks: training progress for schedules and sampler, averages of weights, gradual unfreezing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from transformers import TrainerCallback

from .setup.unfreezing import Phases
from .trainer_access import RunningTrainer, joint_model_of

logger = logging.getLogger(__name__)


class Clock(TrainerCallback):
    """Training progress, told to the schedules, and the epoch, told to the sampler."""

    def __init__(self, trainer: RunningTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sampler = self.trainer.pair_sampler
        if sampler is not None:
            sampler.set_epoch(state.global_step // sampler.updates)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        joint_model_of(self.trainer).progress.fill_(min(1.0, state.global_step / max(1, state.max_steps)))


class WeightAveraging(TrainerCallback):
    """Moving average of the weights, moved on after each update and before a checkpoint is saved."""

    def __init__(self, trainer: RunningTrainer):
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        joint = joint_model_of(self.trainer)
        if joint.weight_average is not None:
            joint.weight_average.update(joint.model)


class AverageWithStart(TrainerCallback):
    r"""Weights after training, averaged with those before it: \(\theta = \alpha\theta_1 + (1-\alpha)\theta_0\).

    Half of each keeps most of what few rows teach, and takes back much of what they spoil elsewhere. Floating-point
    buffers, such as batch norm's statistics, are averaged, too.

    Args:
        trainer: before it trains or loads a checkpoint; its weights are copied.
        alpha: share of the trained weights.

    Paper: Wortsman et al., Robust Fine-Tuning of Zero-Shot Models (WiSE-FT), CVPR 2022; its default is 0.5.
    """

    def __init__(self, trainer: RunningTrainer, alpha: float = 0.5):
        self.trainer, self.alpha = trainer, alpha
        self.start = {name: tensor.detach().clone() for name, tensor in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        model = joint_model_of(self.trainer).model
        yield from ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        yield from ((name, b) for name, b in model.named_buffers() if b.is_floating_point())

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.average()

    @torch.no_grad()
    def average(self) -> None:
        """Average the weights of the trainer's model with those of the start, in place."""
        for name, tensor in self._tensors():
            start = self.start[name].to(tensor.device)
            tensor.copy_(start + self.alpha * (tensor - start))


class Unfreezing(TrainerCallback):
    """Gradual unfreezing: the stage is set before each update."""

    def __init__(self, trainer: RunningTrainer, phases: Phases):
        self.trainer, self.phases = trainer, phases

    def _set(self, update: int) -> None:
        stage, stage_before = self.phases.stage_at(update, self._per_epoch()), self.phases.stage
        self.phases.set_stage(joint_model_of(self.trainer), stage)
        if stage_before is not None and stage != stage_before:
            names = ", ".join(name for name, _ in self.phases.added[stage_before + 1 : stage + 1])
            logger.info("Update %d: %s trains from now on.", update, names)

    def _per_epoch(self) -> int | None:
        sampler = self.trainer.pair_sampler
        return None if sampler is None else sampler.updates

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = self.phases.stage_at(state.max_steps - 1, self._per_epoch())
        never_trained = [name for name, _ in self.phases.added[last + 1 :]]
        if never_trained:
            message = f"The run ends after {state.max_steps} updates, before {', '.join(never_trained)} would train"
            if args.lp_epochs:
                raise ValueError(f"{message}: lower lp_epochs={args.lp_epochs:g}, or use trainable='head'.")
            logger.warning("%s.", message)
        self._set(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._set(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Everything that will ever train is unfrozen for what comes next."""
        self.phases.thaw(joint_model_of(self.trainer))
