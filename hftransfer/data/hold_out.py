"""Hold-out: a validation split cut from train, stratified by class, with every class left in train."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .column_arrays import arrow_column
from .label_values import literal_list
from .row_origins import ORIGIN

FEW = 20  # so many rows or fewer may have a class each; where more have, it is a column of ids or texts


def hold_out(
    splits: dict[str, Any],
    fraction: float,
    seed: int,
    label_column: str = "label",
    free_rows: np.ndarray | None = None,
) -> dict[str, Any]:
    """Splits of a domain, with a validation split cut from train where there is none.

    Where rows carry one label each, every class gives its share and keeps at least one row in train. Scores (numbers
    that are not all whole, or most of which occur once) and lists of labels are cut at random, but that each label of
    a list stays in train. Row names stay those of before the cut.

    Args:
        splits: datasets by split.
        fraction: of the train split.
        seed: of the cut; the same seed, the same cut.
        label_column: where labels are.
        free_rows: row numbers of train that may be held out, sorted, such as those without copies in train; all when
            absent, and where they are too few.

    Raises:
        ValueError: `fraction` is not between 0 and 1, train is too small to cut, or each row has a label of its own.
    """
    if "validation" in splits or not fraction:
        return splits
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction={fraction} must be between 0 and 1.")
    train = splits["train"]
    held_out_size = max(1, round(len(train) * fraction))
    if held_out_size >= len(train):
        raise ValueError(
            f"A train split of {len(train)} row(s) cannot be cut for validation; set validation_fraction to 0."
        )
    class_numbers = _class_numbers(train, label_column)
    if free_rows is None or len(free_rows) <= held_out_size:
        free_rows = np.arange(len(train))
    chosen = choose_rows(
        np.zeros(len(free_rows), int)
        if class_numbers is None
        else np.unique(class_numbers[free_rows], return_inverse=True)[1],
        held_out_size,
        seed,
        class_numbers is not None,
    )
    held_out = free_rows[chosen]
    if class_numbers is None and label_column in train.column_names:
        held_out = _without_last_of_a_label(held_out, arrow_column(train, label_column))
    if not len(held_out):
        raise ValueError(
            f"No row of the {len(train)} can be held out for validation: each has a label in {label_column!r} that "
            "no other row has. Add rows, or set validation_fraction to 0."
        )
    if ORIGIN not in train.column_names:
        train = train.add_column(ORIGIN, [str(row) for row in range(len(train))])
    kept = np.setdiff1d(np.arange(len(train)), held_out)
    return {**splits, "train": train.select(kept), "validation": train.select(held_out)}


def choose_rows(classes: np.ndarray, size: int, seed: int, keep_one: bool = True) -> np.ndarray:
    """Numbers of the rows that are held out, in order.

    Args:
        classes: of the rows, as numbers from 0; shape (rows,).
        size: how many to hold out; fewer come out where classes would be lost.
        seed: of the choice.
        keep_one: leave at least one row of each class.

    Returns:
        Row numbers, sorted; shape (at most size,).

    Example:
        >>> choose_rows(np.array([0, 0, 0, 0, 1, 1, 2]), 3, seed=0).size
        3
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(classes)
    spare = counts - int(keep_one)
    size = min(size, int(spare.sum()))
    exact_counts = size * counts / len(classes)
    held_out_counts = np.minimum(np.floor(exact_counts).astype(int), spare)
    tie_order = rng.permutation(len(counts))  # which of equal remainders comes first
    while (missing := size - int(held_out_counts.sum())) > 0:
        candidates = [label for label in tie_order if held_out_counts[label] < spare[label]]
        candidates.sort(key=lambda label: held_out_counts[label] - exact_counts[label])
        held_out_counts[candidates[:missing]] += 1
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]  # by class, at random inside of one
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(classes)) - np.repeat(starts, counts)
    return np.sort(order[rank < np.repeat(held_out_counts, counts)])


def _class_numbers(dataset: Any, column: str) -> np.ndarray | None:
    """Class of each row as a number, or `None` where rows have no class of their own."""
    if column not in dataset.column_names:
        return None
    values = arrow_column(dataset, column)
    if pa.types.is_nested(values.type):
        return None
    encoded = values.dictionary_encode(null_encoding="encode")
    names = [_class_name(value) for value in encoded.dictionary.to_pylist()]
    if all(name is None or name[:1] + name[-1:] == "[]" for name in names):  # lists as text
        return None
    class_numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    mostly_distinct = 2 * len(class_numbers) > len(dataset)
    if are_scores(class_numbers, mostly_distinct) or (len(class_numbers) == len(dataset) > FEW):
        return None
    return np.array([class_numbers[name] for name in names])[encoded.indices.to_numpy()]


def _without_last_of_a_label(held_out: np.ndarray, values: Any) -> np.ndarray:
    """Held-out rows without those that hold the last example of a label.

    For rows that hold lists of labels, as they are or written as text.

    Args:
        held_out: row numbers; shape (chosen,).
        values: labels of all rows, as an Arrow array.
    """
    if pa.types.is_string(values.type):
        encoded = values.dictionary_encode(null_encoding="encode")
        lists = [literal_list(word) if word else None for word in encoded.dictionary.to_pylist()]
        if not any(lists):
            return held_out
        label_names = [[str(item).strip() for item in items or ()] for items in lists]
        values = pa.array(label_names, pa.list_(pa.string())).take(encoded.indices)
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return held_out
    items, rows = pc.list_flatten(values), pc.list_parent_indices(values).to_numpy()
    if pa.types.is_nested(items.type):
        return held_out
    codes = items.dictionary_encode(null_encoding="encode").indices.to_numpy()
    is_held_out = np.isin(rows, held_out)
    remaining = np.bincount(codes[~is_held_out], minlength=int(codes.max(initial=-1)) + 1)
    by_row: dict[int, list[int]] = {}
    for row, code in zip(rows[is_held_out].tolist(), codes[is_held_out].tolist(), strict=True):
        by_row.setdefault(row, []).append(code)
    chosen_rows = []
    for row in held_out.tolist():
        row_codes = by_row.get(row, [])
        if any(remaining[code] == 0 for code in row_codes):
            remaining[row_codes] += 1
        else:
            chosen_rows.append(row)
    return np.array(chosen_rows, dtype=held_out.dtype)


def _class_name(value: Any) -> str | None:
    """Name that two labels of one class share: text without outer white space; 1 and "1" are equal."""
    return None if value is None else str(value).strip()


def are_scores(names: Iterable[str | None], mostly_distinct: bool = False) -> bool:
    """Whether labels, as text, are scores: numbers not all whole, or (`mostly_distinct`) numbers at all.

    Example:
        >>> are_scores(["1", "2.5"]), are_scores(["1", "2"]), are_scores(["up"])
        (True, False, False)
        >>> are_scores(["1", "2"], mostly_distinct=True)
        True
    """
    whole = True
    for name in names:
        try:
            number = float(name or 0)
        except ValueError:
            return False
        whole = whole and math.isfinite(number) and number.is_integer()
    return mostly_distinct or not whole
