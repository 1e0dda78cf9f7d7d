"""Sliced Wasserstein distance (SWD): optimal transport along random lines, where it is a matter of sorting."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.autograd.function import once_differentiable

from ..base import Objective, Range, check_count
from ..kernels import LEAST_MASS
from ..moments import all_equal, common_mean, row_weights
from ..step_counter import StepCounter


class SWD(Objective):
    r"""Sliced Wasserstein distance: the mean over random directions θ of the one-dimensional Wasserstein distance
    between projected features.

    \[\frac1L\sum_{l=1}^{L}\int_0^1 \big|F^{-1}_{\theta_l\cdot S}(u) - F^{-1}_{\theta_l\cdot T}(u)\big|^p\,du\]

    F⁻¹ is the quantile function of the projected rows, a step at each row as high as the row's share. Both are
    constant between the steps of the two together, so the integral is a sum over n + m pieces: exact for n ≠ m and
    for weighted rows. With n = m and equal weights it is the mean over sorted pairs.

    A source row's share is its weight over the sum of weights: weight 2 is that row twice. New directions are drawn
    at every step from a generator seeded with the number of the step, which checkpoints keep: every process draws the
    same, and so does a resumed run.

    A shift of all rows by δ has the value ‖δ‖²/d on average (p = 2), whatever the width of the features.

    Args:
        projections: L.
        order: p, 1 or 2.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, Journal of Mathematical Imaging and
    Vision 2015.
    """

    paper = "Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, JMIV 2015"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 10.0, log=True), "projections": (32, 128, 512), "order": (1, 2)}

    def __init__(self, projections: int = 128, order: int = 2):
        super().__init__()
        check_count("projections", projections)
        if isinstance(order, bool) or order not in (1, 2):
            raise ValueError(f"order={order!r} must be 1 or 2.")
        self.projections, self.order = projections, order
        self.steps = StepCounter()

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, source_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        x, y = source_features, target_features
        pairs = len(x) == len(y) and all_equal(source_weights)
        directions = self._directions(x).T
        center = common_mean(x, y)
        # One cloud at a time, so that only one is held twice; the numbers of a direction side by side, for sorting.
        s = torch.mm(directions, (x - center).T)
        t = torch.mm(directions, (y - center).T)
        return _Transport.apply(s, t, None if pairs else source_weights.detach(), self.order)

    @torch.compiler.disable  # a counter on the host would recompile at every step
    def _directions(self, x: torch.Tensor) -> torch.Tensor:
        """Random directions of this step, (d, L) unit columns."""
        generator = torch.Generator(x.device).manual_seed(self.steps.value)
        self.steps.advance()
        drawn = torch.randn(self.projections, x.shape[1], generator=generator, device=x.device, dtype=x.dtype)
        return drawn.div_(torch.linalg.vector_norm(drawn, dim=1, keepdim=True).clamp_min_(LEAST_MASS)).T


class _Transport(torch.autograd.Function):
    """Mean cost of one-dimensional transport: (L, n) and (L, m) projected rows, weights of the first -> ().

    The gradient is made with the value, while sorted rows and their places are at hand: what is kept for the backward
    pass is one number for each row and direction.
    """

    @staticmethod
    def forward(ctx: Any, s: torch.Tensor, t: torch.Tensor, weights: torch.Tensor | None, order: int) -> torch.Tensor:
        (lines, n), m = s.shape, t.shape[1]
        (s, row_s), (t, row_t) = s.sort(1), t.sort(1)
        if weights is None:  # sorted pairs: the pieces below, without looking for them
            pieces: Any = 1 / n
            gap = s.sub_(t)
        else:
            pieces, at_s, at_t = _transport_pieces(weights[row_s], m)
            gap = s.gather(1, at_s).sub_(t.gather(1, at_t))
            row_s, row_t = row_s.gather(1, at_s), row_t.gather(1, at_t)
        value = ((gap.abs() if order == 1 else gap.square()) * pieces).sum() / lines
        if any(ctx.needs_input_grad):
            push = (gap.sign_() if order == 1 else gap.mul_(2)).mul_(pieces).div_(lines)
            of_s = push.new_zeros(lines, n).scatter_add_(1, row_s, push)
            of_t = push.new_zeros(lines, m).scatter_add_(1, row_t, push.neg_())
            ctx.save_for_backward(of_s, of_t)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_s, of_t = ctx.saved_tensors
        return gradient * of_s, gradient * of_t, None, None


def _transport_pieces(weights: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pieces between steps of either quantile function, of (L, n) weights in the sorted order of source rows and m
    target rows that all count 1: their (L, n + m) lengths, and which of the sorted rows holds there."""
    levels_s, levels_t = _quantile_levels(weights), _quantile_levels(weights.new_ones(1, m))
    levels = torch.cat([levels_s, levels_t.expand(len(weights), -1)], 1).sort(1).values
    at_s = torch.searchsorted(levels_s, levels).clamp_max_(weights.shape[1] - 1)
    at_t = torch.searchsorted(levels_t[0], levels).clamp_max_(m - 1)
    return levels.diff(dim=1, prepend=torch.zeros_like(levels[:, :1])), at_s, at_t


def _quantile_levels(weights: torch.Tensor) -> torch.Tensor:
    """Levels at which the rows' steps of the quantile function end, from (L, n) weights in the rows' order; the last
    is exactly 1."""
    total = weights.cumsum(1)
    return total.div_(total[:, -1:].clamp_min(LEAST_MASS))
