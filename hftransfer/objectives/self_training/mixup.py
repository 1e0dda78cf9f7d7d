"""Mixup of target rows (interpolation consistency)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from ..base import Objective, PerturbedForward, Range, is_positive

QUANTILES = 1024  # of the shares' distribution
STEP = 633  # odd, near QUANTILES divided by the golden ratio: consecutive shares lie far apart


class Mixup(Objective):
    r"""Mixup of target rows: the prediction on a mixture of two rows is the mixture of their predictions.

    \[-\frac1m\sum_i \sum_k \big(\lambda p_k(x_i) + (1-\lambda) p_k(x_j)\big)
      \log p_k\big(\lambda x_i + (1-\lambda) x_j\big)\]

    without a gradient through \(p(x_i)\) and \(p(x_j)\). A model that is as sure between rows as at them has put its
    boundaries through the rows; this one moves them apart. \(x\) are the embeddings of tokens, or what the model is
    given if that is real numbers already. Of texts, positions are mixed where both rows have a token.

    Rows are paired by their place in the batch, the first with the second, the third with the fourth; of an odd number
    the last is mixed with itself. Batches are shuffled, so that pairs are random. λ is the next of a fixed sequence
    that covers the quantiles of Beta(α, α) evenly, the larger of λ and 1 - λ belonging to \(x_i\). Nothing is drawn:
    a resumed run is the same to the bit, and an even number of rows on each process gives the pairs of one process.

    Args:
        alpha: α. Small values keep mixtures near one of both rows.

    Shapes: (m, K), a `PerturbedForward` of (m, positions, e) inputs -> ().

    Papers: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; Verma et al., Interpolation Consistency
    Training for Semi-Supervised Learning, IJCAI 2019; in source-free adaptation Liang et al., DINE, CVPR 2022.
    """

    calls: torch.Tensor
    shares: torch.Tensor
    paper = "Verma et al., Interpolation Consistency Training for Semi-Supervised Learning, IJCAI 2019"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True), "alpha": Range(0.1, 2.0, log=True)}

    def __init__(self, alpha: float = 0.3):
        super().__init__()
        if not is_positive(alpha):
            raise ValueError(f"alpha={alpha!r} must be a positive number.")
        self.alpha = alpha
        self.register_buffer("shares", torch.as_tensor(beta_quantiles(alpha)), persistent=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, perturbed_target_forward: PerturbedForward) -> torch.Tensor:
        with torch.no_grad():
            p = perturbed_target_forward(None).softmax(-1)
        inputs, mask = perturbed_target_forward.inputs, perturbed_target_forward.mask
        drawn = (self.calls * STEP % QUANTILES).unsqueeze(0)
        share = self.shares.gather(0, drawn).squeeze(0).to(inputs.dtype)  # an index would wait for the device
        self.calls += 1
        partner = partners(len(inputs), inputs.device)
        both = (mask * mask[partner]).to(inputs.dtype).unsqueeze(-1)
        shift = (1 - share) * (inputs[partner] - inputs) * both
        share = share.to(p.dtype)
        mixed = share * p + (1 - share) * p[partners(len(p), p.device, len(p) // max(1, len(inputs)))]
        log_p = perturbed_target_forward(shift).log_softmax(-1)
        return -(mixed * log_p).sum(-1).mean()


def partners(rows: int, device: torch.device, words: int = 1) -> torch.Tensor:
    """Row that each is mixed with: neighbours swap places, the last of an odd number stays by itself.

    Args:
        rows: m, or m · words of a tagger.
        device: of the result.
        words: of each row, which keep their order.

    Example:
        >>> partners(5, torch.device("cpu"))
        tensor([1, 0, 3, 2, 4])
    """
    number = torch.arange(rows // max(1, words), device=device)
    swapped = (number ^ 1).where((number ^ 1) < len(number), number)
    return (swapped.unsqueeze(1) * words + torch.arange(words, device=device)).flatten()


def beta_quantiles(alpha: float) -> np.ndarray:
    """Quantiles of the larger of λ and 1 - λ, λ of Beta(α, α), at even steps, (1024,) from a half to 1."""
    from scipy.special import betaincinv

    below = betaincinv(alpha, alpha, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    return np.asarray(np.maximum(below, 1 - below), dtype=np.float32)
