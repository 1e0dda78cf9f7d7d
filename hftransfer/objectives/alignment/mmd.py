"""Maximum mean discrepancy with several Gaussian kernels, from Gram matrices and in one pass."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..base import Objective, check_count, is_positive
from ..queue import FeatureQueue
from ..schedules import GENTLE

MEDIAN_ROWS = 2048  # the median is taken over at most this many rows
RESOLUTION = 1e-10  # squared distances below this share of the squared mean feature are rounding, not spread


class MMD(Objective):
    r"""Squared maximum mean discrepancy between source and target features.

    \[\mathrm{MMD}^2 = \frac{1}{n(n-1)}\sum_{i\ne j} k(s_i, s_j) + \frac{1}{m(m-1)}\sum_{i\ne j} k(t_i, t_j)
      - \frac{2}{nm}\sum_{ij} k(s_i, t_j),\qquad
      k(x, y) = \frac1K\sum_k \exp\left(-\frac{\lVert x-y\rVert^2}{\mu_k\, b}\right)\]

    The biased form keeps i = j and divides by n² and m². `b` is the mean (or median) squared distance of the pooled
    rows, i ≠ j, without gradient; the multipliers μ default to ¼, ½, 1, 2, 4.

    At training batch sizes the biased form rewards contraction: its diagonal is constant, so drawing all rows
    together is the cheapest way down. It was seen to collapse a pretrained encoder to one class at batch 16. The
    unbiased form has no such term and is the default; it can be slightly negative, as an unbiased estimate of zero
    must.

    Args:
        feature_dim: width of the features.
        estimator: `"unbiased"` or `"biased"`.
        bandwidth: `"mean"`, `"median"` (the mean, should more than half of the pairs coincide), or a fixed squared
            width.
        kernels: how many, with multipliers in powers of 2 centred on 1.
        queue: rows of each domain kept from earlier batches and added without gradient (0 for none).
        peer: `"tllib"` for that library's constants: bandwidth from all pairs with i = j, k = exp(-d²/(2αb)) with
            α = ⅛ … 2, kernels summed, 2/(n-1) added.

    Shapes: (n, d) and (m, d) -> (). n and m may differ.

    Paper: Gretton et al., A Kernel Two-Sample Test, JMLR 2012; Long et al., Learning Transferable Features with Deep
    Adaptation Networks, ICML 2015.
    """

    paper = "Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015"
    default_schedule = GENTLE

    def __init__(
        self,
        feature_dim: int = 0,
        estimator: Literal["unbiased", "biased"] = "unbiased",
        bandwidth: Literal["mean", "median"] | float = "mean",
        kernels: int = 5,
        queue: int = 0,
        peer: Literal["tllib"] | None = None,
    ):
        super().__init__()
        if estimator not in ("unbiased", "biased"):
            raise ValueError(f"estimator={estimator!r} must be 'unbiased' or 'biased'.")
        if bandwidth not in ("mean", "median") and not is_positive(bandwidth):
            raise ValueError(f"bandwidth={bandwidth!r} must be 'mean', 'median' or a positive number.")
        if peer not in (None, "tllib"):
            raise ValueError(f"peer={peer!r} must be 'tllib' or nothing.")
        check_count("kernels", kernels)
        check_count("queue", queue, least=0)
        self.estimator, self.bandwidth, self.kernels, self.peer = estimator, bandwidth, kernels, peer
        self.source_queue = FeatureQueue(queue, feature_dim) if queue else None
        self.target_queue = FeatureQueue(queue, feature_dim) if queue else None

    def forward(self, source_features: torch.Tensor, target_features: torch.Tensor) -> torch.Tensor:
        x, y = source_features, target_features
        if self.source_queue is not None and self.target_queue is not None:
            x = torch.cat([source_features, self.source_queue.rows()[0]])
            y = torch.cat([target_features, self.target_queue.rows()[0]])
            self.source_queue.push(source_features)
            self.target_queue.push(target_features)
        # Distances do not see a shift, but their rounding does: Gram matrices lose digits far from the origin.
        center = (x.detach().sum(0) + y.detach().sum(0)) / (len(x) + len(y))
        x, y = x - center, y - center
        widths = self._widths(x.detach(), y.detach(), RESOLUTION * center.square().sum() + 1e-12)
        biased = self.estimator == "biased" and self.peer is None
        value = _GaussianMMD.apply(x, y, widths, biased)
        if self.peer == "tllib":
            value = self.kernels * value + 2 / max(1, len(x) - 1)
        return value

    def _widths(self, x: torch.Tensor, y: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
        """(kernels,) divisors of the squared distance of centred rows, widest first, each half the one before.

        Collapsed rows differ by rounding only: `floor` keeps it from passing for a distance.
        """
        n = len(x) + len(y)
        pairs = n * n if self.peer == "tllib" else max(1, n * (n - 1))
        base = 2 * n * (_squared_norms(x).sum() + _squared_norms(y).sum()) / pairs  # sum over all pairs / pairs
        if self.peer is None and self.bandwidth == "median":
            median = torch.pdist(torch.cat([x, y])[:: max(1, -(-n // MEDIAN_ROWS))]).square().median()
            base = torch.where(median > floor, median, base)
        elif self.peer is None and self.bandwidth != "mean":
            base = x.new_tensor(float(self.bandwidth))
        exponents = torch.arange(self.kernels, device=x.device, dtype=x.dtype)
        top = 2.0 * 2 if self.peer == "tllib" else 2.0 ** ((self.kernels - 1) // 2)
        return base.clamp_min(floor) * top * 0.5**exponents


class _GaussianMMD(torch.autograd.Function):
    """Value and gradient together, block by block: two matrices are alive at a time and none is kept for backward.

    The kernels' widths halve, so each kernel is the square of the one before: one exponential serves them all. With
    S the slope of a block in the squared distance, d/da_i of sum_ij k(a_i, b_j) is 2 sum_j S_ij (a_i - b_j): a
    product with b, and row sums that are gathered over the blocks and multiply a at the end.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, widths: torch.Tensor, biased: bool) -> torch.Tensor:
        n, m = len(x), len(y)
        within_x = 1 / (n * n if biased else max(1, n * (n - 1)))
        within_y = 1 / (m * m if biased else max(1, m * (m - 1)))
        x2, y2 = _squared_norms(x), _squared_norms(y)

        xx, slope = _block(x, x, x2, x2, widths, 4 * within_x, keep_diagonal=biased)
        sums_x, gx = slope.sum(1), torch.mm(slope, x)
        del slope
        yy, slope = _block(y, y, y2, y2, widths, 4 * within_y, keep_diagonal=biased)
        sums_y, gy = slope.sum(1), torch.mm(slope, y)
        del slope
        xy, slope = _block(x, y, x2, y2, widths, -4 / (n * m))
        sums_x += slope.sum(1)
        sums_y += slope.sum(0)
        gx.addmm_(slope, y)
        gy.addmm_(slope.T, x)

        gx = torch.addcmul(gx.neg_(), sums_x.unsqueeze(1), x, out=gx)
        gy = torch.addcmul(gy.neg_(), sums_y.unsqueeze(1), y, out=gy)
        ctx.save_for_backward(gx, gy)
        return within_x * xx + within_y * yy - 2 / (n * m) * xy

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gx, gy = ctx.saved_tensors
        return grads[0] * gx, grads[0] * gy, None, None


def _block(
    a: torch.Tensor,
    b: torch.Tensor,
    a2: torch.Tensor,
    b2: torch.Tensor,
    widths: torch.Tensor,
    scale: float,
    keep_diagonal: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the mean kernel over a block, and `scale` times its slope in the squared distance as a matrix."""
    kernel = torch.addmm(b2, a, b.T, alpha=-2).add_(a2.unsqueeze(1))
    kernel.clamp_(min=0).mul_(-1 / widths[0]).exp_()
    if a is b:
        kernel.fill_diagonal_(float(keep_diagonal))  # exactly 1, or left out
    total, slope = kernel.sum(), kernel.clone()
    for k in range(1, len(widths)):
        total += kernel.square_().sum()
        slope.add_(kernel, alpha=2.0**k)
    return total / len(widths), slope.mul_(-scale / (len(widths) * widths[0]))


def _squared_norms(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=1).square()
