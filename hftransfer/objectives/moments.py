"""Weighted means and covariances of rows, and distances between them. Weights never get a gradient."""

from __future__ import annotations

import torch

from .kernels import LEAST_MASS, pair_mass

ROUNDING = 8.0  # in units of the last digit: what a mean over a batch may be off by


def all_equal(weights: torch.Tensor) -> bool:
    """Whether weights are one number for all rows, expanded: how rows that all count 1 come, and known without a
    sync. Numbers that merely happen to be equal are not noticed."""
    return weights.stride(0) == 0


def row_weights(x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Weights of rows, (n,) for rows of (n, …): the weights that are given, or a 1 that is expanded."""
    return x.new_ones(()).expand(len(x)) if weights is None else weights


def shares(weights: torch.Tensor) -> torch.Tensor:
    """Normalised weights, (n,) or (n, c), that sum to 1 in each column; a column of zeros stays zero."""
    weights = weights.detach()
    return weights / weights.sum(0).clamp_min(LEAST_MASS)


def class_membership(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Class membership of rows, (n,) ids -> (n, classes) bool; none for an id below 0. `one_hot` would wait for the
    device to check its ids."""
    return labels.unsqueeze(1) == torch.arange(classes, device=labels.device)


def mean(x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Weighted mean of rows, (n, d) -> (d,). Weight 2 is that row twice; `None` weighs all rows alike."""
    return x.mean(0) if weights is None or all_equal(weights) else shares(weights) @ x


def centred(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both domains' rows around their common mean, a constant: products of rows far from the origin lose digits."""
    center = common_mean(x, y)
    return x - center, y - center


def common_mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean of all rows of both domains, (n, d), (m, d) -> (d,), without gradient."""
    return (x.detach().sum(0) + y.detach().sum(0)) / (len(x) + len(y))


def covariance_factor(x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    r"""Factor of the covariance, (n, d) -> (n, d): centred rows A whose \(A^\top A\) is the unbiased covariance.

    With weights the divisor n - 1 becomes \(\sum w - \sum w^2 / \sum w\). A single row has no spread: 0.
    """
    w = x.new_ones(len(x)) if weights is None else weights.detach()
    freedom = pair_mass(w) / w.sum().clamp_min(LEAST_MASS)
    return (x - mean(x, w)) * (w / freedom).sqrt().unsqueeze(1)


def covariance_distance(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    r"""Squared distance of covariances, \(\lVert C_x - C_y \rVert_F^2\), unbiased, of (n, d) and (m, d); `weights` are
    those of x.

    Where rows are far fewer than columns no d x d matrix is made: with the rows of both stacked as Z, signs σ, it is
    \(\sum_{ij} σ_i σ_j (Z Z^\top)_{ij}^2\). That sum cancels between like domains, so it is taken in float64, which
    loses no digits of the float32 that come in.
    """
    a, b = covariance_factor(x, weights), covariance_factor(y)
    z, signed = torch.cat([a, b]), torch.cat([a, -b])
    if 3 * len(z) >= z.shape[1] or z.device.type == "mps":  # which has no float64; above that it is not faster
        return (z.T @ signed).square().sum()
    z, signed = z.double(), signed.double()
    return ((z @ z.T) * (signed @ signed.T)).sum().to(x.dtype)


def rounding_error(*xs: torch.Tensor) -> torch.Tensor:
    """Rounding error of means: what they may differ by though the rows are alike; without gradient."""
    largest = torch.stack([x.detach().abs().amax() for x in xs]).amax()
    return ROUNDING * torch.finfo(xs[0].dtype).eps * largest


def smooth_distance(a: torch.Tensor, b: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Euclidean distance over the last dimension. Its gradient has length 1 however small the distance, so entries
    that differ by `noise` or less count as equal: rounding must not push as hard as a shift does."""
    difference = a - b
    return torch.linalg.vector_norm(torch.where(difference.abs() > noise, difference, 0.0), dim=-1)
