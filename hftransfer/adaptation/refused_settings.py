"""Refused settings: those that belong to one candidate, or that a run of candidates cannot follow."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..trainers.config import AdaptationConfig

OF_A_CANDIDATE = "it belongs to one candidate: write it under `training` in a list of candidates, or use finetune"
REFUSED = {
    "objectives": OF_A_CANDIDATE,
    "label_shift": OF_A_CANDIDATE,
    "adabn": OF_A_CANDIDATE,
    "reveal_target_labels": "target labels come by answers to questions here, see ask; or use finetune",
    "allow_oracle_selection": "nothing is chosen by target labels here",
    "resume_from_checkpoint": "the same command goes on by itself where it was stopped",
    "merge_adapter": "what is handed over is a plain model, into which an adapter is merged",
}


def check_run_settings(args: AdaptationConfig) -> None:
    """Check of the settings that all candidates share.

    Raises:
        ValueError: one that belongs to a candidate, or that cannot be followed.
    """
    defaults = {field.name: field.default for field in fields(args)}
    for name, reason in REFUSED.items():
        value = getattr(args, name)
        if value and value != defaults[name]:
            raise ValueError(f"{name} cannot be set for the whole run: {reason}.")
    if args.merge_adapter is False:
        raise ValueError(f"merge_adapter=False cannot be followed: {REFUSED['merge_adapter']}.")
