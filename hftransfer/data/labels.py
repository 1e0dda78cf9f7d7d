"""What the labels are: the task, the names in order, and how a raw value becomes what the model's loss takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..messages import nearest

Task = Literal["sequence-classification", "token-classification", "multi-label-classification", "regression"]
TASKS: tuple[Task, ...] = (
    "sequence-classification",
    "token-classification",
    "multi-label-classification",
    "regression",
)
IGNORE = -100  # what every torch loss skips; float tasks use NaN instead, since -100.0 is a legal regression target


@dataclass(frozen=True)
class LabelSpace:
    """The labels of one run, shared by every domain.

    Args:
        task: one of `TASKS`.
        names: the label names in the order of the logits; a single `"score"` for regression.
    """

    task: Task
    names: tuple[str, ...]

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @property
    def is_float(self) -> bool:
        """Whether targets are floats (then "no label" is NaN)."""
        return self.task in ("regression", "multi-label-classification")

    @property
    def missing(self) -> int | float | list[float]:
        """What a row without a label carries (per token in tagging)."""
        if self.task == "multi-label-classification":
            return [math.nan] * len(self.names)
        return math.nan if self.is_float else IGNORE


def column_names(dataset: Any) -> list[str]:
    """Column names of a map-style or streaming dataset (the first row is peeked at when the schema is unknown)."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset)).keys())


def require_column(dataset: Any, column: str, where: str) -> None:
    """Raises `ValueError` naming the dataset, the column and what there is instead."""
    columns = column_names(dataset)
    if column not in columns:
        raise ValueError(
            f"{where} has no column {column!r}; its columns are {', '.join(map(repr, columns))}."
            f"{nearest(column, columns)}"
        )


def declared_names(dataset: Any, column: str) -> tuple[str, ...] | None:
    """Names of a `ClassLabel` (or a list of them), or `None` when the dataset declares none."""
    feature = (dataset.features or {}).get(column)
    feature = getattr(feature, "feature", feature)  # List(ClassLabel)
    names = getattr(feature, "names", None)
    return tuple(names) if names else None


def infer_task(dataset: Any, label_column: str, tokens_column: str, where: str) -> Task:
    """Guesses the task from the first row: a list beside `tokens` is tagging, another list multi-label, a float
    regression, anything else one label a row."""
    row = next(iter(dataset))
    value = row[label_column]
    if isinstance(value, (list, tuple)):
        return "token-classification" if tokens_column in row else "multi-label-classification"
    if isinstance(value, float) and not float(value).is_integer():
        return "regression"
    if value is None:
        raise ValueError(f"{where}: the first row has no value in {label_column!r}; every source row needs a label.")
    return "sequence-classification"


def observed_names(dataset: Any, column: str, task: Task, where: str) -> tuple[str, ...]:
    """The names seen in the rows: sorted strings, or "0" … "max" for integers."""
    values: set[Any] = set()
    for position, value in enumerate(_column(dataset, column)):
        if task == "multi-label-classification" and value and not isinstance(value[0], str):
            return tuple(str(i) for i in range(len(value)))  # 0/1 vectors
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None:
                raise ValueError(f"{where} row {position}: {column!r} is None; every source row needs a label.")
            values.add(item)
    if all(isinstance(v, str) for v in values):
        return tuple(sorted(values))
    numbers = sorted(_integer(v, where) for v in values)
    if numbers and numbers[0] < 0:
        raise ValueError(f"{where}: label {numbers[0]} in {column!r} is negative; labels run from 0.")
    return tuple(str(i) for i in range((numbers[-1] if numbers else -1) + 1))


