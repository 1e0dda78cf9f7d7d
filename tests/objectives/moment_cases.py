"""What the tests of moments and transport share: weighted batches, and weighted moments by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases import batch


def weighted(
    n: int = 7, m: int = 5, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32, classes: int = 3
) -> dict[str, Any]:
    """A batch whose source rows weigh between 0.3 and 1.3."""
    inputs = batch(n, m, width, classes, seed=seed, dtype=dtype)
    g = torch.Generator().manual_seed(100 + seed)
    inputs["source_weights"] = (0.3 + torch.rand(n, generator=g, dtype=torch.float64)).to(dtype)
    return inputs


def moment(x: np.ndarray, w: np.ndarray, power: int, center: Any = 0.0) -> np.ndarray:
    """Weighted mean of (x - center)^power, row by row."""
    return sum(wi * (row - center) ** power for wi, row in zip(w, x, strict=True)) / w.sum()


def covariance(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted, with the unbiased divisor, row by row."""
    center = moment(x, w, 1)
    total = sum(wi * np.outer(row - center, row - center) for wi, row in zip(w, x, strict=True))
    return total / (w.sum() - (w**2).sum() / w.sum())


def collapsed(n: int, m: int, scale: float) -> dict[str, Any]:
    """Every row of both domains the same; features want a gradient."""
    row = scale * torch.randn(64, generator=torch.Generator().manual_seed(0))
    inputs = batch(n, m, 64)
    return inputs | {f"{d}_features": row.repeat(k, 1).requires_grad_() for d, k in (("source", n), ("target", m))}


def gradients(value: torch.Tensor, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value, [inputs["source_features"], inputs["target_features"]])
