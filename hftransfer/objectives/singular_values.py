"""Sums over singular values whose gradient is finite for any matrix: repeated values, zeros, a single point.

The vectors come from the smaller Gram matrix, in float64 and without gradient; the value is then written so that its
own gradient is the right one. No derivative of a singular vector, with its differences of values to divide by, is
ever taken. On a GPU the decomposition waits for the device once.
"""

from __future__ import annotations

import torch

ROUNDING = torch.finfo(torch.float32).eps  # of what comes in


def nuclear_norm(x: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Nuclear norm, (n, d) -> (): the sum of singular values times `weight`; with x = U S Vᵀ its gradient is `weight`
    U Vᵀ.

    Directions whose singular value is rounding (below max(n, d)·eps of the largest) are left out: of all
    subgradients of a rank-deficient matrix this is the shortest.
    """
    return (x * _polar(x.detach(), weight)).sum()


def _polar(x: torch.Tensor, weight: float) -> torch.Tensor:
    """Polar factor, (n, d) -> (n, d): U Vᵀ times `weight`, which is x times the inverse root of its smaller Gram
    matrix."""
    n, d = x.shape
    values, vectors = _squared_singular_values(x if n <= d else x.T)
    least = (max(n, d) * ROUNDING) ** 2 * values[-1]
    inverse = torch.where(values > least, values, torch.inf).rsqrt_()  # 0 where nothing was seen
    root = ((vectors * inverse) @ vectors.T).to(x.dtype)
    factors = (root, x) if n <= d else (x, root)
    return torch.addmm(x, *factors, beta=0, alpha=weight)  # beta: nothing of x itself is added


def largest_squares(x: torch.Tensor, k: int) -> torch.Tensor:
    """Sum of the k largest squared singular values, (n, d) -> () (of all, if there are fewer).

    The gradient is twice the part of x that lies in their directions; among tied values the choice is free, and each
    choice is a subgradient.
    """
    x = _wide_matrix(x)
    _, vectors = _squared_singular_values(x.detach())
    return (vectors[:, -k:].T.to(x.dtype) @ x).square().sum()


def smallest_squares(x: torch.Tensor, k: int) -> torch.Tensor:
    """Sum of the k smallest of the min(n, d) squared singular values, (n, d) -> () (of all, if there are fewer).

    The gradient is twice the part of x that lies in their directions; see `largest_squares`.
    """
    x = _wide_matrix(x)
    _, vectors = _squared_singular_values(x.detach())
    return (vectors[:, :k].T.to(x.dtype) @ x).square().sum()


def _wide_matrix(x: torch.Tensor) -> torch.Tensor:
    """A matrix with at most as many rows as columns: x or its transpose."""
    return x if x.shape[0] <= x.shape[1] else x.T


def _squared_singular_values(wide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared singular values, ascending, and left singular vectors. What is not finite must not end the run here:
    it makes the value NaN, and whoever watches losses sees that."""
    return torch.linalg.eigh(_float64_gram(wide).nan_to_num_(0.0, 0.0, 0.0))


def _float64_gram(wide: torch.Tensor) -> torch.Tensor:
    """Gram matrix of the rows in float64, where the device has it."""
    x = wide if wide.device.type == "mps" else wide.double()  # mps has no float64
    return x @ x.T
