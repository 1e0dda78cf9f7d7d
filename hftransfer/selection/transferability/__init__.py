"""Transferability scores: how well a frozen checkpoint suits a task, before anything is trained; by name."""

from __future__ import annotations

from ...messages import nearest
from .a_distance import ADistance
from .gbc import GBC
from .h_score import HScore
from .labelled_features import LabelledFeatures
from .leep import LEEP
from .linear_probe import LinearProbe
from .logme import LogME
from .nce import NCE
from .nearest_neighbours import NearestNeighbours
from .parc import PARC
from .transferability_score import TransferabilityScore
from .transrate import TransRate

__all__ = ["TRANSFERABILITY", "LabelledFeatures", "TransferabilityScore", "get_transferability"]

TRANSFERABILITY: dict[str, type[TransferabilityScore]] = {
    cls.name: cls
    for cls in (LinearProbe, NearestNeighbours, LogME, HScore, TransRate, GBC, PARC, LEEP, NCE, ADistance)
}


def get_transferability(name: str) -> TransferabilityScore:
    """A transferability score by name, with its default settings.

    Raises:
        ValueError: there is none of that name; the nearest is offered.

    Example:
        >>> get_transferability("logme").needs()
        ('features', 'classes')
    """
    if name not in TRANSFERABILITY:
        raise ValueError(
            f"There is no transferability score {name!r}; there is {', '.join(TRANSFERABILITY)}."
            f"{nearest(name, TRANSFERABILITY)}"
        )
    return TRANSFERABILITY[name]()
