"""Typed access to a trainer: its config, and how its adapter is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .config import AdaptationConfig

if TYPE_CHECKING:
    from transformers import Trainer

    from .setup.preparation import Prepared


def config_of(trainer: Trainer) -> AdaptationConfig:
    """The config of an `AdaptationTrainer`."""
    return cast(AdaptationConfig, trainer.args)


def merges_adapter(trainer: Trainer, prepared: Prepared) -> bool:
    """Whether what is saved beside checkpoints is the adapter merged into a plain model. Left open, it is not where
    weights are sharded: no process holds the whole."""
    asked = config_of(trainer).merge_adapter
    if asked is not None:
        return asked
    return prepared.merge_on_save and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
