"""What the tests of kernel objectives share: kernel matrices and discrepancies by their definitions, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases import MULTIPLIERS, distances
from torch.utils._python_dispatch import TorchDispatchMode


def kernel_matrix(z: np.ndarray, weights: np.ndarray, bandwidth: Any = "mean", kernels: int = 5) -> np.ndarray:
    """Mean Gaussian kernel of all rows; `weights` are those of the first rows, the others weigh 1."""
    w, d = np.concatenate([weights, np.ones(len(z) - len(weights))]), distances(z)
    if bandwidth == "mean":  # a row of weight 2 is two rows, at a distance of 0 from each other
        bandwidth = (np.outer(w, w) * d).sum() / (w.sum() * (w.sum() - 1))
    elif bandwidth == "median":
        pairs = np.sort(d[np.triu_indices(len(z), 1)])
        bandwidth = pairs[(len(pairs) - 1) // 2]
    return np.mean([np.exp(-d / (mu * bandwidth)) for mu in MULTIPLIERS[kernels]], axis=0)


def average(block: np.ndarray, a: np.ndarray, b: np.ndarray, diagonal: bool = True) -> float:
    """Mean of a block whose rows weigh `a` and columns `b`; `diagonal`: and a row goes with itself."""
    weight = np.outer(a, b) * (1 if diagonal else 1 - np.eye(len(a)))
    return (weight * block).sum() / weight.sum()


def kernel_mmd(k: np.ndarray, weights: np.ndarray, estimator: str = "unbiased") -> float:
    """MMD² of the first rows, which are weighted, against the others."""
    n, w, ones, biased = len(weights), weights, np.ones(len(k) - len(weights)), estimator == "biased"
    within = average(k[:n, :n], w, w, biased) + average(k[n:, n:], ones, ones, biased)
    return within - 2 * average(k[:n, n:], w, ones)


def mmd(x: np.ndarray, y: np.ndarray, estimator: str = "unbiased", bandwidth: Any = "mean", kernels: int = 5) -> float:
    ones = np.ones(len(x))
    return kernel_mmd(kernel_matrix(np.concatenate([x, y]), ones, bandwidth, kernels), ones, estimator)


def tllib_index(n: int) -> np.ndarray:
    """What that library multiplies its kernel matrix of 2n rows with in the quadratic form."""
    index = np.full((2 * n, 2 * n), -1 / n**2)
    for i in range(n):
        for j in range(n):
            index[i, j] = index[n + i, n + j] = 0 if i == j else 1 / (n * (n - 1))
    return index


def tllib_bandwidth(z: np.ndarray) -> float:
    """The mean over all pairs and the zero diagonal."""
    return float(distances(z).mean())


def tllib_kernel(z: np.ndarray) -> np.ndarray:
    """Its kernels on features, summed."""
    return sum(np.exp(-distances(z) / (2 * alpha * tllib_bandwidth(z))) for alpha in (1 / 8, 1 / 4, 1 / 2, 1, 2))


class Largest(TorchDispatchMode):
    """Notes the number of entries of the largest tensor that is made within."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.entries = max(self.entries, out.numel())
        return out


def shifted_labels(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes that look the same in both domains, 3 : 1 in the source and 1 : 3 in the target.

    Source rows, their weights p_T/p_S, target rows, and everybody's logits (source first).
    """
    g = torch.Generator().manual_seed(seed)
    quarter = rows // 4
    labels = torch.tensor([0] * 3 * quarter + [1] * quarter)
    both = torch.cat([labels, 1 - labels])
    z = torch.randn(2 * rows, 4, generator=g) + 3.0 * both.unsqueeze(1)
    weights = torch.where(labels == 0, 1 / 3, 3.0)
    return z[:rows], weights, z[rows:], 4.0 * torch.nn.functional.one_hot(both).float()
