"""Label space of a run, and the encoder of raw label values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..ignored_label import IGNORE
from ..messages import nearest, shown
from .label_values import (
    DECIMAL_COMMA,
    NUMBER,
    WHOLE,
    label_key,
    label_name,
    label_number,
    literal_list,
    split_by,
)
from .row_origins import visible

Task = Literal["sequence-classification", "token-classification", "multi-label-classification", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)
QUOTE = "'"
LISTS = ("token-classification", "multi-label-classification")  # tasks whose rows hold lists


def check_label_separator(separator: str | None) -> None:
    """Check that the setting `label_separator` is no empty text; raises `ValueError`."""
    if separator == "":
        raise ValueError("label_separator is empty: give what stands between two labels, or leave it out.")


@dataclass(frozen=True)
class LabelSpace:
    """Labels of one run, shared by every domain.

    Args:
        task: one of `TASKS`.
        names: the label names in the order of the logits; a single `"score"` for regression.
        positions: names that bare integers count off, from a model or a `ClassLabel`; `names` when `None`. Integers
            that are names themselves come first, and where the names are numbers there are no positions.
        separator: what stands between the labels of one text, in multi-label classification.
        merge_case: names that differ by case alone are one.
        vectors: undeclared lists of integers are 0/1 vectors, not ids.
    """

    task: Task
    names: tuple[str, ...]
    positions: tuple[str, ...] | None = None
    separator: str | None = None
    merge_case: bool = False
    vectors: bool = True

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
        """Value of a row without a label (per token in tagging)."""
        if self.task == "multi-label-classification":
            return [math.nan] * len(self.names)
        return math.nan if self.is_float else IGNORE


def column_names(dataset: Any) -> list[str]:
    """Column names of a map-style or streaming dataset (the first row is peeked at when the schema is unknown)."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset), {}))


def require_column(dataset: Any, column: str, name: str, option: str = "label_column") -> None:
    """Check that a dataset has a column; raises `ValueError` with its columns and the `option` that names it."""
    columns = column_names(dataset)
    if column not in columns:
        known = visible(columns)
        raise ValueError(
            f"{name} has no column {column!r}; its columns are {', '.join(map(repr, known))}."
            f"{nearest(column, known)} Rename one, or say which it is with `{option}`."
        )


def declared_names(dataset: Any, column: str) -> tuple[str, ...] | None:
    """Names of a `ClassLabel` (or a list of them), or `None` when the dataset declares none."""
    feature = (dataset.features or {}).get(column)
    feature = getattr(feature, "feature", feature)  # List(ClassLabel)
    names = getattr(feature, "names", None)
    return tuple(names) if names else None


def missing_label_error(name: str, row: Any, column: str) -> ValueError:
    """`ValueError` about a row without a label."""
    return ValueError(f"{name} row {row} has no label: {column!r} is empty there. Drop or label such rows first.")


