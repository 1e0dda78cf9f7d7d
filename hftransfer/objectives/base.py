"""What an objective is: a module whose `forward` names what it needs and returns a scalar."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

# What the wrapper can hand to an objective, by argument name. Rows are those of all processes, in fp32:
INPUTS = {
    "source_features": "(n, d) what the final classifier sees, source rows",
    "target_features": "(m, d) the same, target rows",
    "source_logits": "(n, classes)",
    "target_logits": "(m, classes)",
    "source_labels": "(n,) class ids; -100 where a row has none",
    "source_weights": "(n,) what each source row counts: by its class, by its source; a 1 expanded where all count 1",
    "source_domains": "(n,) which source each row is of, from 0",
    "target_view_features": "(m, d) the target rows again, under another dropout mask",
    "target_rerun": "a function: runs this process' target rows again with their embeddings moved, see `Rerun`",
    "strength": "() the schedule's value; an objective that takes it schedules itself",
}

FILLED_IN = ("feature_dim", "num_classes", "num_sources")  # constructor arguments that are not settings


@dataclass(frozen=True)
class Range:
    """Where a sweep may look for a number: between `low` and `high`, evenly or in the logarithm."""

    low: float
    high: float
    log: bool = False


class Rerun(Protocol):
    """Another forward of this process' target rows, without dropout.

    `embeddings` (m, tokens, e), detached, are the rows' input embeddings and `mask` (m, tokens) their tokens that are
    no padding. Called with a shift of the embeddings' shape, or with nothing for `None`, it gives (m, classes) logits;
    in tagging, those of as many words for each row.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor

    def __call__(self, shift: torch.Tensor | None) -> torch.Tensor: ...


class Objective(nn.Module):
    """One extra term of the training loss.

    Subclasses implement `forward` with keyword arguments from `INPUTS` and return a scalar tensor. They may hold
    parameters (a discriminator), which join the optimizer with the objectives' learning-rate multiplier, and
    buffers (a queue, a random projection), which travel with checkpoints. Constructor arguments named `feature_dim`,
    `num_classes` and `num_sources` are filled in; all others are the objective's settings. `search` says where a sweep
    may look for them: a `Range`, or a tuple of choices.
    """

    paper: ClassVar[str] = ""  # shown in the model card
    default_schedule: ClassVar[str | dict[str, Any]] = "constant"
    search: ClassVar[dict[str, Range | tuple[Any, ...]]] = {}

    forward: Callable[..., torch.Tensor]

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Names of the inputs that `forward` asks for.

        Raises:
            TypeError: a name that is not in `INPUTS`.
        """
        names = tuple(name for name in inspect.signature(cls.forward).parameters if name != "self")
        unknown = [name for name in names if name not in INPUTS]
        if unknown:
            raise TypeError(f"{cls.__name__}.forward asks for {unknown[0]!r}; there is only {', '.join(INPUTS)}.")
        return names

    @classmethod
    def settings(cls) -> dict[str, inspect.Parameter]:
        """The constructor's own settings, by name."""
        parameters = inspect.signature(cls.__init__).parameters
        return {n: p for n, p in parameters.items() if n not in ("self", *FILLED_IN)}


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raises a `ValueError` unless a setting is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")


def check_peer(peer: Any) -> None:
    """Raises a `ValueError` unless it is `"tllib"` or nothing."""
    if peer not in (None, "tllib"):
        raise ValueError(f"peer={peer!r} must be 'tllib' or nothing.")


def is_positive(value: Any) -> bool:
    """Whether a setting is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
