"""Second view of the target rows: how objectives that compare two views want it made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..settings import read_choice
from .base import is_positive
from .imported_function import resolved_function

View = Literal["strong", "same"]
VIEW_INPUTS = ("target_view_features", "target_view_logits")
CUTOFF = 0.15


@dataclass(frozen=True)
class SecondView:
    """How the second view of target rows is made.

    Args:
        view: `"strong"` (texts: under another dropout mask, with a span of tokens hidden; pictures: strong
        augmentation)
            or `"same"` (as the first view, under another dropout mask or draw of the run's augmentation).
        cutoff: of texts, the share of a row's tokens that is hidden; 0.15 when `None`.
        function: yours, instead: model inputs of the target rows by name -> inputs of the same shapes. What it draws
            from torch's generator is drawn again when a run is resumed.

    Raises:
        ValueError: a setting that cannot be, or that has no effect beside another.

    Example:
        >>> SecondView(cutoff=0.3)
        SecondView(view='strong', cutoff=0.3, function=None)
    """

    view: View = "strong"
    cutoff: float | None = None
    function: Any = None

    def __post_init__(self) -> None:
        read_choice("view", self.view, View)
        if self.cutoff is not None and not (is_positive(self.cutoff) and self.cutoff < 1):
            raise ValueError(f"cutoff={self.cutoff!r} must be between 0 and 1: the share of tokens that is hidden.")
        if self.function is not None:
            resolved_function(self.function)
        if self.cutoff is not None and (self.view == "same" or self.function is not None):
            other = "view='same'" if self.view == "same" else "a function"
            raise ValueError(f"cutoff={self.cutoff} has no effect beside {other}: give one of them.")
        if self.view == "same" and self.function is not None:
            raise ValueError("view='same' and a function both say how views are made: set view='strong' beside yours.")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> SecondView:
        """View that an objective's settings ask for; they may hold others."""
        return cls(**{name: settings[name] for name in ("view", "cutoff", "function") if name in settings})


def reads_second_view(spec: Any) -> bool:
    """Whether an objective of a run, an `ObjectiveSpec`, reads second views."""
    return bool(spec.weight) and any(name in VIEW_INPUTS for name in spec.reads().values())


def second_view_of(specs: Iterable[Any]) -> SecondView | None:
    """Second view that the objectives of a run read, all of them the same; `None` if none does.

    An objective that reads views and does not say how they are made takes those that another asks for.

    Raises:
        ValueError: two objectives want different views.
    """
    reading = [spec for spec in specs if reads_second_view(spec)]
    wanted = {spec.name: spec.cls.second_view(spec.settings) for spec in reading}
    chosen = {name: view for name, view in wanted.items() if view is not None}
    for (first, view), (second, other) in zip(list(chosen.items()), list(chosen.items())[1:], strict=False):
        if view != other:
            raise ValueError(
                f"{first} and {second} want different second views of the target rows, of which a batch has one: give "
                "both the same view, cutoff and function."
            )
    if chosen:
        return next(iter(chosen.values()))
    return SecondView("same") if reading else None
