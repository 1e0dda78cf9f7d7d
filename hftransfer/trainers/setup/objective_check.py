"""Check that objectives go with the task, before anything is built."""

from __future__ import annotations

import re

from ...data.label_space import LabelSpace
from ...objectives.specification import ObjectiveSpec

CLASSES = re.compile("logits|labels|perturbed")  # inputs that only classes have


def check_task(specs: list[ObjectiveSpec], label_space: LabelSpace) -> None:
    """Check that rows have the one class each that objectives read; raises `ValueError`."""
    reading = []
    for spec in specs:
        cls = spec.cls
        needs = [*spec.reads().values(), *cls.fit_inputs(spec.settings)]
        able = cls.several_labels and label_space.task == "multi-label-classification"
        if spec.weight and not able and any(CLASSES.search(need) for need in needs):
            reading.append(spec.name)
    if reading and label_space.is_float:
        raise ValueError(
            f"{', '.join(reading)} on {label_space.task}: objectives that read class predictions need one label a "
            "row. Those that read features alone work here: mmd, coral, dann …"
        )
