"""TrAdaBoost: boosting in which source rows that disagree with a few target labels count less and less."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from ...setting_ranges import COUNT, SEED
from ..feature_arrays import domain_matrices, fitted_matrix, remember_columns
from ..label_arrays import check_one_kind, label_array

CAP = 0.49  # of the error on target rows: above 1/2 the paper's factor would be below 1


class TrAdaBoost(ClassifierMixin, BaseEstimator):
    r"""TrAdaBoost: classifier from many source rows and a few labelled target rows.

    Each round fits the estimator on all rows. Source rows that it gets wrong are taken for unlike the target and count
    less; target rows that it gets wrong count more, as in AdaBoost:

    \[w_i \leftarrow \begin{cases} w_i\,\beta^{[h_t(x_i) \ne y_i]} & \text{source}, \quad
        \beta = 1/(1 + \sqrt{2 \ln n / N}) \\
      w_i\,\beta_t^{-[h_t(x_i) \ne y_i]} & \text{target}, \quad \beta_t = \epsilon_t/(1-\epsilon_t) \end{cases}\]

    \(\epsilon_t\) is the weighted error on target rows, at most 0.49 and, where the paper divides by 0, at least half
    a row's share of them. The rounds from \(\lceil N/2 \rceil\) on vote with \(\ln(1/\beta_t)\); with two classes
    this is the paper's rule, and the second class has the tie. More classes vote alike. n are the source rows, N the
    rounds.
    An estimator without `sample_weight`, such as a `Pipeline`, is fitted on rows drawn by weight.

    Args:
        estimator: any classifier; logistic regression when absent.
        rounds: N.
        seed: of the rows that are drawn.

    Attributes:
        estimators_: N fitted estimators.
        errors_: (N,) \(\epsilon_t\).
        source_weights_, target_weights_: (n,) and (m,), after the last round; together their sum is 1.
        classes_: (K,) labels.

    Raises:
        ValueError: no target rows or labels, labels of another number than rows, one class alone, or fewer than one
            round.

    Paper: Dai, Yang, Xue and Yu, Boosting for Transfer Learning, ICML 2007.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> source, target = draw.normal(size=(200, 2)), draw.normal(size=(20, 2))
        >>> labels, target_labels = (source[:, 0] > 0.5).astype(int), (target[:, 0] > 0).astype(int)
        >>> boosted = TrAdaBoost(rounds=10).fit(source, labels, target=target, target_labels=target_labels)
        >>> boosted.predict([[3.0, 0.0], [-3.0, 0.0]])
        array([1, 0])
    """

    __metadata_request__fit = {"target": True, "target_labels": True}  # noqa: RUF012  as FeatureAdapter

    def __init__(self, estimator: Any = None, rounds: int = 20, seed: int = 0):
        self.estimator = estimator
        self.rounds = rounds
        self.seed = seed

    def fit(
        self, X: ArrayLike, y: ArrayLike, target: ArrayLike | None = None, target_labels: ArrayLike | None = None
    ) -> TrAdaBoost:
        """Fits the rounds.

        Args:
            X: (n, d) source rows.
            y: (n,) their labels.
            target: (m, d) labelled target rows.
            target_labels: (m,) their labels.
        """
        if target is None or target_labels is None:
            raise ValueError(
                "TrAdaBoost needs a few labelled target rows: fit(X, y, target=X_target, target_labels=y_target)."
            )
        rounds, seed = int(COUNT.read("rounds", self.rounds)), int(SEED.read("seed", self.seed))
        source_rows, target_rows = domain_matrices(X, target, "X", "target")
        n, m = len(source_rows), len(target_rows)
        given = [label_array("y", y, n), label_array("target_labels", target_labels, m)]
        check_one_kind("y and target_labels", [label for array in given for label in array.tolist()])
        rows, labels = np.concatenate([source_rows, target_rows]), np.concatenate(given)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"There is one class alone ({self.classes_[0].item()!r}): nothing to tell apart.")
        remember_columns(self, X, rows.shape[1])
        draw = np.random.default_rng(seed)
        source_factor = 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
        weights = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
        self.estimators_, errors = [], []
        for _ in range(rounds):
            weights = weights / weights.sum()
            estimator = self._fitted(rows, labels, weights, draw)
            wrong = np.asarray(estimator.predict(rows)) != labels
            error = weights[n:][wrong[n:]].sum() / weights[n:].sum()
            error = float(np.clip(error, 0.5 / m, CAP))
            weights = weights * np.where(wrong, np.repeat([source_factor, (1 - error) / error], [n, m]), 1.0)
            self.estimators_.append(estimator)
            errors.append(error)
        weights = weights / weights.sum()
        self.source_weights_, self.target_weights_ = weights[:n], weights[n:]
        self.errors_ = np.array(errors)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Classes of target rows, (rows, d) -> (rows,)."""
        votes = self.decision_votes(X)
        last_of_best = votes.shape[1] - 1 - votes[:, ::-1].argmax(1)  # a tie goes to the later class
        return self.classes_[last_of_best]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Shares of the vote, (rows, d) -> (rows, K), in the order of `classes_`; they are not calibrated."""
        votes = self.decision_votes(X)
        return votes / votes.sum(1, keepdims=True)

    def decision_votes(self, X: ArrayLike) -> np.ndarray:
        """Sums of the votes by class, (rows, d) -> (rows, K), in the order of `classes_`."""
        rows = fitted_matrix(self, X)
        votes = np.zeros((len(rows), len(self.classes_)))
        first = math.ceil(len(self.estimators_) / 2) - 1
        for estimator, error in zip(self.estimators_[first:], self.errors_[first:], strict=True):
            answers = np.asarray(estimator.predict(rows))[:, None] == self.classes_
            votes += answers * math.log((1 - error) / error)
        return votes

    def _fitted(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, draw: np.random.Generator) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.utils.validation import has_fit_parameter

        estimator = LogisticRegression(max_iter=1000) if self.estimator is None else clone(self.estimator)
        if has_fit_parameter(estimator, "sample_weight"):
            # Mean 1, so that a penalty of the estimator's counts as it does without weights.
            return estimator.fit(rows, labels, sample_weight=weights * len(weights))
        drawn = draw.choice(len(rows), len(rows), p=weights)
        if len(np.unique(labels[drawn])) < 2:  # a last resort: one row of each class, or most estimators refuse
            drawn = np.concatenate([drawn, [np.flatnonzero(labels == label)[0] for label in self.classes_]])
        return estimator.fit(rows[drawn], labels[drawn])
