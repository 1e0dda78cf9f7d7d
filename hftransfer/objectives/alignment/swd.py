"""Sliced Wasserstein distance: optimal transport along random lines, where it is a matter of sorting."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..base import Objective, Range, check_count
from ..kernels import LEAST_MASS
from ..moments import all_equal, centred
from ..schedules import GENTLE


class SWD(Objective):
    r"""Mean over random directions θ of the one-dimensional Wasserstein distance between projected features.

    \[\frac1L\sum_{l=1}^{L}\int_0^1 \big|F^{-1}_{\theta_l\cdot S}(u) - F^{-1}_{\theta_l\cdot T}(u)\big|^p\,du\]

    F⁻¹ is the quantile function of the projected rows, a step at each row as high as the row's share. Both are
    constant between the steps of the two together, so the integral is a sum over n + m pieces: exact for n ≠ m and
    for weighted rows. With n = m and equal weights it is the mean over sorted pairs.

    A source row's share is its weight over the sum of weights: weight 2 is that row twice. New directions are drawn
    at every step from a generator seeded with the number of the step, which is a buffer: every process draws the
    same, and so does a resumed run.

    A shift of all rows by δ has the value ‖δ‖²/d on average (p = 2), whatever the width of the features.

    Args:
        projections: L.
        order: p, 1 or 2.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, Journal of Mathematical Imaging and
    Vision 2015.
    """

    step: torch.Tensor
    paper = "Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, JMIV 2015"
    default_schedule = GENTLE
    search: ClassVar = {"weight": Range(0.1, 100.0, log=True), "projections": (32, 128, 512), "order": (1, 2)}

    def __init__(self, projections: int = 128, order: int = 2):
        super().__init__()
        check_count("projections", projections)
        if isinstance(order, bool) or order not in (1, 2):
            raise ValueError(f"order={order!r} must be 1 or 2.")
        self.projections, self.order = projections, order
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.count = 0  # the same number on the host, so that seeding needs no sync

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, source_weights: torch.Tensor
    ) -> torch.Tensor:
        x, y = centred(source_features, target_features)
        directions = self._directions(x)
        s, order = (x @ directions).sort(0)
        t = (y @ directions).sort(0).values
        if len(x) == len(y) and all_equal(source_weights):
            return self._cost(s - t).mean()  # sorted pairs: the pieces below, without looking for them
        levels_s = _ends(source_weights.detach()[order])
        levels_t = _ends(y.new_ones(len(y), 1)).expand(-1, self.projections)
        levels = torch.cat([levels_s, levels_t]).sort(0).values
        pieces = levels.diff(dim=0, prepend=torch.zeros_like(levels[:1]))
        return (pieces * self._cost(_at(s, levels_s, levels) - _at(t, levels_t, levels))).sum(0).mean()

    def _cost(self, difference: torch.Tensor) -> torch.Tensor:
        return difference.abs() if self.order == 1 else difference.square()

    @torch.compiler.disable  # a counter on the host would recompile at every step
    def _directions(self, x: torch.Tensor) -> torch.Tensor:
        """(d, L) unit columns of this step."""
        generator = torch.Generator(x.device).manual_seed(self.count)
        self.count += 1
        self.step.fill_(self.count)
        drawn = torch.randn(x.shape[1], self.projections, generator=generator, device=x.device, dtype=x.dtype)
        return F.normalize(drawn, dim=0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.count = int(self.step)


def _ends(weights: torch.Tensor) -> torch.Tensor:
    """(n, L) weights in the rows' order -> the levels at which the rows' steps end; the last is exactly 1."""
    total = weights.cumsum(0)
    return total / total[-1:].clamp_min(LEAST_MASS)


def _at(rows: torch.Tensor, ends: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """(n, L) sorted rows whose steps end at (n, L) levels: the quantiles at (k, L) levels."""
    index = torch.searchsorted(ends.T.contiguous(), levels.T.contiguous()).T
    return rows.gather(0, index.clamp_max(len(rows) - 1))