def resolve_label_space(
    domains: Mapping[str, Any],
    label_column: str,
    tokens_column: str = "tokens",
    task: str | None = None,
    model_names: Sequence[str] | None = None,
) -> LabelSpace:
    """The label space shared by all labelled `domains` (`{name: dataset}`, the first one a source).

    Names are matched as names, never as positions. A set that is *declared* (`ClassLabel`, or a model that already
    carries names) must be the same everywhere; a set that was only *observed* in rows may be a part of another.

    Raises:
        ValueError: a missing column, one class only, an unknown task, or sets that differ (both are shown).
    """
    (first, dataset), *_ = domains.items()
    for where, part in domains.items():
        require_column(part, label_column, where)
    if task is not None and task not in TASKS:
        raise ValueError(f"task={task!r} is not one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    chosen: Task = task or infer_task(dataset, label_column, tokens_column, first)
    if chosen == "regression":
        return LabelSpace(chosen, ("score",))

    found: list[tuple[str, tuple[str, ...], bool]] = []  # where, names, declared?
    if model_names:
        found.append(("the model", tuple(model_names), True))
    for where, part in domains.items():
        names = declared_names(part, label_column)
        if names is None and not hasattr(part, "__len__"):
            raise ValueError(
                f"{where} is a stream, so its labels cannot be listed beforehand: "
                f"cast {label_column!r} to a `ClassLabel`, or pass a model whose config names its labels."
            )
        found.append((where, names or observed_names(part, label_column, chosen, where), names is not None))

    found.sort(key=lambda item: (not item[2], -len(item[1]) if not item[2] else 0))
    base_where, base, base_declared = found[0]
    for where, names, declared in found[1:]:
        if set(names) == set(base) or (not declared and set(names) < set(base)):
            continue
        if not declared and base_declared and all(n.isdigit() for n in names) and len(names) <= len(base):
            continue  # bare integers index into the declared names
        raise ValueError(
            f"The label sets differ.\n  {base_where}: {', '.join(map(repr, base))}\n"
            f"  {where}: {', '.join(map(repr, names))}\n"
            "Every domain must use the same label names; rename or filter one of them."
        )
    if len(base) < 2 and chosen != "multi-label-classification":
        raise ValueError(f"{base_where} holds one class only ({', '.join(base) or 'none'}); a classifier needs two.")
    return LabelSpace(chosen, base)


class LabelEncoder:
    """Turns raw label values of one dataset into ids of the shared space, by name.

    Args:
        space: the shared label space.
        names: the dataset's own declared names, when its values are integers that index into them.
        where: how messages call the dataset.
    """

    def __init__(self, space: LabelSpace, names: Sequence[str] | None, where: str):
        self.space, self.where = space, where
        self.ids = space.label2id
        self.lookup = [self.ids[n] for n in names] if names else list(range(len(space.names)))

    def __call__(self, value: Any, row: int) -> Any:
        """One row's value: an id, a list of ids (tagging), a 0/1 vector (multi-label) or a float (regression)."""
        task = self.space.task
        if value is None:
            return self.space.missing if task != "token-classification" else None
        if task == "regression":
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(f"{self.where} row {row}: the regression target is {value!r}.")
            return number
        if task == "token-classification":
            return [self._one(item, row) for item in value]
        if task == "multi-label-classification":
            width = len(self.space.names)
            if value and not isinstance(value[0], str) and len(value) == width and set(value) <= {0, 1}:
                return [float(item) for item in value]
            on = {self._one(item, row) for item in value}
            return [float(i in on) for i in range(width)]
        return self._one(value, row)

    def _one(self, item: Any, row: int) -> int:
        if isinstance(item, str):
            if item not in self.ids:
                raise ValueError(
                    f"{self.where} row {row}: label {item!r} is not one of "
                    f"{', '.join(map(repr, self.space.names))}.{nearest(item, self.space.names)}"
                )
            return self.ids[item]
        index = _integer(item, self.where)
        if not 0 <= index < len(self.lookup):
            raise ValueError(f"{self.where} row {row}: label {index} is outside 0 … {len(self.lookup) - 1}.")
        return self.lookup[index]


def _integer(value: Any, where: str) -> int:
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise ValueError(f"{where}: label {value!r} is neither a name nor a whole number.")


def _column(dataset: Any, column: str) -> Iterable[Any]:
    return dataset[column] if hasattr(dataset, "__len__") else (row[column] for row in dataset)
