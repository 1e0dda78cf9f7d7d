"""Predictions of a candidate on the rows that judge it: the same rows for all candidates, encoded once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.encoder_fingerprint import fingerprint_of
from ..data.label_masking import mask_target_labels
from ..data.row_origins import ORIGIN
from ..selection.domain_distance import proxy_a_distance
from ..trainers.prediction_pass import predict_mixed, predict_rows
from .run_inputs import MOST_JUDGED, RunInputs
from .stored_predictions import StoredPredictions

MIXED_PAIRS = 100
TEST = "the test split of "
LOOKED_AT = 75  # rows of each domain that the proxy A-distance is computed from
JUDGE_SEED = 19  # of the rows that judge: the same for all candidates


class CandidatePredictor:
    """Predictor of the rows that judge candidates.

    Args:
        inputs: what the candidates share.
        target_rows: how many target rows are predicted; all of them judge, up to `MOST_JUDGED`.
    """

    def __init__(self, inputs: RunInputs, target_rows: int):
        self.inputs, self.target_rows = inputs, max(target_rows, inputs.judged_rows)
        self._encoded: dict[str, Any] = {}

    @property
    def rows_to_predict(self) -> np.ndarray:
        """Numbers of the target rows that are predicted, in ascending order."""
        return np.sort(_drawn(len(self.inputs.target), self.target_rows))

    @property
    def judged_rows(self) -> np.ndarray:
        """Numbers of the target rows that judge: the first of the same draw, whatever else is predicted."""
        return _drawn(len(self.inputs.target), min(MOST_JUDGED, self.target_rows))

    def check_rows(self, trainer: Any) -> None:
        """Check that all rows that will be predicted can be; raises what `encode_evaluation` does, by their names."""
        for name in ("target", *self.inputs.validation, *(TEST + name for name in self.inputs.test)):
            self._rows(trainer, name)

    def predict(self, trainer: Any) -> StoredPredictions:
        """Predictions of a trained candidate.

        Raises:
            FloatingPointError: they are not finite.
        """
        inputs = self.inputs
        sources = [predict_rows(trainer, self._rows(trainer, name)) for name in inputs.validation]
        source = {name: np.concatenate([getattr(part, name) for part in sources]) for name in ("logits", "labels")}
        features = _joined([part.features for part in sources])
        encoded, row_numbers = self._rows(trainer, "target"), self.rows_to_predict
        target = predict_rows(trainer, encoded)
        judged = np.flatnonzero(np.isin(row_numbers[target.rows], self.judged_rows))
        mixed: dict[str, Any] = {}
        if trainer.prepared.label_space.task == "sequence-classification" and len(judged) > 1:
            draw = np.random.default_rng(JUDGE_SEED)
            first, second = draw.integers(len(judged), size=(2, min(MIXED_PAIRS, len(judged))))
            first, second = first[first != second], second[first != second]
            rows = target.rows[judged]
            mixed = {"mixed_logits": predict_mixed(trainer, encoded, rows[first], rows[second])}
            mixed |= {"mixed_first": first, "mixed_second": second}
        tests = {name: predict_rows(trainer, self._rows(trainer, TEST + name), features=None) for name in inputs.test}
        source_tests = [part for name, part in tests.items() if name != "target" and part.labels is not None]
        if source_tests:
            mixed["source_test_logits"] = np.concatenate([part.logits for part in source_tests])
            mixed["source_test_labels"] = _joined([part.labels for part in source_tests])
        if "target" in tests:
            mixed["target_test_logits"] = tests["target"].logits
            mixed["target_test_labels_oracle"] = tests["target"].labels
        predictions = StoredPredictions(
            source_validation_logits=source["logits"],
            source_validation_labels=source["labels"],
            target_logits=target.logits,
            target_rows=row_numbers[target.rows],
            judged=judged,
            source_validation_features=features,
            target_features=target.features,
            **mixed,
        )
        broken = predictions.not_finite()
        if broken:
            raise FloatingPointError(f"Its {broken} are not finite.")
        return predictions

    def domain_distance(self, trainer: Any) -> float:
        """Proxy A-distance of source and target on the backbone's features, from a few rows of each."""
        source = next(iter(self.inputs.train.values()))
        source = source.select(np.sort(_drawn(len(source), LOOKED_AT)))
        source_features = predict_rows(trainer, source).features
        target_features = predict_rows(trainer, self._rows(trainer, "target"), LOOKED_AT, JUDGE_SEED).features
        assert source_features is not None
        assert target_features is not None
        return proxy_a_distance(source_features, target_features, JUDGE_SEED)

    def _rows(self, trainer: Any, name: str) -> Any:
        """Rows that are encoded once for all candidates: `"target"`, a source's validation rows, or a test split."""
        encoder_fingerprint = trainer.prepared.encoder.fingerprint
        if fingerprint_of(self._encoded.get(name)) != encoder_fingerprint:
            inputs = self.inputs
            if name == "target":
                rows, title = _selected(inputs.target, self.rows_to_predict, inputs.args.label_column), name
            elif name.startswith(TEST):
                rows, title = inputs.test[name.removeprefix(TEST)], name
            else:
                rows, title = inputs.validation[name], f"the validation split of {name}"
            self._encoded[name] = trainer.prepared.encode_evaluation(rows, title)
        return self._encoded[name]


def _drawn(rows: int, count: int) -> np.ndarray:
    return np.random.default_rng(JUDGE_SEED).permutation(rows)[:count]


def _selected(target: Any, rows: np.ndarray, label_column: str) -> Any:
    """Target rows without labels; in messages they keep their numbers."""
    if ORIGIN not in target.column_names and len(rows) < len(target):
        target = target.add_column(ORIGIN, [str(row) for row in range(len(target))])
    return mask_target_labels(target.select(rows), label_column)


def _joined(arrays: list[Any]) -> Any:
    return None if any(array is None for array in arrays) else np.concatenate(arrays)
