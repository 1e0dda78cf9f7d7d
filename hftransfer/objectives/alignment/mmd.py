"""Maximum mean discrepancy (MMD) with several Gaussian kernels, from Gram matrices and in one pass."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..base import Objective, check_count
from ..feature_queue import FeatureQueue
from ..kernels import (
    LEAST_MASS,
    SEARCH,
    Bandwidth,
    CentredDomains,
    centred_domains,
    check_bandwidth,
    check_estimator,
    kernel_widths,
    mean_gaussian_kernel,
    squared_distances,
)
from ..moments import row_weights


class MMD(Objective):
    r"""Maximum mean discrepancy, squared, between source and target features.

    \[\mathrm{MMD}^2 = \frac{1}{n(n-1)}\sum_{i\ne j} k(s_i, s_j) + \frac{1}{m(m-1)}\sum_{i\ne j} k(t_i, t_j)
      - \frac{2}{nm}\sum_{ij} k(s_i, t_j),\qquad
      k(x, y) = \frac1K\sum_k \exp\left(-\frac{\lVert x-y\rVert^2}{\mu_k\, b}\right)\]

    The biased form keeps i = j and divides by n² and m². `b` is the mean (or median) squared distance of the pooled
    rows, i ≠ j, without gradient; the multipliers μ default to ¼, ½, 1, 2, 4. The linear form averages
    k(s, s') + k(t, t') - k(s, t') - k(s', t) over disjoint pairs of rows, h = ⌊min(n, m)/2⌋ of them, row i with
    row i + h: O(n d), unbiased for rows in random order, and far noisier.

    At training batch sizes the biased form rewards contraction: its diagonal is constant, so drawing all rows
    together is the cheapest way down. It was seen to collapse a pretrained encoder to one class at batch 16. The
    unbiased form has no such term and is the default; it can be slightly negative, as an unbiased estimate of zero
    must.

    Source weights w multiply the terms of their rows, and sums of weights replace the counts: n² becomes (Σw)²,
    n(n-1) becomes (Σw)² - Σw², nm becomes mΣw; in the linear form each of the sums over pairs is divided by that of
    its weights. In the mean bandwidth, too, weight 2 is two rows.

    Args:
        feature_dim: width of the features.
        estimator: `"unbiased"`, `"biased"` or `"linear"`.
        bandwidth: `"mean"`, `"median"` (the mean, should more than half of the pairs coincide), or a fixed squared
            width.
        kernels: how many, with multipliers in powers of 2 centred on 1.
        queue: rows of each domain kept from earlier batches and added without gradient (0 for none). A source row
            keeps the weight it came with.

    Shapes: (n, d), (m, d) and (n,) -> (). n and m may differ.

    Paper: Gretton et al., A Kernel Two-Sample Test, JMLR 2012; Long et al., Learning Transferable Features with Deep
    Adaptation Networks, ICML 2015.
    """

    paper = "Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"queue": (0, 64, 256)}

    def __init__(
        self,
        feature_dim: int = 0,
        estimator: Literal["unbiased", "biased", "linear"] = "unbiased",
        bandwidth: Bandwidth = "mean",
        kernels: int = 5,
        queue: int = 0,
    ):
        super().__init__()
        check_estimator(estimator, ("unbiased", "biased", "linear"))
        check_bandwidth(bandwidth)
        check_count("kernels", kernels)
        check_count("queue", queue, least=0)
        self.estimator, self.bandwidth, self.kernels = estimator, bandwidth, kernels
        self.source_queue = FeatureQueue(queue, feature_dim + 1) if queue else None  # the last column is the weight
        self.target_queue = FeatureQueue(queue, feature_dim) if queue else None

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x, y = source_features, target_features
        weights = row_weights(x, source_weights)
        if self.source_queue is not None and self.target_queue is not None:
            queued = self.source_queue.rows()[0]
            self.source_queue.push(torch.cat([x, weights.unsqueeze(1)], 1))
            x, weights = torch.cat([x, queued[:, :-1]]), torch.cat([weights, queued[:, -1]])
            y = torch.cat([y, self.target_queue.rows()[0]])
            self.target_queue.push(target_features)
        c = centred_domains(x, y, weights)
        widths = kernel_widths(c, self.bandwidth, self.kernels)
        if self.estimator == "linear":
            return _linear_time_mmd(c, widths)
        return _GaussianMMD.apply(c.x, c.y, c, widths, self.estimator == "biased")


def _linear_time_mmd(c: CentredDomains, widths: torch.Tensor) -> torch.Tensor:
    """Linear-time estimate of MMD². Row i and row i + h are a pair, not i and i + 1: a tagger's neighbouring rows are
    words of one sentence."""
    h = min(len(c.x), len(c.y)) // 2
    (s, s_), (t, t_), (w, w_) = ((rows[:h], rows[h : 2 * h]) for rows in (c.x, c.y, c.weights))
    distances = torch.stack([(a - b).square().sum(1) for a, b in ((s, s_), (t, t_), (s, t_), (s_, t))])
    ss, tt, st, ts = mean_gaussian_kernel(distances, widths)
    within = (w * w_) @ ss / (w @ w_).clamp_min(LEAST_MASS) + tt.sum() / max(1, h)
    return within - 2 * (w @ st + w_ @ ts) / (w + w_).sum().clamp_min(LEAST_MASS)


class _GaussianMMD(torch.autograd.Function):
    """MMD² with its gradient, block by block: two matrices are alive at a time and none is kept for backward.

    The kernels' widths halve, so each kernel is the square of the one before: one exponential serves them all. With
    S the slope of a block in the squared distance, rows and columns times their weights, d/da_i of the block's sum is
    2 sum_j S_ij (a_i - b_j): a product with b, and row sums that are gathered over the blocks and multiply a at the
    end.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, y: torch.Tensor, c: CentredDomains, widths: torch.Tensor, biased: bool
    ) -> torch.Tensor:
        m, w, ones = len(y), c.weights, y.new_ones(len(y))
        # What a pair of rows counts: each of x times these, each of y `within_y`.
        within_x = w / (c.mass.square() if biased else w.dot(c.mass - w).clamp_min(LEAST_MASS))
        within_y = 1 / (m * m if biased else max(1, m * (m - 1)))
        across = w / (-m * c.mass)
        slope_scale = -4 / len(widths) / widths[0]  # of the slope: both roles of a row, and 2 from the square

        xx, slope = _kernel_block(x, x, c.x2, c.x2, w, widths, keep_diagonal=biased)
        slope.mul_((slope_scale * within_x).unsqueeze(1)).mul_(w)
        sums_x, gx = slope.sum(1), torch.mm(slope, x)
        del slope
        yy, slope = _kernel_block(y, y, c.y2, c.y2, ones, widths, keep_diagonal=biased)
        slope.mul_(slope_scale * within_y)
        sums_y, gy = slope.sum(1), torch.mm(slope, y)
        del slope
        xy, slope = _kernel_block(x, y, c.x2, c.y2, ones, widths)
        slope.mul_((slope_scale * across).unsqueeze(1))
        sums_x += slope.sum(1)
        sums_y += slope.sum(0)
        gx.addmm_(slope, y)
        gy.addmm_(slope.T, x)

        gx = torch.addcmul(gx.neg_(), sums_x.unsqueeze(1), x, out=gx)
        gy = torch.addcmul(gy.neg_(), sums_y.unsqueeze(1), y, out=gy)
        ctx.save_for_backward(gx, gy)
        return (within_x.dot(xx) + within_y * yy.sum() + 2 * across.dot(xy)) / len(widths)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gx, gy = ctx.saved_tensors
        return grads[0] * gx, grads[0] * gy, None, None, None


def _kernel_block(
    a: torch.Tensor,
    b: torch.Tensor,
    a2: torch.Tensor,
    b2: torch.Tensor,
    weights: torch.Tensor,
    widths: torch.Tensor,
    keep_diagonal: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the kernels' sum over a block: its product with the weights of b, and its slope as a matrix, in units of the
    widest kernel's."""
    kernel = squared_distances(a, b, a2, b2).mul_(-1 / widths[0]).exp_()
    if a is b:
        kernel.fill_diagonal_(float(keep_diagonal))  # exactly 1, or left out
    total, slope = torch.mv(kernel, weights), kernel.clone()
    for k in range(1, len(widths)):
        total.addmv_(kernel.square_(), weights)
        slope.add_(kernel, alpha=2.0**k)
    return total, slope
