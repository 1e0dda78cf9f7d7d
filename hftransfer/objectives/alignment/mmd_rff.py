"""Maximum mean discrepancy in linear time, by random Fourier features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from ..base import Objective, check_count
from ..kernels import SEARCH, Bandwidth, centred_domains, check_bandwidth, check_estimator, kernel_widths, pair_mass
from ..moments import row_weights
from ..published_statistics import PublishedStatistics, load_statistics, needed, random_features, source_side


class MMDRFF(Objective):
    r"""Maximum mean discrepancy whose Gaussian kernels are replaced by random features, so that no pair of rows is
    ever formed.

    \[\mathrm{MMD}^2 \approx \lVert\bar\varphi(s) - \bar\varphi(t)\rVert^2,\qquad
      \varphi(x) = \left(\sqrt{a_j}\cos(\omega_j^\top x),\;\sqrt{a_j}\sin(\omega_j^\top x)\right)_{j=1\dots D},\qquad
      \omega_j = \sqrt{\tfrac{2}{\mu_j b}}\;g_j\]

    g are Gaussian directions, drawn once and kept in a buffer; each in turn serves one of the kernels of `mmd`, and a
    makes all kernels count the same. The bandwidth b is that of `mmd`, from the batch and without gradient: it scales
    the projections. Since \(\lVert\varphi(x)\rVert = 1\), the unbiased form, which leaves out i = j, costs no more:

    \[\frac{\lVert\sum_i\varphi(s_i)\rVert^2 - n}{n(n-1)} + \frac{\lVert\sum_j\varphi(t_j)\rVert^2 - m}{m(m-1)}
      - 2\,\bar\varphi(s)^\top\bar\varphi(t)\]

    The squared distance itself is the biased form, with its pull towards a single point at small batches (see `mmd`).

    Source weights w enter as in `mmd`: weighted means and sums, (Σw)² - Σw² for n(n-1), and in the mean bandwidth.

    With `statistics`, the source's mean random feature and its term of i and j, a constant, are published ones, with
    their frequencies and bandwidth; target rows are clipped as the site's rows were, and no source row is read.

    Args:
        feature_dim: width of the features.
        estimator: `"unbiased"` or `"biased"`.
        bandwidth: `"mean"`, `"median"` (from at most 2,048 rows, and quadratic in them) or a fixed squared width.
        kernels: how many, with multipliers in powers of 2 centred on 1.
        frequencies: D, of all kernels together.
        statistics: folder that `publish_statistics` wrote, in the place of source rows. Bandwidth, kernels and
            frequencies are then its own.

    Shapes: (n, d), (m, d) and (n,) -> (). n and m may differ.

    Paper: Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007; for MMD: Zhao and Meng,
    FastMMD: Ensemble of Circular Discrepancy for Efficient Two-Sample Test, Neural Computation 2015.
    """

    directions: torch.Tensor
    kernel: torch.Tensor
    amplitude: torch.Tensor
    source_random_features: torch.Tensor
    source_frequencies: torch.Tensor
    source_amplitude: torch.Tensor
    paper = "Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"frequencies": (256, 512, 1024, 2048)}

    def __init__(
        self,
        feature_dim: int,
        estimator: Literal["unbiased", "biased"] = "unbiased",
        bandwidth: Bandwidth = "mean",
        kernels: int = 5,
        frequencies: int = 512,
        statistics: str | None = None,
    ):
        super().__init__()
        check_estimator(estimator)
        check_bandwidth(bandwidth)
        check_count("kernels", kernels)
        check_count("frequencies", frequencies, least=kernels)
        self.estimator, self.bandwidth, self.kernels = estimator, bandwidth, kernels
        self.published: PublishedStatistics | None = None
        if statistics is not None:
            given = {"bandwidth": bandwidth != "mean", "kernels": kernels != 5, "frequencies": frequencies != 512}
            for name in [name for name, is_given in given.items() if is_given]:
                raise ValueError(f"{name} has no effect with statistics, which bring their own: leave it out.")
            self.published = load_statistics(statistics)
            self.published.need("random_features", "mmd_rff")
            self.published.check_width(feature_dim)
            for name in ("random_features", "frequencies", "amplitude"):
                self.register_buffer(f"source_{name}", self.published.tensors[name].clone())
            return
        kernel = torch.arange(frequencies) % kernels
        amplitude = (kernels * torch.bincount(kernel)[kernel]).rsqrt()
        self.register_buffer("directions", torch.randn(feature_dim, frequencies))
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("amplitude", amplitude, persistent=False)

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return source_side(settings, cls.needs())

    def forward(
        self,
        source_features: torch.Tensor | None = None,
        target_features: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        target_features = needed("target_features", target_features)
        if self.published is not None:
            return self._discrepancy_from_published(self.published, target_features)
        source_features = needed("source_features", source_features)
        source_weights = row_weights(source_features, source_weights)
        c = centred_domains(source_features, target_features, source_weights)
        scale = (2 / kernel_widths(c, self.bandwidth, self.kernels))[self.kernel].sqrt()
        ones = c.y.new_ones(len(c.y))
        s, t = self._sum(c.x, source_weights, scale), self._sum(c.y, ones, scale)
        if self.estimator == "biased":
            return (s / c.mass - t / len(c.y)).square().sum()
        within = (s @ s - source_weights @ source_weights) / pair_mass(source_weights)
        within = within + (t @ t - len(c.y)) / pair_mass(ones)
        return within - 2 * (s @ t) / (c.mass * len(c.y))

    def _discrepancy_from_published(self, published: PublishedStatistics, rows: torch.Tensor) -> torch.Tensor:
        s, y = self.source_random_features, published.clip(rows)
        t = random_features(y, self.source_frequencies, self.source_amplitude).sum(0)
        if self.estimator == "biased":
            return (s - t / len(y)).square().sum()
        within = published.facts["kernel"]["within"] + (t @ t - len(y)) / pair_mass(y.new_ones(len(y)))
        return within - 2 * (s @ t) / len(y)

    def _sum(self, rows: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the rows' random features, (n, d) and (n,) -> (2 D,)."""
        angle = (rows @ self.directions) * scale
        return torch.cat([self.amplitude * (weights @ angle.cos()), self.amplitude * (weights @ angle.sin())])
