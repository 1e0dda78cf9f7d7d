"""Maximum classifier discrepancy (MCD), in one step."""

from __future__ import annotations

import torch

from ..adversarial import SEARCH, Discriminator, reverse_gradient, weighted_cross_entropy
from ..base import Objective, Range
from ..moments import row_weights


class MCD(Objective):
    r"""Maximum classifier discrepancy.

    Two further heads learn the source's labels and, beyond that, to disagree on the target; the encoder is moved to
    where they agree, inside the source's support.

    \[\min_{h_1, h_2}\; L(h_1) + L(h_2) - d,\qquad \text{encoder: } \lambda(p)\,\nabla\big(L(h_1) + L(h_2) + d\big)\]

    \[L(h) = \frac{\sum_i w_i\,\mathrm{CE}(h(s_i), y_i)}{\sum_i w_i},\qquad
      d = \frac{1}{mK}\sum_{jk} \big|\mathrm{softmax}(h_1(t_j))_k - \mathrm{softmax}(h_2(t_j))_k\big|\]

    The value is the heads' loss, near -d once they have learnt the source; d is between 0 and 2/K. Source rows without
    a label are left out, w are `source_weights`.

    This is the form with gradient reversal: heads and encoder move in one step, and the heads are beside the model's
    own, which is what is saved. The paper alternates three steps (A: all on the source; B: heads against each other,
    encoder fixed; C: encoder alone, four times), and predicts with the two heads.

    Args:
        feature_dim, num_classes: widths.
        hidden, depth: of each head.

    Shapes: (n, d), (m, d), (n,), (n,) -> ().

    Paper: Saito et al., Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018.
    """

    paper = "Saito et al., Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018"
    default_weight = 0.03  # at 0.1 one run of three lost eight points on its own source
    default_schedule = "warm_start"
    search = SEARCH | {"weight": Range(0.003, 0.3, log=True)}

    def __init__(self, feature_dim: int, num_classes: int, hidden: int = 256, depth: int = 2):
        super().__init__()
        self.first = Discriminator(feature_dim, hidden, depth, num_classes)
        self.second = Discriminator(feature_dim, hidden, depth, num_classes)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        # The encoder helps with the labels (reversed twice) and works against the discrepancy, both times `strength`.
        s, t = reverse_gradient(source_features, -strength), reverse_gradient(target_features, strength)
        learnt = [weighted_cross_entropy(head(s), source_labels, source_weights) for head in (self.first, self.second)]
        discrepancy = (self.first(t).softmax(-1) - self.second(t).softmax(-1)).abs().mean()
        return learnt[0] + learnt[1] - discrepancy
