"""Predictions of one model: the arrays that every score without target labels is computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..embeddings.instances.domain_classifier import cross_fitted_ratio

Array = np.ndarray
FIELDS = ("source_logits", "source_labels", "target_logits", "source_features", "target_features")


def softmax(logits: ArrayLike) -> Array:
    """(…, K) logits -> (…, K) probabilities, in double precision."""
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@dataclass
class MixedPairs:
    """Predictions on mixtures of two target rows each, for `MixVal`.

    Args:
        probabilities: (p, K) of the mixtures λ·first + (1 - λ)·second.
        first, second: (p,) rows of the target.
    """

    probabilities: Array
    first: Array
    second: Array


@dataclass
class Predictions:
    """Predictions of one model on source validation rows, and on rows of the target without their labels.

    Args:
        source_logits: (n, K), of rows that were not trained on.
        source_labels: (n,) class ids.
        target_logits: (m, K).
        source_features, target_features: (n, d) and (m, d), what the final layer sees; for some scores.
        reference_probabilities: (m, K), the mean prediction of all candidates; for `ensemble_agreement`.
        mixed: predictions on mixtures of target rows; for `mixval_inter` and `mixval_intra`.
        seed: of whatever a score draws.

    Raises:
        ValueError: arrays that do not fit each other, no rows, or numbers that are not finite.

    Example:
        >>> p = Predictions(source_logits=[[2.0, 0.0], [0.0, 2.0]], source_labels=[0, 1], target_logits=[[3.0, 0.0]])
        >>> p.target_probabilities.round(2)
        array([[0.95, 0.05]])
    """

    source_logits: Any
    source_labels: Any
    target_logits: Any
    source_features: Any = None
    target_features: Any = None
    reference_probabilities: Any = None
    mixed: MixedPairs | None = None
    seed: int = 0
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        self.source_logits = self._matrix("source_logits")
        self.target_logits = self._matrix("target_logits", columns=self.source_logits.shape[1])
        self.source_labels = np.asarray(self.source_labels).astype(np.int64)
        n, classes = self.source_logits.shape
        if self.source_labels.shape != (n,):
            raise ValueError(f"source_labels has shape {self.source_labels.shape} where source_logits has {n} rows.")
        if self.source_labels.min() < 0 or self.source_labels.max() >= classes:
            raise ValueError(f"source_labels must be class ids from 0 to {classes - 1}.")
        if self.source_features is not None:
            self.source_features = self._matrix("source_features", rows=n)
        if self.target_features is not None:
            width = None if self.source_features is None else self.source_features.shape[1]
            self.target_features = self._matrix("target_features", rows=len(self.target_logits), columns=width)
        if self.reference_probabilities is not None:
            self.reference_probabilities = self._matrix("reference_probabilities", *self.target_logits.shape)

    def _matrix(self, name: str, rows: int | None = None, columns: int | None = None) -> Array:
        value = np.asarray(getattr(self, name), dtype=np.float64)
        if value.ndim != 2 or not value.size:
            raise ValueError(
                f"{name} must be a matrix of at least one row and one column, not of shape {value.shape}."
            )
        for size, wanted, what in zip(value.shape, (rows, columns), ("rows", "columns"), strict=True):
            if wanted is not None and size != wanted:
                raise ValueError(f"{name} has {size} {what} where {wanted} are needed.")
        if not np.isfinite(value).all():
            row = int(np.flatnonzero(~np.isfinite(value).all(1))[0])
            raise ValueError(f"{name} is not finite in row {row}: the model that made it is broken.")
        return value

    @cached_property
    def source_probabilities(self) -> Array:
        """(n, K)."""
        return softmax(self.source_logits)

    @cached_property
    def target_probabilities(self) -> Array:
        """(m, K)."""
        return softmax(self.target_logits)

    @cached_property
    def density_ratio(self) -> Array | None:
        """(n,) p_T(x)/p_S(x) of the source rows, from a cross-fitted classifier of domains on features."""
        if self.source_features is None or self.target_features is None:
            return None
        return cross_fitted_ratio(self.source_features, self.target_features, self.seed)

    def save(self, path: str | Path) -> None:
        """Writes logits, labels and features to an .npz file, whole or not at all."""
        path = Path(path)
        arrays = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path, **more: Any) -> Predictions:
        """Reads what `save` wrote.

        Raises:
            ValueError: a file that is no such file, or lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in FIELDS if name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as predictions: {error}") from error
        missing = [name for name in FIELDS[:3] if name not in arrays]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}: it holds no predictions.")
        return cls(**arrays, **more)
