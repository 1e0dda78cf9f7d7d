"""What schedules and sampler hear beside the step: how far the run is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from .trainer import AdaptationTrainer


class Clock(TrainerCallback):
    """Tells the schedules how far the run is, and the sampler which epoch it is."""

    def __init__(self, trainer: AdaptationTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sampler = self.trainer.pair_sampler
        if sampler is not None:
            sampler.set_epoch(state.global_step // sampler.updates)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        adapter = self.trainer.accelerator.unwrap_model(self.trainer.model, keep_torch_compile=False)
        adapter.progress.fill_(min(1.0, state.global_step / max(1, state.max_steps)))
