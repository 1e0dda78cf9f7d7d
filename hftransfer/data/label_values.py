"""Raw label values: the distinct values of a label column, their names, and numbers or lists written as text."""

from __future__ import annotations

import ast
import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..messages import shown
from .column_arrays import arrow_column
from .row_origins import ORIGIN

logger = logging.getLogger(__name__)
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?")  # "001" is a name: its zeros say something
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+(\.[0-9]{3})*,[0-9]+")
NOT_FINITE = ("nan", "inf", "infinity")
SEPARATORS = ",;|"
WEAK_SEPARATORS = "/+#&"  # separators that are also signs within a name: their parts must stand alone, too
BRACKETS = {"[": "]", "(": ")", "{": "}"}
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"  # zero-width signs, which copied text brings along
ADJACENT_TEXTS = re.compile(r"""['"]\s+['"]""")  # ['up' 'new'], as NumPy prints: Python reads it as one text


@dataclass(frozen=True)
class LabelColumn:
    """Distinct values of a label column, of the items where its rows are lists.

    Args:
        values: distinct ones, raw.
        counts: in how many places each stands.
        rows: where each stands first.
        size: rows in all.
        widths: lengths of the lists that occur; `None` where a row holds one value.
        missing: the first row that has no label.
    """

    values: tuple[Any, ...]
    counts: tuple[int, ...]
    rows: tuple[int, ...]
    size: int
    widths: frozenset[int] | None = None
    missing: int | None = None

    @property
    def texts(self) -> bool:
        """Whether each row holds one text."""
        return self.widths is None and all(isinstance(value, str) for value in self.values)

    def first_row(self, value: Any) -> int:
        """Row in which a value first occurs."""
        return self.rows[self.values.index(value)]


def label_name(value: Any) -> str | None:
    """Name of a raw label value as it is written; `None` for what is missing: `None`, NaN and empty text.

    It is text without outer white space and invisible signs, "True", or "10" for 10 and 10.0.
    """
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return trimmed(value) or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def label_key(name: str, merge_case: bool = False) -> str:
    """Key that equal label names share.

    "1", "+1" and "1.0" are the number 1; "001" is a name of its own; an accent is the same whether it is a sign of its
    own or not (Unicode's NFD and NFC).
    """
    whole = WHOLE.fullmatch(name)
    if whole:
        return ("-" if whole[1] == "-" and whole[2] != "0" else "") + whole[2]
    name = trimmed(name)
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return name.casefold() if merge_case else name


def trimmed(text: str) -> str:
    """Text without outer white space and invisible signs."""
    text = text.strip()
    if text.isascii():
        return text
    return text.strip(INVISIBLE + " \t\u00a0").strip()


