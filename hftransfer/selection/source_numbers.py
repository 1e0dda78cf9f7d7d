"""Source numbers: what a model says of its source in counts, for hospitals that may not share a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .calibration import COLDEST, WARMEST, calibrated, fit_temperature
from .model_predictions import Predictions

KEY = "source_validation"  # within the key `hftransfer` of config.json
EDGES = (0.6, 0.9)  # of calibrated confidence: unsure, fairly sure, sure
CENTRES = (0.5, 0.75, 0.95)  # what a prediction in each bin counts as
FIELDS = ("labels", "class_counts", "temperature", "confusion")
MOST_ROWS = 10_000_000  # that counts may claim


@dataclass(frozen=True)
class SourceNumbers:
    """Counts of a model's predictions on source validation rows, and its temperature.

    Args:
        class_names: in the order of the logits.
        confusion: (K, K, 3) rows by true class, predicted class and calibrated confidence: below 0.6, to 0.9, above.
        temperature: that makes the labels of these rows likeliest.

    Example:
        >>> logits = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.5], [0.0, 2.0]])
        >>> numbers = SourceNumbers.of(logits, np.array([0, 1, 1, 1]), ["down", "up"])
        >>> numbers.confusion.sum(2)
        array([[1, 0],
               [1, 2]])
        >>> SourceNumbers.read(numbers.as_json(), ["down", "up"]).rows
        4
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    temperature: float

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> SourceNumbers:
        """Numbers of a model.

        Args:
            logits, labels: (n, K) and (n,), of source validation rows.
            class_names: (K,).
        """
        temperature = fit_temperature(logits, labels)
        confusion = np.zeros((len(class_names), len(class_names), len(CENTRES)), dtype=np.int64)
        np.add.at(confusion, (np.asarray(labels, dtype=np.int64), *_cells(logits, temperature)), 1)
        return cls(tuple(class_names), confusion, temperature)

    @property
    def rows(self) -> int:
        return int(self.confusion.sum())

    @property
    def class_counts(self) -> np.ndarray:
        """(K,) rows by true class."""
        return np.asarray(self.confusion.sum((1, 2)))

    @property
    def accuracy(self) -> float:
        """Share of the rows that the model is right on."""
        return float(np.trace(self.confusion.sum(2)) / self.rows)

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain JSON; of the confusion matrix only cells that hold rows, [true, predicted, bin, rows].

        Classes and bins are counted from 0.
        """
        cells = np.argwhere(self.confusion)
        return {
            "labels": list(self.class_names),
            "class_counts": self.class_counts.tolist(),
            "temperature": float(f"{self.temperature:.6g}"),
            "confusion": [[*map(int, cell), int(self.confusion[tuple(cell)])] for cell in cells],
        }

    @classmethod
    def read(cls, value: Any, class_names: Sequence[str]) -> SourceNumbers:
        """Numbers that `as_json` gave.

        Args:
            value: of the key `source_validation`.
            class_names: of the model that they are of.

        Raises:
            ValueError: they are damaged, or of other classes.
        """
        if not isinstance(value, Mapping) or set(value) != set(FIELDS):
            raise ValueError(f"the numbers of the source must be a map with {', '.join(FIELDS)}")
        if value["labels"] != list(class_names):
            raise ValueError(
                f"the numbers of the source are of the labels {value['labels']!r:.120}, and the model has "
                f"{', '.join(class_names)[:120]}"
            )
        temperature = value["temperature"]
        if not _is_number(temperature) or not COLDEST * 0.999 <= temperature <= WARMEST * 1.001:
            raise ValueError(
                f"the temperature of the source must be a number from 0.05 to 20, not {temperature!r:.40}"
            )
        confusion = _read_cells(value["confusion"], len(class_names))
        if value["class_counts"] != confusion.sum((1, 2)).tolist():
            raise ValueError("the class counts of the source are not the sums of its confusion matrix")
        if not confusion.sum():
            raise ValueError("the confusion matrix of the source holds no rows")
        return cls(tuple(class_names), confusion, float(temperature))

    def predictions(self, target_logits: np.ndarray) -> Predictions:
        """Predictions by which `estimate_label_shift` compares the target with these numbers.

        Each row, of source and target alike, is its predicted class and how sure of it the model is, in three steps;
        which class comes second is not kept.

        Args:
            target_logits: (m, K), of the same model.
        """
        cells = np.argwhere(self.confusion)
        counts = self.confusion[tuple(cells.T)]
        true, predicted, bins = np.repeat(cells, counts, axis=0).T
        return Predictions(self._coarse(predicted, bins), true, self._coarse(*_cells(target_logits, self.temperature)))

    def _coarse(self, predicted: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """(n, K) log-probabilities of a class and a confidence: the rest is shared out evenly."""
        classes = len(self.class_names)
        sure = np.maximum(np.asarray(CENTRES)[bins], 1.05 / classes)
        probabilities = np.repeat((1 - sure)[:, None] / (classes - 1), classes, axis=1)
        probabilities[np.arange(len(sure)), predicted] = sure
        return np.log(probabilities)


def _cells(logits: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class and bin of confidence of each row."""
    probabilities = calibrated(logits, temperature)
    return probabilities.argmax(1), np.digitize(probabilities.max(1), EDGES)


def _read_cells(value: Any, classes: int) -> np.ndarray:
    if not isinstance(value, list):
        raise ValueError("the confusion matrix of the source must be a list of [true, predicted, bin, rows]")
    confusion = np.zeros((classes, classes, len(CENTRES)), dtype=np.int64)
    for cell in value:
        whole = isinstance(cell, list) and len(cell) == 4 and all(type(number) is int for number in cell)
        if not whole or not all(0 <= n < most for n, most in zip(cell[:3], confusion.shape, strict=True)):
            raise ValueError(
                f"the confusion matrix of the source holds {cell!r:.60}, which is no [true, predicted, bin, rows]"
            )
        if not 0 < cell[3] <= MOST_ROWS:
            raise ValueError(f"the confusion matrix of the source holds {cell[3]!r:.40} rows in a cell")
        confusion[tuple(cell[:3])] += cell[3]
    if confusion.sum() > MOST_ROWS:
        raise ValueError("the confusion matrix of the source claims more rows than could have been counted")
    return confusion


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
