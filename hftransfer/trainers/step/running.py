"""A trainer as callbacks and setup see it, and the joint module that it trains."""

from __future__ import annotations

from typing import Any, Protocol

from ...data.pairing import PairedBatchSampler
from .joint_model import JointModel


class RunningTrainer(Protocol):
    """What may be asked of a trainer without importing `AdaptationTrainer`, which imports those who ask."""

    accelerator: Any
    model: Any
    pair_sampler: PairedBatchSampler | None
    is_deepspeed_enabled: bool


def joint_model_of(trainer: Any) -> JointModel:
    """The joint module of a trainer, out of whatever DDP, FSDP or `torch.compile` have wrapped around it."""
    model: JointModel = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    return model
