"""Open-set domain adaptation by backpropagation (OSBP), for a target with classes that the source lacks."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..adversarial import SEARCH, Discriminator, reverse_gradient, weighted_cross_entropy
from ..base import Objective, Range
from ..moments import row_weights


class OSBP(Objective):
    r"""Open-set domain adaptation by backpropagation.

    A further head with K + 1 classes, the last one "unknown", puts the border between known and unknown through the
    target; the encoder moves each target row to one side of it.

    With q the softmax of that head,

    \[\min_h\; L + A,\qquad \text{encoder: } \lambda(p)\,\nabla(L - A)\]

    \[L = \frac{\sum_i w_i\,(-\log q_{y_i}(s_i))}{\sum_i w_i},\qquad
      A = -\frac1m\sum_j \Big(b\log q_{K+1}(t_j) + (1-b)\log\big(1 - q_{K+1}(t_j)\big)\Big)\]

    The head alone would answer b for every target row; the encoder gains by making a row clearly known or clearly
    unknown. Source rows without a label are left out, w are `source_weights`. A is at least -b log b - (1-b) log(1-b),
    log 2 for b = ½.

    The head is the objective's. **The model that is saved has K classes and knows no "unknown"**: its own head names
    one of the K for every row. `unknown_probability` gives \(q_{K+1}\) while the objective is at hand.

    Args:
        feature_dim, num_classes: widths.
        boundary: b, between 0 and 1.
        hidden, depth: of the head.

    Shapes: (n, d), (m, d), (n,), (n,) -> ().

    Paper: Saito et al., Open Set Domain Adaptation by Backpropagation, ECCV 2018.
    """

    paper = "Saito et al., Open Set Domain Adaptation by Backpropagation, ECCV 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"boundary": Range(0.2, 0.8)}

    def __init__(self, feature_dim: int, num_classes: int, boundary: float = 0.5, hidden: int = 256, depth: int = 2):
        super().__init__()
        if not isinstance(boundary, (int, float)) or not 0 < boundary < 1:
            raise ValueError(f"boundary={boundary!r} must be a number between 0 and 1, exclusive.")
        self.boundary = boundary
        self.head = Discriminator(feature_dim, hidden, depth, num_classes + 1)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        # The encoder helps with the labels (reversed twice) and works against the border, both times `strength`.
        s, t = reverse_gradient(source_features, -strength), reverse_gradient(target_features, strength)
        unknown = self._unknown(t)
        border = F.binary_cross_entropy_with_logits(unknown, torch.full_like(unknown, self.boundary))
        return weighted_cross_entropy(self.head(s), source_labels, source_weights) + border

    @torch.no_grad()
    def unknown_probability(self, features: torch.Tensor) -> torch.Tensor:
        """Probability of each row to be of no known class, (rows, d) -> (rows,)."""
        return self._unknown(features).sigmoid()

    def _unknown(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of "unknown"."""
        logits = self.head(features)
        return logits[:, -1] - logits[:, :-1].logsumexp(-1)
