"""Given predictions: what an interface says of target rows, as probabilities, the likeliest ones or labels alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..messages import nearest, shown
from .row_origins import visible
from .table_files import read_table

LABEL = "label"
ABOVE_ONE = 1e-3  # that probabilities of a row may sum to beyond 1, from rounding


@dataclass(frozen=True)
class GivenPredictions:
    """Predictions of target rows that somebody else's model made.

    Args:
        class_names: (K,).
        probabilities: (m, K), 0 where nothing was said of a class; (m, K) of 0 and 1 from labels alone.
        hard: they are labels alone.

    Example:
        >>> GivenPredictions(("down", "up"), np.array([[0.9, 0.1]]), hard=False).smoothed().round(2)
        array([[0.9, 0.1]])
    """

    class_names: tuple[str, ...]
    probabilities: np.ndarray
    hard: bool

    def smoothed(self, epsilon: float = 0.1) -> np.ndarray:
        r"""Adaptive label smoothing: the likeliest class keeps its probability, all others share the rest evenly.

        \[q_{ik} = p_{ik} \text{ for } k = \arg\max_l p_{il}, \qquad
          q_{ik} = \frac{1 - \max_l p_{il}}{K - 1} \text{ for all others}\]

        What an interface says of its second and third choices is often noise, and labels alone say nothing of them.

        Args:
            epsilon: that a label alone, without a probability, leaves to the other classes.

        Returns:
            (m, K) distributions.

        Raises:
            ValueError: epsilon outside 0 to 1.

        Paper: Liang et al., DINE: Domain Adaptation from Single and Multiple Black-box Predictors, CVPR 2022.
        """
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < 1:
            raise ValueError(f"epsilon={epsilon!r} must be a number from 0 to less than 1.")
        top, rows = self.probabilities.argmax(1), np.arange(len(self.probabilities))
        kept = np.full(len(rows), 1 - float(epsilon)) if self.hard else np.minimum(self.probabilities[rows, top], 1.0)
        classes = len(self.class_names)
        smooth = np.repeat((1 - kept)[:, None] / (classes - 1), classes, axis=1)
        smooth[rows, top] = kept
        return smooth


def read_predictions(given: Any, rows: int, labels: Sequence[str] | None = None) -> GivenPredictions:
    """Given predictions of target rows, checked.

    Args:
        given: a csv, tsv, json, jsonl or parquet file with a row for each target row, in order: either a column for
            each class, called by its name, with probabilities, empty where the interface did not name the class (the
            top k alone); or a column `label` with one class a row. Or an (m, K) array of probabilities, NaN for what
            was not said; or a sequence of m labels.
        rows: m.
        labels: class names in the order of an array's columns; of a file, which of its columns are classes. All
            columns, and the labels that occur, when absent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another number of rows, values that are no probabilities, a class that there is not, or fewer than
            two classes. The row is named.

    Example:
        >>> read_predictions([[0.7, 0.3], [float("nan"), 0.8]], 2, ["down", "up"]).probabilities
        array([[0.7, 0.3],
               [0. , 0.8]])
        >>> read_predictions(["up", "down", "up"], 3).class_names
        ('down', 'up')
    """
    names = None if labels is None else tuple(str(label) for label in labels)
    if names is not None and (len(set(names)) < len(names) or len(names) < 2 or not all(map(str.strip, names))):
        raise ValueError(f"labels={list(names)!r:.120} must be at least two names, each once and none blank.")
    if isinstance(given, (str, os.PathLike)):
        return _of_file(Path(given).expanduser(), rows, names)
    if getattr(given, "ndim", 0) == 1:
        given = given.tolist()
    if isinstance(given, Sequence) and len(given) and _are_labels(given):
        return _of_labels(list(given), rows, names, "predictions")
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            "predictions must be a file, an array of probabilities with a row for each target row, or a list of "
            f"labels, not {type(given).__name__}."
        ) from None
    if values.ndim != 2:
        raise ValueError(f"predictions must have a row for each target row and a column for each class, not the shape "
                         f"{values.shape}.")  # fmt: skip
    if names is None:
        raise ValueError(
            "predictions is an array, which has no class names: pass labels, in the order of its columns."
        )
    if len(names) != values.shape[1]:
        raise ValueError(f"predictions has {values.shape[1]} columns, and labels names {len(names)} classes.")
    return _of_probabilities(values, rows, names, "predictions")


def _of_file(path: Path, rows: int, names: tuple[str, ...] | None) -> GivenPredictions:
    table = read_table(path, "predictions")
    columns = visible(table.dataset.column_names)
    if columns == [LABEL]:
        values = table.dataset[LABEL]
        return _of_labels([None if value is None else str(value) for value in values], rows, names, path.name)
    chosen = tuple(columns) if names is None else names
    missing = next((name for name in chosen if name not in columns), None)
    if missing is not None:
        raise ValueError(
            f"{path.name} has no column {missing!r}, which is a class; its columns are "
            f"{', '.join(map(repr, columns))[:200]}.{nearest(missing, columns)}"
        )
    if len(chosen) < 2:
        raise ValueError(
            f"{path.name} has one column ({chosen[0]!r}): give a column of probabilities for each class, or one "
            f"called {LABEL!r} with the class of each row."
        )
    if LABEL in chosen:
        raise ValueError(
            f"{path.name} has a column {LABEL!r} beside {', '.join(repr(c) for c in columns if c != LABEL)[:160]}: "
            "probabilities and labels cannot both be learned from. Keep one, or name the classes with labels."
        )
    values = np.stack([_numbers(table.dataset[name], name, path.name) for name in chosen], axis=1)
    remedy = "" if names else f" If a column of {', '.join(chosen)[:160]} is no class, name the classes with labels."
    return _of_probabilities(values, rows, chosen, path.name, remedy)


def _numbers(column: Sequence[Any], name: str, file: str) -> np.ndarray:
    numbers = np.full(len(column), math.nan)
    for row, value in enumerate(column):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{file} row {row}: {shown(value)} in the column {name!r} is no probability. Name the columns that "
                "are classes with labels, if this is none."
            ) from None
        if math.isnan(numbers[row]):
            raise ValueError(f"{file} row {row}: {shown(value)} in the column {name!r} is no probability.")
    return numbers


def _are_labels(values: Sequence[Any]) -> bool:
    """Whether values are meant as one class a row: names, or numbers of classes, which are refused by name."""
    return any(isinstance(v, str) for v in values) or all(v is None or isinstance(v, Integral) for v in values)


def _of_labels(values: Sequence[str | None], rows: int, names: tuple[str, ...] | None, title: str) -> GivenPredictions:
    _check_rows(len(values), rows, title)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"{title} row {row} has no label. Give one for each target row.")
        if not isinstance(value, str):
            raise ValueError(f"{title} row {row}: {shown(value)} is no label: give the names of classes as text.")
    classes = tuple(sorted({str(value) for value in values})) if names is None else names
    number = {name: k for k, name in enumerate(classes)}
    for row, value in enumerate(values):
        if value not in number:
            raise ValueError(
                f"{title} row {row}: {shown(value)} is none of the labels {', '.join(classes)[:160]}."
                f"{nearest(str(value), classes)}"
            )
    return _checked(
        GivenPredictions(classes, np.eye(len(classes))[[number[v] for v in values if v]], hard=True), title
    )


def _of_probabilities(
    values: np.ndarray, rows: int, names: tuple[str, ...], title: str, remedy: str = ""
) -> GivenPredictions:
    _check_rows(len(values), rows, title)
    said = ~np.isnan(values)
    for row in range(len(values)):
        if not said[row].any():
            raise ValueError(f"{title} row {row} has no probability at all.")
        known = values[row][said[row]]
        if not np.isfinite(known).all() or (known < 0).any() or known.sum() > 1 + ABOVE_ONE or not known.any():
            raise ValueError(
                f"{title} row {row} must be probabilities, of at least 0 and 1 at most in sum, not "
                f"{', '.join(f'{value:.3g}' for value in known)[:120]}. Logits go through a softmax first."
                f"{remedy}"
            )
        if said[row].all() and abs(known.sum() - 1) > 0.02:
            raise ValueError(
                f"{title} row {row} sums to {known.sum():.3g}: probabilities of all classes sum to 1. Leave a cell "
                f"empty where the interface did not name the class.{remedy}"
            )
    return _checked(GivenPredictions(names, np.where(said, values, 0.0), hard=False), title)


def _checked(given: GivenPredictions, title: str) -> GivenPredictions:
    """Predictions whose likeliest classes are two or more; raises a `ValueError`."""
    named = np.unique(given.probabilities.argmax(1))
    if len(named) < 2:
        raise ValueError(
            f"{title} names one class alone ({given.class_names[named[0]]!r}), on each row the likeliest: there is "
            "nothing to tell apart."
        )
    return given


def _check_rows(found: int, rows: int, title: str) -> None:
    if found != rows:
        raise ValueError(
            f"{title} holds {found:,} rows, and the target {rows:,}: there must be one for each, in order."
        )
