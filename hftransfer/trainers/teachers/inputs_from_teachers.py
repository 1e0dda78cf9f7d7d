"""Teacher inputs of objectives: which are asked for, and of which rows."""

from __future__ import annotations

from collections.abc import Iterable

from ...objectives.specification import ObjectiveSpec

MADE_BY_TEACHERS = ("teacher_", "layer_pairs", "attention_pairs")  # beginnings of their names


def teacher_inputs(specs: Iterable[ObjectiveSpec]) -> set[str]:
    """Inputs of the objectives' `forward` that teachers make."""
    return _made_by_teachers(name for spec in specs for name in spec.cls.reads(spec.settings).values())


def teacher_fit_inputs(specs: Iterable[ObjectiveSpec]) -> set[str]:
    """Inputs of the objectives' `fit`, before training, that teachers make."""
    return _made_by_teachers(name for spec in specs for name in spec.cls.fit_inputs(spec.settings))


def teacher_rows(inputs: Iterable[str]) -> str:
    """The rows that teachers run on at each step, `"source"`, `"target"` or `"all"`; nothing without such inputs."""
    domains = {"source" if "_source_" in n else "target" if "_target_" in n else "all" for n in inputs}
    return domains.pop() if len(domains) == 1 else "all" if domains else ""


def _made_by_teachers(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith(MADE_BY_TEACHERS)}
