"""Importance-weighted risk on the source, and its versions of smaller variance."""

from __future__ import annotations

import numpy as np

from .validator import Validator


def losses(probabilities: np.ndarray, labels: np.ndarray, loss: str) -> np.ndarray:
    """(n, K) and (n,) -> (n,) losses: `"error"` is 0 or 1, `"cross_entropy"` in nats."""
    if loss == "error":
        return (probabilities.argmax(1) != labels).astype(np.float64)
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))


class ImportanceWeightedRisk(Validator):
    r"""Importance-weighted risk: minus the loss on source rows that are weighted as if they were the target's.

    \[-\frac{1}{n}\sum_i w_i\,\ell_i, \qquad w_i = p_T(x_i)/p_S(x_i)\]

    Args:
        loss: `"error"` (0 or 1) or `"cross_entropy"`.

    Paper: Sugiyama, Krauledat and Müller, Covariate Shift Adaptation by Importance Weighted Cross Validation,
    JMLR 2007.
    """

    name = "importance_weighted"
    paper = "Sugiyama, Krauledat and Müller, Importance Weighted Cross Validation, JMLR 2007"

    def __init__(self, loss: str = "error"):
        if loss not in ("error", "cross_entropy"):
            raise ValueError(f"loss={loss!r} must be 'error' or 'cross_entropy'.")
        self.loss = loss

    def weights(self, ratio: np.ndarray) -> np.ndarray:
        """(n,) density ratios -> (n,) weights of the rows."""
        return ratio

    def control(self, weighted: np.ndarray, weights: np.ndarray) -> float:
        """What a control variate adds to the mean weighted loss."""
        return 0.0

    def compute(self, source_probabilities: np.ndarray, source_labels: np.ndarray, density_ratio: np.ndarray) -> float:
        weights = self.weights(density_ratio)
        weighted = weights * losses(source_probabilities, source_labels, self.loss)
        return -(weighted.mean() + self.control(weighted, weights))


class DEV(ImportanceWeightedRisk):
    r"""Deep embedded validation: the importance-weighted risk with a control variate.

    \[-\left[\frac1n\sum_i w_i\ell_i + \eta\,\Big(\frac1n\sum_i w_i - 1\Big)\right], \qquad
      \eta = -\frac{\mathrm{Cov}(w\ell, w)}{\mathrm{Var}(w)}\]

    Paper: You et al., Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation, ICML 2019.
    """

    name = "dev"
    paper = "You et al., Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation, ICML 2019"

    def control(self, weighted: np.ndarray, weights: np.ndarray) -> float:
        variance = weights.var()
        if variance == 0:
            return 0.0
        covariance = ((weighted - weighted.mean()) * (weights - weights.mean())).mean()
        return -covariance / variance * (weights.mean() - 1)


class DEVN(DEV):
    """Normalised deep embedded validation: DEV with weights divided by their largest.

    Paper: Musgrave, Belongie and Lim, Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain
    Adaptation, arXiv 2208.07360.
    """

    name = "devn"
    paper = "Musgrave, Belongie and Lim, Three New Validators, arXiv 2208.07360"

    def weights(self, ratio: np.ndarray) -> np.ndarray:
        return ratio / ratio.max()
