"""Stored predictions of a candidate: one npz file from which all is judged, so that nothing is trained twice."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..models.disk_space import enough_disk_space
from ..selection.model_predictions import MixedPairs, Predictions, softmax


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions of one candidate on the rows that judge it.

    Args:
        source_validation_logits, source_validation_labels: (n, K) and (n,).
        target_logits: (m, K), of target rows drawn once for all candidates; in tagging of their words.
        target_rows: (m,) their numbers in the target data set.
        judged: (j,) which of them judge.
        source_validation_features, target_features: (n, d) and (m, d) on a fixed projection, half precision.
        mixed_logits, mixed_first, mixed_second: (p, K) on mixtures of two target rows, and their numbers (p,) within
            the judged rows.
        source_test_logits, source_test_labels: where there is a test split; only ever shown.
        target_test_logits, target_test_labels_oracle: where there is one, and where it has labels; only ever shown.
    """

    source_validation_logits: np.ndarray
    source_validation_labels: np.ndarray
    target_logits: np.ndarray
    target_rows: np.ndarray
    judged: np.ndarray
    source_validation_features: np.ndarray | None = None
    target_features: np.ndarray | None = None
    mixed_logits: np.ndarray | None = None
    mixed_first: np.ndarray | None = None
    mixed_second: np.ndarray | None = None
    source_test_logits: np.ndarray | None = None
    source_test_labels: np.ndarray | None = None
    target_test_logits: np.ndarray | None = None
    target_test_labels_oracle: np.ndarray | None = None

    def predictions(self, seed: int = 0) -> Predictions:
        """Predictions on source validation and the judged target rows, as validators read them."""
        mixed = None
        if self.mixed_logits is not None and self.mixed_first is not None and self.mixed_second is not None:
            mixed = MixedPairs(softmax(self.mixed_logits), self.mixed_first, self.mixed_second)
        return Predictions(
            self.source_validation_logits,
            self.source_validation_labels,
            self.target_logits[self.judged],
            self.source_validation_features,
            None if self.target_features is None else self.target_features[self.judged],
            mixed=mixed,
            seed=seed,
        )

    def of_rows(self, rows: np.ndarray) -> StoredPredictions:
        """Predictions on fewer target rows.

        Args:
            rows: numbers in the target data set, those that judge among them.
        """
        kept = np.isin(self.target_rows, rows)
        if kept.all():
            return self
        return replace(
            self,
            target_logits=self.target_logits[kept],
            target_rows=self.target_rows[kept],
            judged=(np.cumsum(kept) - 1)[self.judged],
            target_features=None if self.target_features is None else self.target_features[kept],
        )

    def not_finite(self) -> str:
        """Name of an array with values that are not finite; empty without."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        names = (name for name, array in arrays.items() if array is not None and not np.isfinite(array).all())
        return next(names, "").replace("_", " ")

    def save(self, path: Path) -> None:
        """Written whole or not at all.

        Raises:
            DiskFullError: there is not enough room.
        """
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        partial = path.with_name(f".{path.name}.part")
        try:
            with enough_disk_space("predictions", path.parent, 0), partial.open("wb") as file:
                np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> StoredPredictions:
        """What `save` wrote.

        Raises:
            ValueError: no such file, or one that lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: Mapping[str, Any] = {name: file[name] for name in file.files}
            return cls(**arrays)
        except (OSError, ValueError, EOFError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read as stored predictions: {error}") from error

    @classmethod
    def mean(cls, parts: list[StoredPredictions], probabilities: list[StoredPredictions]) -> StoredPredictions:
        """Mean of several candidates' probabilities, as logits.

        Args:
            parts: of the same rows; features are left out.
            probabilities: the same, with logits of calibrated probabilities.
        """

        def mean_of(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in probabilities]
            if any(array is None for array in arrays):
                return None
            return np.log(np.maximum(np.mean([softmax(array) for array in arrays], axis=0), 1e-12))

        first = parts[0]
        means = {name: mean_of(name) for name in LOGITS}
        kept = {f.name: getattr(first, f.name) for f in fields(cls) if "features" not in f.name}
        return cls(**(kept | means))

    def map_logits(self, change: Any) -> StoredPredictions:
        """Copy with a function applied to every (rows, K) array of logits."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {name: None if arrays[name] is None else change(arrays[name]) for name in LOGITS}
        return StoredPredictions(**(arrays | changed))


LOGITS = ("source_validation_logits", "target_logits", "mixed_logits", "source_test_logits", "target_test_logits")