def label_number(value: Any) -> float | None:
    """Number that a value is, or that a text writes; `None` for anything else, "nan" and True among them."""
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value.strip()) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted label names: numbers as numbers, then all other names by their letters."""
    return tuple(sorted(names, key=lambda n: (0, float(n), n) if NUMBER.fullmatch(n) else (1, 0.0, n)))


def literal_list(text: str) -> list[Any] | None:
    """List that a text writes as JSON or Python do, or `None`.

    Example:
        >>> literal_list('["up", "new"]')
        ['up', 'new']
    """
    text = text.strip()
    if not in_brackets(text):
        return None
    try:
        items = json.loads(text)
    except ValueError:
        try:
            items = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        if ADJACENT_TEXTS.search(text):
            return None
    return list(items) if isinstance(items, (list, tuple, set)) else None


def in_brackets(text: str) -> bool:
    """Whether a text might be meant as a list, as might a name such as "[laughter]"."""
    text = text.strip()
    return len(text) > 1 and BRACKETS.get(text[0]) == text[-1]


def has_parts(text: str) -> bool:
    """Whether there is more than one word in a text, so that it is hardly a name in brackets."""
    return bool(re.search(r"[\s,'\"]", text.strip()[1:-1]))


def split_by(text: str, separator: str) -> list[str]:
    """Parts of a text, without outer white space and empty ones."""
    return [part.strip() for part in text.split(separator) if part.strip()]


def recurring_separator(names: Sequence[str]) -> str | None:
    """Separator by which labels seem to hold several classes each, or `None`.

    Half of the parts or more recur, or for signs that are often within a name, stand alone as well.

    Example:
        >>> recurring_separator(["up,new", "up", "new"])
        ','
        >>> recurring_separator(["Albany, NY", "Boston, MA", "Food, drink"])
    """
    for separator in SEPARATORS + WEAK_SEPARATORS:
        splittable = [name for name in names if len(split_by(name, separator)) > 1]
        if splittable:
            part_counts = Counter(part for name in names for part in set(split_by(name, separator)))
            parts = {part for name in splittable for part in split_by(name, separator)}
            recurring = (
                parts & set(names)
                if separator in WEAK_SEPARATORS
                else {part for part in parts if part_counts[part] > 1}
            )
            if 2 * len(recurring) >= len(parts):
                return separator
    return None


def read_labels(dataset: Dataset, column: str, name: str) -> LabelColumn:
    """Label column of a dataset, read once; the cost in Python is that of its distinct values.

    Args:
        dataset: map-style.
        column: where its labels are.
        name: of the dataset, for messages.

    Raises:
        ValueError: labels that are dicts, bytes or lists in lists, with the row.
    """
    values = arrow_column(dataset, column)
    size = len(values)
    if _is_list(values.type):
        lengths = pc.list_value_length(values)
        widths = frozenset(length for length in pc.unique(lengths).to_pylist() if length is not None)
        missing = _first_true(pc.is_null(values))
        items = pc.list_flatten(values)
        parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        _refuse_types(items, column, lambda i: row_name(dataset, int(parents[i])), name, "a list that holds ")
        distinct_values, counts, rows = _distinct_values(items)
        rows = tuple(int(parents[row]) for row in rows)
        missing_row = next(
            (row for value, row in zip(distinct_values, rows, strict=True) if label_name(value) is None), None
        )
        if missing_row is not None:
            raise ValueError(
                f"{name} row {row_name(dataset, missing_row)}: a label in the list of {column!r} is None. Leave such "
                "items out of it; in tagging, give each word its tag."
            )
        return LabelColumn(distinct_values, counts, rows, size, widths, missing)
    _refuse_types(values, column, lambda i: row_name(dataset, i), name)
    distinct_values, counts, rows = _distinct_values(values)
    named_values = [i for i, value in enumerate(distinct_values) if label_name(value) is not None]
    missing_rows = [row for value, row in zip(distinct_values, rows, strict=True) if label_name(value) is None]
    return LabelColumn(
        tuple(distinct_values[i] for i in named_values),
        tuple(counts[i] for i in named_values),
        tuple(rows[i] for i in named_values),
        size,
        missing=min(missing_rows) if missing_rows else None,
    )


def has_labels(dataset: Any, column: str, name: str) -> bool:
    """Whether there is a label column with anything in it; one that is empty throughout is warned of."""
    if column not in (dataset.column_names or list(next(iter(dataset), {}))):
        return False
    if not hasattr(dataset, "__len__"):
        return True
    values = dataset.select_columns([column]).with_format("arrow")[:].column(0)
    if values.null_count < len(values):
        return True
    logger.warning("%s: %r is empty throughout, so the set counts as one without labels.", name, column)
    return False


def as_lists(column: LabelColumn, parse: Callable[[str], list[Any] | None]) -> LabelColumn:
    """Label column of texts, read as the lists that `parse` makes of them; texts that are no lists are left out."""
    counts: dict[str, int] = {}
    rows: dict[str, int] = {}
    widths = set()
    for text, count, row in zip(column.values, column.counts, column.rows, strict=True):
        items = parse(text)
        widths.add(len(items or ()))
        for item in items or ():
            name = label_name(item)
            if name is not None:
                counts[name] = counts.get(name, 0) + count
                rows[name] = min(rows.get(name, row), row)
    return LabelColumn(
        tuple(counts), tuple(counts.values()), tuple(rows.values()), column.size, frozenset(widths), column.missing
    )


def row_name(dataset: Any, row: int) -> str:
    """Name of one row of a map-style dataset in messages, after "source row "."""
    return str(dataset[row][ORIGIN]) if ORIGIN in dataset.column_names else str(row)


def _is_list(arrow_type: pa.DataType) -> bool:
    return (
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def _refuse_types(values: Any, column: str, row_name: Callable[[int], str], name: str, start: str = "") -> None:
    """Check for values that cannot be labels; raises `ValueError`."""
    arrow_type = values.type
    type_words = "a dict" if pa.types.is_struct(arrow_type) or pa.types.is_map(arrow_type) else ""
    type_words = (
        "a list"
        if _is_list(arrow_type)
        else "bytes"
        if pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)
        else type_words
    )
    row = _first_true(pc.is_valid(values)) if type_words else None
    if row is not None:
        raise ValueError(
            f"{name} row {row_name(row)}: {column!r} is {start}{type_words} ({shown(values[row].as_py())}). A label "
            "is a name, a number or a flat list of them; say with `label_column` which column holds it."
        )


def _distinct_values(values: Any) -> tuple[tuple[Any, ...], tuple[int, ...], tuple[int, ...]]:
    """Distinct values, how often each occurs, and its first row; `None` among them."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    encoded = values.dictionary_encode(null_encoding="encode")
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    indices_used, first_rows, counts = np.unique(indices, return_index=True, return_counts=True)
    dictionary = encoded.dictionary.to_pylist()
    return (
        tuple(dictionary[int(i)] for i in indices_used),
        tuple(int(count) for count in counts),
        tuple(int(first_row) for first_row in first_rows),
    )


def _first_true(mask: Any) -> int | None:
    """Index of the first true value of a boolean array."""
    indices = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    return int(indices[0]) if len(indices) else None
