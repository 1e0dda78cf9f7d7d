"""Merging of an adapter on save: whether a plain model or the adapter is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..trainer_access import config_of

if TYPE_CHECKING:
    from transformers import Trainer

    from ..setup.preparation import Prepared


def merges_adapter(trainer: Trainer, prepared: Prepared) -> bool:
    """Whether what is saved beside checkpoints is the adapter merged into a plain model.

    As `merge_adapter` says. When that is `None`: as prepared, but never where weights are sharded, since no process
    holds the whole.
    """
    merge_adapter = config_of(trainer).merge_adapter
    if merge_adapter is not None:
        return merge_adapter
    return prepared.merge_on_save and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
