"""Joint distribution optimal transport (DeepJDOT) of features and labels."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import torch

from ...extras import install_hint
from ..base import Objective, Range, is_positive
from ..kernels import squared_distances, squared_norms
from ..moments import centred, row_weights, shares

PIVOTS = 1_000_000  # of the exact solver; POT's own limit is reached by batches of a few thousand rows


class DeepJDOT(Objective):
    r"""Joint distribution optimal transport of features and labels.

    Source rows are matched with target rows that lie near and are predicted as the source row is labelled.

    \[\sum_{ij}\gamma_{ij}\,c_{ij},\qquad
      c_{ij} = \alpha\,\lVert s_i - t_j\rVert^2 - \lambda\,\log p_j(y_i),\qquad
      \gamma = \arg\min_{\gamma\in\Pi(w,\,1/m)}\sum_{ij}\gamma_{ij}\,c_{ij}\]

    The plan γ is found by POT, in float64 on the host, and is a constant for the gradient, which flows through the
    cost: matched features are drawn together, and the target is trained on the labels of its matches. Every process
    finds the same plan, as it solves the same problem.

    Source weights, over their sum, are the plan's source marginal. A source row without a label has no label cost.

    Args:
        alpha: α. Squared distances grow with the width of the features, the label cost does not.
        label_weight: λ.
        regularization: 0 for the exact plan; else entropic, by Sinkhorn, with this share of the mean cost (above the
            least cost of each row and column, which no plan can save).

    Shapes: (n, d), (m, d), (n,), (m, K), (n,) -> ().

    Raises:
        ImportError: POT is not installed.

    Paper: Damodaran et al., DeepJDOT: Deep Joint Distribution Optimal Transport for Unsupervised Domain Adaptation,
    ECCV 2018.
    """

    paper = "Damodaran et al., DeepJDOT: Deep Joint Distribution Optimal Transport, ECCV 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {
        "weight": Range(0.01, 1.0, log=True),
        "alpha": Range(1e-3, 0.1, log=True),
        "label_weight": Range(0.01, 1.0, log=True),
        "regularization": (0.0, 0.05, 0.2),
    }

    def __init__(self, alpha: float = 0.01, label_weight: float = 0.1, regularization: float = 0.0):
        super().__init__()
        for name, value in (("alpha", alpha), ("label_weight", label_weight), ("regularization", regularization)):
            if value != 0 and not is_positive(value):
                raise ValueError(f"{name}={value!r} must be a number of at least 0.")
        if alpha == label_weight == 0:
            raise ValueError("alpha and label_weight are both 0: no plan costs anything.")
        if find_spec("ot") is None:
            raise ImportError(f"deepjdot needs POT, which is not installed: {install_hint('transport')}")
        self.alpha, self.label_weight, self.regularization = alpha, label_weight, regularization

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        x, y = centred(source_features, target_features)
        distances = squared_distances(x, y, squared_norms(x), squared_norms(y))
        label_cost = -target_logits.log_softmax(-1).T[source_labels.clamp_min(0)]  # (n, m)
        is_labelled = (source_labels >= 0).unsqueeze(1)
        cost = self.alpha * distances + self.label_weight * torch.where(is_labelled, label_cost, 0.0)
        return (self._plan(cost.detach(), shares(source_weights)) * cost).sum()

    @torch.compiler.disable
    def _plan(self, cost: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """(n, m) transport plan. POT works on the host, so this waits for the device."""
        c, a = (x.double().cpu().numpy() for x in (cost, source))
        b = np.full(c.shape[1], 1 / c.shape[1])
        # Constants added to a row or a column change no plan. Without them every row and column has a cost of 0, so
        # that a far outlier does not underflow in Sinkhorn's kernel.
        c = c - c.min(1, keepdims=True)
        c = c - c.min(0, keepdims=True)
        scale = c.mean()
        plan = np.outer(a, b)
        # What is not finite must not end the run here: it makes the value NaN, and whoever watches losses sees that.
        if np.isfinite(scale) and scale > 0:
            rows = a > 0
            plan[rows] = self._solve(a[rows] / a.sum(), b, c[rows] / scale)
        return torch.from_numpy(plan).to(cost)

    def _solve(self, a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> np.ndarray:
        import ot

        if self.regularization == 0:
            return ot.emd(a, b, cost, numItermax=PIVOTS)
        return ot.sinkhorn(a, b, cost, self.regularization, stopThr=1e-6, warn=False)
