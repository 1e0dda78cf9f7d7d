"""Kernel functions of the MMD objectives: widths from the batch, Gaussian kernels, discrepancies of weighted rows."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch

from .base import Range, is_positive

Bandwidth = Literal["mean", "median"] | float

MEDIAN_ROWS = 2048  # the median is taken over at most this many rows
RESOLUTION = 1e-10  # squared distances below this share of the squared mean feature are rounding, not spread
LEAST_MASS = 1e-12
SEARCH: dict[str, Range | tuple[Any, ...]] = {
    "weight": Range(0.01, 1.0, log=True),
    "bandwidth": ("mean", "median"),
    "kernels": (1, 3, 5),
}


def check_estimator(estimator: Any, choices: tuple[str, ...] = ("unbiased", "biased")) -> None:
    """Check that an estimator is one of the choices. Raises a `ValueError`."""
    if estimator not in choices:
        *all_but_last, last = map(repr, choices)
        raise ValueError(f"estimator={estimator!r} must be {', '.join(all_but_last)} or {last}.")


def check_bandwidth(bandwidth: Any, name: str = "bandwidth") -> None:
    """Check that a bandwidth is `"mean"`, `"median"` or a positive number. Raises a `ValueError`."""
    if bandwidth not in ("mean", "median") and not is_positive(bandwidth):
        raise ValueError(f"{name}={bandwidth!r} must be 'mean', 'median' or a positive number.")


class CentredDomains(NamedTuple):
    """Centred rows of both domains, around their common mean. Distances do not see a shift, but their rounding does:
    Gram matrices lose digits far from the origin.

    Args:
        x, y: (n, d) source and (m, d) target rows.
        weights: (n,) of the source rows.
        mass: () their sum.
        x2, y2: (n,) and (m,) squared norms, without gradient.
        floor: () squared distance below which rows count as equal.
    """

    x: torch.Tensor
    y: torch.Tensor
    weights: torch.Tensor
    mass: torch.Tensor
    x2: torch.Tensor
    y2: torch.Tensor
    floor: torch.Tensor


def centred_domains(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> CentredDomains:
    """Rows of both domains around their common mean, with their squared norms."""
    mass = weights.sum().clamp_min(LEAST_MASS)
    center = (weights @ x.detach() + y.detach().sum(0)) / (mass + len(y))
    x, y = x - center, y - center
    floor = RESOLUTION * center.square().sum() + 1e-12
    return CentredDomains(x, y, weights, mass, squared_norms(x.detach()), squared_norms(y.detach()), floor)


def kernel_widths(c: CentredDomains, bandwidth: Bandwidth, kernels: int) -> torch.Tensor:
    """Kernel widths, (kernels,) divisors of the squared distance, without gradient, widest first, each half the one
    before.

    They are centred on the mean or median squared distance of the pooled rows, i ≠ j, or on a fixed number. In the
    mean a row of weight 2 is two rows; the median does not see the weights. Collapsed rows differ by rounding only:
    `floor` keeps it from passing for a distance.

    Args:
        c: both domains.
        bandwidth, kernels: settings of the objective.
    """
    if isinstance(bandwidth, str):
        mass = c.mass + len(c.y)
        total_norm = c.weights @ c.x2 + c.y2.sum()  # the squared distances of all pairs sum to 2 mass times this
        width = 2 * total_norm / (mass - 1).clamp_min(1)
        if bandwidth == "median":
            every = max(1, -(-(len(c.x) + len(c.y)) // MEDIAN_ROWS))
            median = torch.pdist(torch.cat([c.x, c.y]).detach()[::every]).square().median()
            width = torch.where(median > c.floor, median, width)
    else:
        width = c.x.new_full((), float(bandwidth))
    top = 2.0 ** ((kernels - 1) // 2)
    return width.clamp_min(c.floor) * top * 0.5 ** torch.arange(kernels, device=c.x.device, dtype=c.x.dtype)


def squared_norms(x: torch.Tensor) -> torch.Tensor:
    """(n,) squared norms of rows."""
    return torch.linalg.vector_norm(x, dim=1).square()


def squared_distances(a: torch.Tensor, b: torch.Tensor, a2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
    """(n, m) squared distances between rows, given the rows' squared norms."""
    return torch.addmm(b2, a, b.T, alpha=-2).add_(a2.unsqueeze(1)).clamp_(min=0)


def mean_gaussian_kernel(distances: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Mean of the Gaussian kernels: the widths halve, so each kernel is the square of the one before."""
    kernel = torch.exp(-distances / widths[0])
    total = kernel
    for _ in range(1, len(widths)):
        kernel = kernel.square()
        total = total + kernel
    return total / len(widths)


def gram_matrix(a: torch.Tensor, b: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Gram matrix, (n, m) mean kernel between rows; exactly 1 on the diagonal of a matrix of rows with themselves."""
    distances = squared_distances(a, b, squared_norms(a), squared_norms(b))
    return mean_gaussian_kernel(distances.fill_diagonal_(0) if a is b else distances, widths)


def gram_matrices(c: CentredDomains, widths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gram matrices within the source, within the target and between them: (n, n), (m, m) and (n, m)."""
    return gram_matrix(c.x, c.x, widths), gram_matrix(c.y, c.y, widths), gram_matrix(c.x, c.y, widths)


def pair_mass(weights: torch.Tensor) -> torch.Tensor:
    """Sum of w_i w_j over i ≠ j, column by column: (sum w)² - sum w² without its cancellation. Where one row has all
    the weight it is not 0 but a small part of (sum w)², so that rounding divided by it stays small."""
    total = weights.sum(0)
    return (weights * (total - weights)).sum(0).clamp_min(1e-3 * total.square() + LEAST_MASS)


def weighted_mmd(
    ss: torch.Tensor, tt: torch.Tensor, st: torch.Tensor, s: torch.Tensor, t: torch.Tensor, biased: bool
) -> torch.Tensor:
    """Squared maximum mean discrepancy of weighted rows, (c,), one for each column of weights.

    Args:
        ss, tt, st: (n, n), (m, m) and (n, m) kernel matrices.
        s, t: (n, c) and (m, c) weights of the rows; a column that is 0 throughout gives 0.
        biased: keep i = j.
    """
    within_s, within_t, across = ((ss @ s) * s).sum(0), ((tt @ t) * t).sum(0), ((st @ t) * s).sum(0)
    mass_s, mass_t = s.sum(0).clamp_min(LEAST_MASS), t.sum(0).clamp_min(LEAST_MASS)
    if biased:
        within = within_s / mass_s.square() + within_t / mass_t.square()
    else:
        within = (within_s - ss.diagonal() @ s.square()) / pair_mass(s)
        within = within + (within_t - tt.diagonal() @ t.square()) / pair_mass(t)
    return within - 2 * across / (mass_s * mass_t)
