"""Soft labels of target rows: probabilities that a student learns from instead of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .label_space import column_names
from .text_encoder import WORD_MASK

SOFT_LABELS = "soft_labels"
SUM_TOLERANCE = 1e-3


def add_soft_labels(dataset: Any, probabilities: Any) -> Any:
    """Target dataset with a column of soft labels, for the objective `soft_labels`.

    Args:
        dataset: a map-style target dataset.
        probabilities: (rows, K), one distribution over the classes a row, columns in the order of the model's labels
            (`id2label`). In tagging a list with one (words, K) array a row: of the words that the tokenizer keeps.

    Returns:
        The dataset with a column `soft_labels`.

    Raises:
        ValueError: a stream, another number of rows, or rows that are no distributions.

    Example:
        >>> medical = load_sample_corpus()["medical_train"].select(range(2))
        >>> add_soft_labels(medical, [[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])["soft_labels"][1]
        [0.0, 0.5, 0.5]
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError("add_soft_labels: the target is a stream, whose rows have no number. Load it map-style.")
    if len(probabilities) != len(dataset):
        raise ValueError(f"add_soft_labels: {len(probabilities):,} soft labels for {len(dataset):,} rows.")
    rows = [np.asarray(row, dtype=np.float64) for row in probabilities]
    for number, row in enumerate(rows):
        _check_distribution(row, f"add_soft_labels: row {number}")
    if SOFT_LABELS in column_names(dataset):
        dataset = dataset.remove_columns(SOFT_LABELS)
    return dataset.add_column(SOFT_LABELS, [row.tolist() for row in rows])


def read_soft_labels(dataset: Any, num_classes: int) -> list[np.ndarray]:
    """Soft labels of a target dataset, a (K,) or (words, K) array each, checked against the number of classes.

    Raises:
        ValueError: a stream, no such column, or another number of classes.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            "The objective soft_labels needs a target with row numbers: load it map-style, not streaming."
        )
    if SOFT_LABELS not in column_names(dataset):
        raise ValueError(
            f"The objective soft_labels needs a column {SOFT_LABELS!r} in target_dataset: "
            "add_soft_labels(dataset, probabilities) makes it."
        )
    rows = [np.asarray(row, dtype=np.float32) for row in dataset[SOFT_LABELS]]
    for number, row in enumerate(rows):
        name = f"target_dataset row {number}: {SOFT_LABELS!r}"
        if not row.ndim or row.shape[-1] != num_classes:
            raise ValueError(f"{name} has shape {row.shape}, and the run has {num_classes} classes.")
        _check_distribution(row, name)
    return rows


def _check_distribution(row: np.ndarray, name: str) -> None:
    if row.ndim not in (1, 2) or not np.isfinite(row).all() or (row < 0).any():
        raise ValueError(f"{name} must be probabilities, not {row.tolist()!r:.80}.")
    if row.size and np.abs(row.sum(-1) - 1).max() > SUM_TOLERANCE:
        raise ValueError(f"{name} must sum to 1, not to {float(np.ravel(row.sum(-1))[0]):.3g}.")


class SoftlyLabelled(torch.utils.data.Dataset):
    """Encoded target rows with soft labels beside them; in tagging, one where each word begins, 0 elsewhere.

    Args:
        rows: the encoded target.
        soft_labels: from `read_soft_labels`.

    Raises:
        ValueError: a row of words with another number of soft labels than words.
    """

    def __init__(self, rows: Any, soft_labels: Sequence[np.ndarray]):
        self.rows, self.soft_labels = rows, list(soft_labels)
        if WORD_MASK in rows.column_names:
            self.soft_labels = [
                _at_words(soft, mask, number)
                for number, (soft, mask) in enumerate(zip(self.soft_labels, rows[WORD_MASK], strict=True))
            ]

    def replace_labels(self, soft_labels: Sequence[np.ndarray]) -> None:
        """Other soft labels from now on; workers that read already keep those before.

        Args:
            soft_labels: as many, in the order of the rows.
        """
        self.soft_labels = list(soft_labels)

    @property
    def column_names(self) -> list[str]:
        return [*self.rows.column_names, SOFT_LABELS]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """Row by number; columns of several rows by a list of numbers; a column by name."""
        if isinstance(index, str):
            return self.soft_labels if index == SOFT_LABELS else self.rows[index]
        columns: Mapping[str, Any] = self.rows[index]
        soft = [self.soft_labels[k] for k in index] if isinstance(index, list) else self.soft_labels[int(index)]
        return {**columns, SOFT_LABELS: soft}


def _at_words(soft: np.ndarray, mask: Sequence[int], number: int) -> np.ndarray:
    """(words, K) -> (tokens, K)."""
    begins = np.asarray(mask, dtype=bool)
    if soft.ndim != 2 or len(soft) != begins.sum():
        raise ValueError(
            f"target_dataset row {number}: {begins.sum()} words that the tokenizer keeps, and soft labels of shape "
            f"{soft.shape}."
        )
    spread = np.zeros((len(begins), soft.shape[-1]), dtype=np.float32)
    spread[begins] = soft
    return spread
