"""The setting `rows`: objectives on all rows of a batch, or on those of one domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

from ..base import Objective

Rows = Literal["all", "source", "target"]


def check_rows(rows: Any) -> None:
    """Check that a value is one of `Rows`. Raises a `ValueError`."""
    if rows not in get_args(Rows):
        raise ValueError(
            f"rows={rows!r} must be 'all' (source rows and, if there is one, the target's), 'source' or 'target'."
        )


def inputs_of_rows(cls: type[Objective], settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Map from arguments such as `logits` and `teacher_logits` to inputs, by the setting `rows`."""
    rows = setting_or_default(cls, settings, "rows")
    check_rows(rows)
    prefix = "" if rows == "all" else f"{rows}_"
    return {
        name: f"teacher_{prefix}{name.removeprefix('teacher_')}" if name.startswith("teacher_") else f"{prefix}{name}"
        for name in names
    }


def setting_or_default(cls: type[Objective], settings: Mapping[str, Any], name: str) -> Any:
    """A setting's value, or its default."""
    return settings.get(name, cls.settings()[name].default)


def softened_divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Distillation loss, (r, K) logits twice -> (): the mean of \(\mathrm{KL}(\sigma(z^T/T) \Vert \sigma(z/T))\) over
    rows."""
    teacher_log_p = (teacher / temperature).log_softmax(-1)
    return F.kl_div((student / temperature).log_softmax(-1), teacher_log_p, reduction="batchmean", log_target=True)
