"""Maximum mean discrepancy with several Gaussian kernels, from Gram matrices and in one pass."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..base import Objective
from ..queue import FeatureQueue

MEDIAN_ROWS = 2048  # the median is taken over at most this many rows


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
        bandwidth: `"mean"`, `"median"`, or a fixed squared width.
        kernels: how many, with multipliers in powers of 2 centred on 1.
        queue: rows of each domain kept from earlier batches and added without gradient (0 for none).
        peer: `"tllib"` for that library's constants: bandwidth from all pairs with i = j, k = exp(-d²/(2αb)) with
            α = ⅛ … 2, kernels summed, 2/(n-1) added.

    Shapes: (n, d) and (m, d) -> (). n and m may differ.

    Paper: Gretton et al., A Kernel Two-Sample Test, JMLR 2012; Long et al., Learning Transferable Features with Deep
    Adaptation Networks, ICML 2015.
    """

    paper = "Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015"
    default_schedule = "warm_start"

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
        if bandwidth not in ("mean", "median") and not (isinstance(bandwidth, (int, float)) and bandwidth > 0):
            raise ValueError(f"bandwidth={bandwidth!r} must be 'mean', 'median' or a positive number.")
        if peer not in (None, "tllib"):
            raise ValueError(f"peer={peer!r} must be 'tllib' or nothing.")
        if kernels < 1 or queue < 0:
            raise ValueError("kernels must be at least 1 and queue at least 0.")
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
        center = torch.cat([x.detach(), y.detach()]).mean(0)
        x, y = x - center, y - center
        widths = self._widths(x.detach(), y.detach())
        biased = self.estimator == "biased" and self.peer is None
        value = _GaussianMMD.apply(x, y, widths, biased)
        if self.peer == "tllib":
            value = self.kernels * value + 2 / max(1, len(x) - 1)
        return value

    def _widths(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(kernels,) divisors of the squared distance, widest first, each half the one before."""
        z = torch.cat([x, y])
        n = len(z)
        if self.bandwidth == "median" and self.peer is None:
            z = z[:: max(1, -(-n // MEDIAN_ROWS))]
            base = torch.pdist(z).square().median() if len(z) > 1 else z.new_ones(())
        elif self.bandwidth == "mean" or self.peer is not None:
            pairs = n * n if self.peer == "tllib" else max(1, n * (n - 1))
            base = 2 * n * (z - z.mean(0)).square().sum() / pairs  # sum over pairs = 2n · sum of squared deviations
        else:
            base = z.new_tensor(float(self.bandwidth))
        exponents = torch.arange(self.kernels, device=z.device, dtype=z.dtype)
        top = 2.0 * 2 if self.peer == "tllib" else 2.0 ** ((self.kernels - 1) // 2)
        return base.clamp_min(1e-12) * top * 0.5**exponents


class _GaussianMMD(torch.autograd.Function):
    """Value and gradient together, block by block: one Gram matrix is alive at a time and none is kept for backward.

    The kernels' widths halve, so each kernel is the square of the one before: one exponential serves them all.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, widths: torch.Tensor, biased: bool) -> torch.Tensor:
        n, m = len(x), len(y)
        value, gx, gy = x.new_zeros(()), torch.zeros_like(x), torch.zeros_like(y)
        for a, b, weight in (
            (x, x, 1 / (n * n if biased else max(1, n * (n - 1)))),
            (y, y, 1 / (m * m if biased else max(1, m * (m - 1)))),
            (x, y, -2 / (n * m)),
        ):
            same = a is b
            total, slope = _block(a, b, widths, drop_diagonal=same and not biased)
            value += weight * total
            # d/da_i of sum_ij k(a_i, b_j) = 2 sum_j k'_ij (a_i - b_j), k' the slope in the squared distance
            ga = 2 * weight * (slope.sum(1, keepdim=True) * a - slope @ b)
            if same:
                (gx if a is x else gy).add_(ga, alpha=2)
            else:
                gx += ga
                gy += 2 * weight * (slope.sum(0).unsqueeze(1) * b - slope.T @ a)
            del slope
        ctx.save_for_backward(gx, gy)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gx, gy = ctx.saved_tensors
        return grads[0] * gx, grads[0] * gy, None, None


def _block(
    a: torch.Tensor, b: torch.Tensor, widths: torch.Tensor, drop_diagonal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the mean kernel over a block, and its slope in the squared distance as a matrix."""
    kernel = torch.addmm(b.square().sum(1).unsqueeze(0), a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True))
    kernel.clamp_(min=0).div_(-widths[0]).exp_()
    if drop_diagonal:
        kernel.fill_diagonal_(0)
    elif a is b:
        kernel.fill_diagonal_(1)
    total, slope = a.new_zeros(()), torch.zeros_like(kernel)
    for k in range(len(widths)):
        total += kernel.sum()
        slope.addcdiv_(kernel, widths[k].expand(1, 1), value=-1)
        if k + 1 < len(widths):
            kernel.square_()
    return total / len(widths), slope.div_(len(widths))
