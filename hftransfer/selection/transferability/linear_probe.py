"""Linear probe: a regularised logistic regression on frozen features, cross-validated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .transferability_score import TransferabilityScore

FOLDS = 5
STRENGTH = 0.01  # scikit-learn's C, on standardised features
NEVER = -1e6  # logit of a class that the probe has not seen


@dataclass(frozen=True)
class Probe:
    """Fitted linear probe.

    Attributes:
        mean, scale: (d,), of the features that it was fitted on.
        weights, bias: (K, d) and (K,).
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n, d) features -> (n, K)."""
        return (features - self.mean) / self.scale @ self.weights.T + self.bias


def fit_probe(
    features: np.ndarray,
    classes: np.ndarray,
    class_count: int | None = None,
    row_weights: np.ndarray | None = None,
    strength: float | None = None,
) -> Probe:
    r"""Linear probe fitted on frozen features: multinomial logistic regression with an L2 penalty.

    \[\min_W\ \tfrac12\lVert W\rVert^2 + C\sum_i w_i\cdot-\log\mathrm{softmax}(Wx_i + b)_{y_i}\]

    on standardised features with C = 0.01, or with a C of your own on features of spread one: centred and divided by
    one number, the root of the sum of their variances, so that directions keep their proportions. In single precision.
    Of two classes, only the difference of their weights is penalised: the usual binary regression.

    Args:
        features: (n, d).
        classes: (n,) ids, of which some may not occur.
        class_count: K; one more than the largest id when `None`. A class that does not occur is never predicted: its
            logit is far below all others.
        row_weights: (n,) what each row counts, 1 on average; all alike when `None`.
        strength: C, on features of spread one; see `cross_validated_strength`.

    Example:
        >>> probe = fit_probe(np.array([[0.0], [0.1], [5.0], [5.1]]), np.array([0, 0, 2, 2]))
        >>> probe.logits(np.array([[0.0], [5.0]])).argmax(1)
        array([0, 2])
    """
    from sklearn.linear_model import LogisticRegression

    present, inverse = np.unique(classes, return_inverse=True)
    count = int(present[-1]) + 1 if class_count is None else class_count
    mean, scale = features.mean(0), features.std(0)
    if strength is not None:
        scale = np.full_like(scale, np.sqrt(np.square(scale).sum()))
    scale = np.where(scale > 0, scale, 1.0)
    weights, bias = np.zeros((count, features.shape[1])), np.full(count, NEVER)
    bias[present] = 0.0
    if len(present) > 1:
        standardised = ((features - mean) / scale).astype(np.float32)
        regression = LogisticRegression(C=STRENGTH if strength is None else strength, max_iter=1000)
        regression.fit(standardised, inverse.reshape(-1), sample_weight=row_weights)
        found, offset = regression.coef_.astype(np.float64), regression.intercept_.astype(np.float64)
        if len(present) == 2:  # scikit-learn keeps the second class's alone
            found, offset = np.concatenate([0 * found, found]), np.append(0 * offset, offset)
        weights[present], bias[present] = found, offset
    return Probe(mean, scale, weights, bias)


def held_out_logits(
    features: np.ndarray, classes: np.ndarray, seed: int = 0, folds: int = FOLDS, class_count: int | None = None
) -> np.ndarray:
    """(n, K) logits of a linear probe, each row by one that did not see it.

    Args:
        features: (n, d).
        classes: (n,) ids.
        seed: of the folds, in each of which every class has its share of rows.
        folds: how many; fewer where there are fewer rows.
        class_count: K, as in `fit_probe`.

    Example:
        >>> held_out_logits(np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]), np.array([0, 0, 0, 1, 1, 1])).shape
        (6, 2)
    """
    fold = stratified_folds(classes, seed, min(folds, len(classes)))
    logits = np.zeros((len(classes), class_count or int(classes.max()) + 1))
    for number in range(fold.max() + 1):
        held_out = fold == number
        probe = fit_probe(features[~held_out], classes[~held_out], logits.shape[1])
        logits[held_out] = probe.logits(features[held_out])
    return logits


def stratified_folds(classes: np.ndarray, seed: int, folds: int) -> np.ndarray:
    """(n,) fold of each row: shuffled rows, class by class, are dealt out in turn."""
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(len(classes), dtype=int)
    fold[order] = np.arange(len(classes)) % folds
    return fold


class LinearProbe(TransferabilityScore):
    """Accuracy of a linear probe on frozen features, in five-fold cross-validation.

    What a head on the frozen checkpoint would reach, measured and not guessed: the score that ranks checkpoints. A
    class of one row counts as wrong. Weights and penalty are those of `fit_probe`.

    Args:
        folds: how many.

    Paper: Alain and Bengio, Understanding Intermediate Layers using Linear Classifier Probes, arXiv 1610.01644.
    """

    name = "probe"
    paper = "Alain and Bengio, Linear Classifier Probes, arXiv 1610.01644"

    def __init__(self, folds: int = FOLDS):
        if folds < 2:
            raise ValueError(f"folds={folds} must be at least 2.")
        self.folds = folds

    def compute(self, features: np.ndarray, classes: np.ndarray, seed: int) -> float:
        return (held_out_logits(features, classes, seed, self.folds).argmax(1) == classes).mean()
