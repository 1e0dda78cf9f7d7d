"""Pseudo-label classifier on aligned features: covariance alignment, then self-training on the surest target rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from ...setting_ranges import Bounds
from ..feature_arrays import domain_matrices, fitted_matrix, remember_columns
from ..label_arrays import label_array
from .correlation_alignment import CorrelationAlignment
from .feature_adapter import asked_target

ROUNDS = Bounds(0, whole=True)


class PseudoLabelClassifier(ClassifierMixin, BaseEstimator):
    r"""Classifier of target rows: features aligned, then fitted again and again with its surest answers on the target.

    In round \(r\) of \(R\) the classifier predicts the target; of each class that it predicts, the share \(r/R\) of
    which it is surest joins the source rows, with the predicted labels, and the classifier is fitted anew. In the last
    round all target rows take part. A share of each predicted class, not all above one threshold, keeps easy classes
    from pushing hard ones out. Alignment and pseudo-labels on fixed features are PACE's first two steps; the order in
    which rows join is Wang and Breckon's. No network is trained, and no target label is read.

    It hurts where the first classifier is wrong on the target more often than not: it is then taught its mistakes.

    Args:
        estimator: classifier with `predict_proba`; logistic regression when absent.
        alignment: a `FeatureAdapter`; `CorrelationAlignment()` when absent.
        rounds: R; 0 is the aligned classifier without pseudo-labels.

    Attributes:
        alignment_, estimator_: as fitted.
        classes_: (K,) labels.

    Raises:
        ValueError: see `FeatureAdapter.fit`; labels of another number than rows, one class alone, a negative number of
            rounds, or an estimator without `predict_proba`.

    Papers: Liao, Tsiligkaridis and Kulis, Pick up the PACE: Fast and Simple Domain Adaptation via Ensemble
    Pseudo-Labeling, arXiv 2205.13508, without its ensemble of backbones; Wang and Breckon, Unsupervised Domain
    Adaptation via Structured Prediction Based Selective Pseudo-Labeling, AAAI 2020.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1], 100)
        >>> source = draw.normal(size=(200, 2)) + 4 * labels[:, None]
        >>> target = 2 * source + 5
        >>> PseudoLabelClassifier().fit(source, labels, target=target).score(target, labels) > 0.95
        True
    """

    __metadata_request__fit = {"target": True}  # noqa: RUF012  as FeatureAdapter

    def __init__(self, estimator: Any = None, alignment: Any = None, rounds: int = 5):
        self.estimator = estimator
        self.alignment = alignment
        self.rounds = rounds

    def fit(self, X: ArrayLike, y: ArrayLike, target: ArrayLike | None = None) -> PseudoLabelClassifier:
        """Fits alignment and classifier.

        Args:
            X: (n, d) source rows.
            y: (n,) their labels.
            target: (m, d) target rows, without labels.
        """
        rounds = int(ROUNDS.read("rounds", self.rounds))
        source_rows, target_rows = domain_matrices(X, asked_target(target, self), "X", "target")
        labels = label_array("y", y, len(source_rows))
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class alone ({self.classes_[0].item()!r}): there is nothing to tell apart.")
        self.alignment_ = CorrelationAlignment() if self.alignment is None else clone(self.alignment)
        remember_columns(self, X, source_rows.shape[1])
        source = self.alignment_.fit_transform(source_rows, labels, target=target_rows)
        target_rows = self.alignment_.transform(target_rows)
        self.estimator_ = self._new_estimator().fit(source, labels)
        for number in range(1, rounds + 1):
            chosen, answers = surest_of_each_class(self.estimator_.predict_proba(target_rows), number / rounds)
            rows = np.concatenate([source, target_rows[chosen]])
            joint_labels = np.concatenate([labels, self.estimator_.classes_[answers]])
            self.estimator_ = self._new_estimator().fit(rows, joint_labels)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Classes of target rows: (rows, d) -> (rows,)."""
        rows = self._aligned(X)
        return np.asarray(self.estimator_.predict(rows))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of target rows, (rows, d) -> (rows, K), in the order of `classes_`."""
        rows = self._aligned(X)
        return np.asarray(self.estimator_.predict_proba(rows))

    def _aligned(self, X: ArrayLike) -> Any:
        rows = fitted_matrix(self, X)  # before fit there is no alignment
        return self.alignment_.transform(rows)

    def _new_estimator(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        estimator = LogisticRegression(max_iter=1000) if self.estimator is None else clone(self.estimator)
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{type(estimator).__name__} has no predict_proba, which says how sure an answer is.")
        return estimator


def surest_of_each_class(probabilities: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which a classifier is surest, a share of each predicted class, rounded up; and their classes.

    Args:
        probabilities: (m, K).
        share: between 0 and 1.

    Returns:
        Row numbers in order, and class numbers, of equal length.

    Example:
        >>> surest_of_each_class(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), 0.5)
        (array([0, 2]), array([0, 1]))
    """
    answers, sureness = probabilities.argmax(1), probabilities.max(1)
    chosen: list[int] = []
    for answer in np.unique(answers):
        rows = np.flatnonzero(answers == answer)
        order = rows[np.argsort(-sureness[rows], kind="stable")]
        chosen += order[: math.ceil(share * len(rows))].tolist()
    numbers = np.array(sorted(chosen), dtype=np.int64)
    return numbers, answers[numbers]
