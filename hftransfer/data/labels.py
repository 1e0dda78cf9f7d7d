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
    return list(next(iter(dataset), {}))


def require_column(dataset: Any, column: str, where: str, option: str = "label_column") -> None:
    """Raises `ValueError` naming the dataset, the column, what there is instead and the `option` that names it."""
    columns = column_names(dataset)
    if column not in columns:
        raise ValueError(
            f"{where} has no column {column!r}; its columns are {', '.join(map(repr, columns))}."
            f"{nearest(column, columns)} Rename one, or say which it is with `{option}`."
        )


def declared_names(dataset: Any, column: str) -> tuple[str, ...] | None:
    """Names of a `ClassLabel` (or a list of them), or `None` when the dataset declares none."""
    feature = (dataset.features or {}).get(column)
    feature = getattr(feature, "feature", feature)  # List(ClassLabel)
    names = getattr(feature, "names", None)
    return tuple(names) if names else None


def infer_task(dataset: Any, label_column: str, tokens_column: str, where: str) -> Task:
    """Guesses the task: a list beside `tokens` is tagging, another list multi-label, numbers that are not all whole
    regression, anything else one label a row. A stream is judged by its first row."""
    row = next(iter(dataset))
    value = row[label_column]
    if isinstance(value, (list, tuple)):
        return "token-classification" if tokens_column in row else "multi-label-classification"
    if isinstance(value, float):
        values = _column(dataset, label_column) if hasattr(dataset, "__len__") else (value,)
        if any(v is not None and not float(v).is_integer() for v in values):
            return "regression"
    if value is None:
        raise ValueError(f"{where} row 0: {label_column!r} is None; every labelled row needs a value.")
    return "sequence-classification"


def observed_names(dataset: Any, column: str, task: Task, where: str) -> tuple[str, ...]:
    """The names seen in the rows: sorted strings, or "0" … "max" for integers (by position in 0/1 vectors)."""
    values: set[Any] = set()
    for position, value in enumerate(_column(dataset, column)):
        if task == "multi-label-classification" and value and not isinstance(value[0], str):
            return tuple(str(i) for i in range(len(value)))  # the encoder checks that all rows are such vectors
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None:
                raise ValueError(f"{where} row {position}: {column!r} is None; every labelled row needs a value.")
            values.add(item)
    if all(isinstance(v, str) for v in values):
        return tuple(sorted(values))
    numbers = sorted(_integer(v, where) for v in values)
    if numbers and numbers[0] < 0:
        raise ValueError(
            f"{where}: label {numbers[0]} in {column!r} is negative; labels run from 0. Drop rows that have none."
        )
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
            if model_names:
                continue  # each row is checked as it comes
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
        raise ValueError(_differ(base_where, base, where, names))
    if len(base) < 2 and chosen != "multi-label-classification":
        raise ValueError(f"{base_where} holds one class only ({', '.join(base) or 'none'}); a classifier needs two.")
    return LabelSpace(chosen, base)


def check_classes(sources: Mapping[str, Any], column: str) -> None:
    """Raises `ValueError` when every row of every source carries the same label (streams are not read through)."""
    if not all(hasattr(source, "__len__") for source in sources.values()):
        return
    seen: set[Any] = set()
    for source in sources.values():
        names = declared_names(source, column)
        seen |= {names[v] if names and isinstance(v, int) and v >= 0 else v for v in source.unique(column)}
    if len(seen) == 1:
        raise ValueError(
            f"All rows of {', '.join(sources)} carry the same label in {column!r} ({seen.pop()!r}): there is "
            "one class only, and a classifier needs two."
        )


class LabelEncoder:
    """Turns raw label values of one dataset into ids of the shared space, by name.

    Args:
        space: the shared label space.
        names: the dataset's own declared names, when its values are integers that index into them.
        where: how messages call the dataset.
        optional: `None` is "no label" instead of an error.

    Raises:
        ValueError: `names` holds one that is not in `space`; called, a value that is no label (the row is named).
    """

    def __init__(self, space: LabelSpace, names: Sequence[str] | None, where: str, optional: bool = False):
        self.space, self.where, self.optional = space, where, optional
        self.ids, self.declared = space.label2id, bool(names)
        if set(names or ()) - set(self.ids):
            raise ValueError(_differ("the run", space.names, where, names or ()))
        self.lookup = [self.ids[n] for n in names] if names else list(range(len(space.names)))

    def __call__(self, value: Any, row: int) -> Any:
        """One row's value: an id, a list of ids (tagging), a 0/1 vector (multi-label) or a float (regression)."""
        task = self.space.task
        if value is None:
            if not self.optional:
                raise ValueError(f"{self.where} row {row}: the label is None. Drop or label such rows first.")
            return self.space.missing if task != "token-classification" else None
        if task == "regression":
            number = float(value) if isinstance(value, (int, float)) else math.nan
            if not math.isfinite(number):
                raise ValueError(
                    f"{self.where} row {row}: the label {value!r} is no finite number, as regression needs it. "
                    "Fix the row, or set `task` if this is no regression."
                )
            return number
        if isinstance(value, (list, tuple)) != (task in ("token-classification", "multi-label-classification")):
            raise ValueError(f"{self.where} row {row}: the label {value!r} does not fit {task}; is `task` right?")
        if task == "token-classification":
            return [self._one(item, row) for item in value]
        if task == "multi-label-classification":
            return self._several(value, row)
        return self._one(value, row)

    def _several(self, value: Sequence[Any], row: int) -> list[float]:
        """Names, ids into declared names, or a 0/1 vector."""
        width = len(self.space.names)
        if self.declared or not value or isinstance(value[0], str):
            on = {self._one(item, row) for item in value}
            return [float(i in on) for i in range(width)]
        if len(value) != width or not set(value) <= {0, 1}:
            raise ValueError(
                f"{self.where} row {row}: the labels {value!r} are no 0/1 vector over {width} labels. Lists of ids "
                "need names: cast the column to a list of `ClassLabel`."
            )
        return [float(item) for item in value]

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
            raise ValueError(
                f"{self.where} row {row}: label {index} is outside 0 … {len(self.lookup) - 1} "
                f"({', '.join(map(repr, self.space.names))}). Fix or drop such rows first."
            )
        return self.lookup[index]


def _integer(value: Any, where: str) -> int:
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise ValueError(
        f'{where}: label {value!r} is neither a name nor a whole number; set `task="regression"` if it is a score.'
    )


def _differ(here: str, names: Iterable[str], there: str, others: Iterable[str]) -> str:
    return (
        f"The label sets differ.\n  {here}: {', '.join(map(repr, names))}\n"
        f"  {there}: {', '.join(map(repr, others))}\n"
        "Every domain must use the same label names; rename or filter one of them."
    )


def _column(dataset: Any, column: str) -> Iterable[Any]:
    return dataset[column] if hasattr(dataset, "__len__") else (row[column] for row in dataset)
