"""Objectives and sources that do not go with the task or with each other, checked before anything is built."""

from __future__ import annotations

import re

from ...data.labels import LabelSpace
from ...messages import nearest
from ...objectives.specification import ObjectiveSpec
from ..config import AdaptationConfig

CLASSES = re.compile("logits|labels|rerun")  # inputs that only classes have


def check_task(specs: list[ObjectiveSpec], space: LabelSpace) -> None:
    """Raises a `ValueError` for objectives that read classes where rows have none, or several."""
    reading = []
    for spec in specs:
        cls = spec.cls
        needs = [*spec.reads().values(), *cls.learns(spec.settings)]
        able = cls.several_labels and space.task == "multi-label-classification"
        if spec.weight and not able and any(CLASSES.search(need) for need in needs):
            reading.append(spec.name)
    if reading and space.is_float:
        raise ValueError(
            f"{', '.join(reading)} on {space.task}: objectives that read class predictions need one label a row. "
            "Those that read features alone work here: mmd, coral, dann …"
        )


def source_weights(args: AdaptationConfig, names: tuple[str, ...]) -> list[float]:
    """By source, in order; nothing if all count 1.

    Raises:
        ValueError: a weight for a source that there is not, or no source that counts.
    """
    given = args.source_weight_map()
    for name in given:
        if name not in names:
            raise ValueError(
                f"source_weights names {name!r}; the sources are {', '.join(names)}.{nearest(name, names)}"
            )
    weights = [given.get(name, 1.0) for name in names]
    if not any(weights):
        raise ValueError("source_weights leaves no source that counts: give one of them a weight above 0.")
    return weights if given else []