class LabelEncoder:
    """Encoder of the raw label values of one dataset, by name, to ids of the shared label space.

    Args:
        space: the shared label space.
        names: the dataset's own declared names, when its values are integers that index into them.
        dataset_name: of the dataset, for messages.
        optional: `None` is "no label" instead of an error.
        column: of the labels, for messages.

    Raises:
        ValueError: called, for a value that is no label (the row is named).
    """

    def __init__(
        self,
        space: LabelSpace,
        names: Sequence[str] | None,
        dataset_name: str,
        optional: bool = False,
        column: str = "label",
    ):
        self.space, self.dataset_name, self.optional, self.column = space, dataset_name, optional, column
        self.names = tuple(names) if names else None
        self.ids = space.label2id
        self.keys = {label_key(name, space.merge_case): i for name, i in reversed(self.ids.items())}
        positions = space.names if space.positions is None else space.positions
        self.positions = () if any(NUMBER.fullmatch(name.strip()) for name in positions) else positions
        self.encoded_values: dict[tuple[type, Any], Any] = {}  # of one value a row, what was made of it

    def encode_rows(self, values: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
        """Encoded values of rows, as `__call__` gives them; values that were encoded before are looked up."""
        if self.space.task in LISTS:
            return [self(value, row) for value, row in zip(values, rows, strict=True)]
        encoded_values, encoded_rows = self.encoded_values, []
        for value, row in zip(values, rows, strict=True):
            key = (value.__class__, value)
            try:
                encoded_rows.append(encoded_values[key])
            except (KeyError, TypeError):  # TypeError: what cannot be looked up is no label, and refused here
                encoded = self(value, row)
                if len(encoded_values) < 100_000:
                    encoded_values[key] = encoded
                encoded_rows.append(encoded)
        return encoded_rows

    def __call__(self, value: Any, row: Any) -> Any:
        """Encoded label of a row: an id, a list of ids (tagging), a 0/1 vector (multi-label) or a float."""
        task = self.space.task
        is_list = isinstance(value, (list, tuple))
        if isinstance(value, (dict, bytes)) or (is_list and any(isinstance(v, (dict, list, tuple)) for v in value)):
            kind = "a list of lists or dicts" if is_list else f"a {type(value).__name__}"
            raise ValueError(
                f"{self.dataset_name} row {row}: {self.column!r} is {kind} ({shown(value)}). A label is a name, a "
                "number or a flat list of them."
            )
        if value is None or (not is_list and label_name(value) is None and task != "regression") or value == "":
            if not self.optional:
                raise missing_label_error(self.dataset_name, row, self.column)
            return self.space.missing if task != "token-classification" else None
        if task == "regression":
            return self._number(value, row)
        if task in LISTS and isinstance(value, str):
            value = self.split_labels(value, row)
            is_list = True
        if is_list != (task in LISTS):
            raise ValueError(
                f"{self.dataset_name} row {row}: the label {shown(value)} does not fit {task}; is `task` right?"
            )
        if task == "token-classification":
            return [self._class_id(item, row) for item in value]
        return self._binary_vector(value, row) if is_list else self._class_id(value, row)

    def id_of(self, item: Any) -> int | None:
        """Id of one value, or `None` where the space has no such class."""
        if self.names is not None and isinstance(item, int) and not isinstance(item, bool):
            if not 0 <= item < len(self.names):
                return None
            item = self.names[item]
            if item in self.ids:
                return self.ids[item]
        name = label_name(item)
        if name is None:
            return None
        label_id = self.ids.get(name, self.keys.get(label_key(name, self.space.merge_case)))
        if label_id is None and self.names is None and self.positions and WHOLE.fullmatch(name):
            position = int(label_key(name))
            return self.ids.get(self.positions[position]) if 0 <= position < len(self.positions) else None
        return label_id

    def shown_name(self, item: Any) -> str:
        """Name of a value for messages."""
        if self.names is not None and isinstance(item, int) and 0 <= item < len(self.names):
            return repr(self.names[item])
        return shown(item)

    def _number(self, value: Any, row: Any) -> float:
        number = label_number(value)
        if number is None or not math.isfinite(number):
            comma = isinstance(value, str) and DECIMAL_COMMA.fullmatch(value.strip())
            remedy = (
                "It has a decimal comma: write it with a point."
                if comma
                else "Fix the row, or set `task` if this is no regression."
            )
            raise ValueError(
                f"{self.dataset_name} row {row}: the label {shown(value)} is no finite number, as regression needs "
                f"it. {remedy}"
            )
        return number

    def split_labels(self, text: str, row: Any) -> list[Any]:
        """Labels that one text holds."""
        if self.space.separator is not None and self.space.task == "multi-label-classification":
            return split_by(text, self.space.separator)
        items = literal_list(text)
        if items is None:
            raise ValueError(
                f"{self.dataset_name} row {row}: the label {shown(text)} does not fit {self.space.task}; is `task` "
                "right? It needs a list, as JSON or Python write one; or say with `label_separator` what stands "
                "between the labels of one text."
            )
        return items

    def _binary_vector(self, value: Sequence[Any], row: Any) -> list[float]:
        """0/1 vector of names, of ids, or of such a vector."""
        width = len(self.space.names)
        are_numbers = bool(value) and all(label_number(item) is not None or isinstance(item, bool) for item in value)
        if self.names is not None or not self.space.vectors or not are_numbers:
            class_ids = {self._class_id(item, row) for item in value}
            return [float(i in class_ids) for i in range(width)]
        bits = [float(item) for item in value]
        if len(value) != width or not set(bits) <= {0.0, 1.0}:
            raise ValueError(
                f"{self.dataset_name} row {row}: the labels {shown(value)} are no 0/1 vector over {width} labels. "
                "Lists of ids need names: cast the column to a list of `ClassLabel`."
            )
        return bits

    def _class_id(self, item: Any, row: Any) -> int:
        label_id = self.id_of(item)
        if label_id is None:
            if label_name(item) is None:
                raise ValueError(
                    f"{self.dataset_name} row {row}: a label in the list is None. Leave such items out of it."
                )
            count = len(self.names or self.positions)
            if count and isinstance(item, int) and not 0 <= item < count:
                raise ValueError(
                    f"{self.dataset_name} row {row}: label {item} is outside 0 … {count - 1} "
                    f"({listed(self.names or self.positions)}). Fix or drop such rows first."
                )
            raise ValueError(
                f"{self.dataset_name} row {row}: {unknown_class_message(self.space, self.shown_name(item))}"
            )
        return label_id


def unknown_class_message(space: LabelSpace, label: str, how_many: str = "") -> str:
    """Error message about a class that the sources lack, after "target row 3: "."""
    same_name = next((name for name in space.names if repr(name).casefold() == label.casefold()), None)
    if same_name is not None:
        hint = f" It differs from {same_name!r} by case alone: set `merge_label_case` to make them one."
    else:
        hint = f"{nearest(label.strip(QUOTE), space.names)} Rename it, drop such rows, or give a source rows of it."
    return f"label {label} is not one of {listed(space.names)}, the classes that are trained.{how_many}{hint}"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Text with names, cut where there are many."""
    names = list(names)
    total = f" … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + total
