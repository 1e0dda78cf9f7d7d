"""Sums over clipped feature rows, bounded in what one row adds; noise on them, and the statistics made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..objectives.published_statistics import random_features
from .private_noise import Noise

CHUNK = 1024  # rows whose random features are made at once


@dataclass(frozen=True)
class StatisticsSettings:
    """Settings of statistics that are published, checked; see `publish_statistics`.

    Args:
        kinds: of statistics.
        clip_norm, bandwidth, kernels, frequencies, seed: as there.
        privacy: noise multiplier, ε and δ; `None` without noise.
        noise: where it comes from.
    """

    kinds: tuple[str, ...]
    clip_norm: float | None
    bandwidth: float | None
    kernels: int
    frequencies: int
    seed: int
    privacy: tuple[float, float, float] | None
    noise: Noise


def publishable_statistics(
    features: np.ndarray, classes: np.ndarray | None, num_classes: int, settings: StatisticsSettings
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None, dict[str, Any]]:
    """Statistics of features, made of sums with noise alone.

    Args:
        features: (n, d), float64.
        classes, num_classes: of `clipped_sums`.
        settings: checked.

    Returns:
        Arrays by name, facts of the noise, and facts of the kernel.

    Raises:
        ValueError: no bandwidth can be found.
    """
    x, kinds, privacy = clip(features, settings.clip_norm), settings.kinds, settings.privacy
    sums = clipped_sums(x, kinds, classes, num_classes)
    blocks = len(sums) + ("random_features" in kinds)
    deviation = 0.0 if privacy is None else privacy[0] * math.sqrt(blocks)
    scales = {name: deviation * bound for name, bound in bounds_of(settings.clip_norm).items()}
    if privacy is not None:
        sums = add_noise(sums, scales, settings.noise)
    arrays: dict[str, np.ndarray] = {"counts": sums["count"]}
    if "moments" in kinds:
        arrays["mean"], arrays["covariance"] = moments(sums, privacy is not None)
    if "prototypes" in kinds:
        arrays["prototypes"], arrays["has_prototype"] = prototypes(sums, scales["class_sums"], settings.clip_norm)
    of_kernel: dict[str, Any] = {}
    if "random_features" in kinds:
        bandwidth = settings.bandwidth
        if bandwidth is None:  # with noise there are moments
            covariance = arrays["covariance"] if "moments" in kinds else np.cov(x.T)
            bandwidth = float(2 * np.trace(np.atleast_2d(covariance)))
            if bandwidth <= 0:
                raise ValueError("bandwidth: the rows' features are all equal, or all noise; give a number.")
        omega, amplitude = kernel_frequencies(x.shape[1], bandwidth, settings)
        total = np.zeros(2 * settings.frequencies)
        for start in range(0, len(x), CHUNK):
            total += random_features(torch.from_numpy(x[start : start + CHUNK]), omega, amplitude).sum(0).numpy()
        scale, count = scales["random_features"], max(float(sums["count"].sum()), 2.0)
        if privacy is not None:
            total = total + scale * settings.noise.draw(*total.shape)
        arrays |= {"random_features": total / count, "frequencies": omega.numpy(), "amplitude": amplitude.numpy()}
        squared = float(total @ total) - len(total) * scale**2
        of_kernel = {"bandwidth": bandwidth, "kernels": settings.kernels, "frequencies": settings.frequencies}
        of_kernel |= {"seed": settings.seed, "within": (squared - count) / (count * (count - 1))}
    if privacy is None:
        return arrays, None, of_kernel
    of_noise = {
        "mechanism": "Gaussian, once, on sums over clipped rows",
        "multiplier": privacy[0],
        "sums": blocks,
        "sensitivity": math.sqrt(blocks),
        "neighbours": "one row more or less",
        "source": settings.noise.source,
    }
    return arrays, of_noise, of_kernel


def clip(rows: np.ndarray, norm: float | None) -> np.ndarray:
    """Rows of (n, d), those longer than `norm` shortened to it."""
    if norm is None:
        return rows
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * np.minimum(1, norm / np.maximum(lengths, 1e-12))


def clipped_sums(rows: np.ndarray, kinds: Sequence[str], classes: np.ndarray | None, num_classes: int) -> dict:
    """Sums by name: `count` (1,) or (K,), `sum` (d,), `outer` (d, d) and `class_sums` (K, d), as far as the kinds need
    them.

    Args:
        rows: (n, d) clipped, float64.
        kinds: of statistics.
        classes: (n,) class ids; `None` without prototypes.
        num_classes: K.
    """
    sums: dict[str, np.ndarray] = {}
    if "prototypes" in kinds:
        assert classes is not None
        of_class = np.eye(num_classes)[classes]
        sums["count"], sums["class_sums"] = of_class.sum(0), of_class.T @ rows
    else:
        sums["count"] = np.array([float(len(rows))])
    if "moments" in kinds:
        sums["sum"], sums["outer"] = rows.sum(0), rows.T @ rows
    return sums


def bounds_of(clip_norm: float | None) -> dict[str, float]:
    r"""Bounds on the length of what one row adds to each sum: 1 to the counts and to the random features, C to a sum
    of rows \(x\) with \(\lVert x\rVert \le C\), and C² to \(\sum xx^\top\), whose Frobenius norm is \(\lVert
    x\rVert^2\)."""
    c = 1.0 if clip_norm is None else clip_norm
    return {"count": 1.0, "sum": c, "outer": c * c, "class_sums": c, "random_features": 1.0}


def add_noise(sums: Mapping[str, np.ndarray], scales: Mapping[str, float], noise: Noise) -> dict[str, np.ndarray]:
    """Sums with Gaussian noise of a standard deviation each; the outer products' keeps them symmetric."""
    return {
        name: value
        + scales[name] * (noise.draw_symmetric(len(value)) if name == "outer" else noise.draw(*value.shape))
        for name, value in sums.items()
    }


def moments(sums: Mapping[str, np.ndarray], noised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d), divisor n - 1. Of noised sums, negative eigenvalues are cut off: the noise has
    made them."""
    count = max(float(sums["count"].sum()), 2.0)
    mean = sums["sum"] / count
    covariance = (sums["outer"] - count * np.outer(mean, mean)) / (count - 1)
    if noised:
        values, vectors = np.linalg.eigh(covariance)
        covariance = (vectors * values.clip(0)) @ vectors.T
    return mean, (covariance + covariance.T) / 2


def prototypes(sums: Mapping[str, np.ndarray], scale: float, clip_norm: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Class means (K, d), and whether each class has one (K,).

    A class without rows has none. With noise, neither has one in whose mean the noise is expected to be as long as
    the clipping norm, the longest that a mean can be.

    Args:
        sums: with `count` and `class_sums`.
        scale: standard deviation of the noise on the class sums.
        clip_norm: C.
    """
    counts, width = sums["count"], sums["class_sums"].shape[1]
    present = counts >= 0.5
    if scale and clip_norm is not None:
        present &= counts * clip_norm > scale * np.sqrt(width)
    means = sums["class_sums"] / np.where(present, counts, 1)[:, None]
    return np.where(present[:, None], means, 0), present


def kernel_frequencies(
    width: int, bandwidth: float, settings: StatisticsSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(d, D) frequencies and (D,) amplitudes, those of `mmd_rff` with a fixed bandwidth, float64.

    They are rounded as they are published, so that the other site's features are the same function; the amplitudes
    are a millionth shorter, so that no rounding makes a row of random features longer than 1.
    """
    kernels, draws = settings.kernels, torch.Generator().manual_seed(settings.seed)
    kernel = torch.arange(settings.frequencies) % kernels
    top = 2.0 ** ((kernels - 1) // 2)
    widths = bandwidth * top * 0.5 ** torch.arange(kernels, dtype=torch.float64)
    directions = torch.randn(width, settings.frequencies, generator=draws, dtype=torch.float64)
    amplitude = (kernels * torch.bincount(kernel)[kernel].double()).rsqrt() * (1 - 1e-6)
    return (directions * (2 / widths[kernel]).sqrt()).float().double(), amplitude.float().double()
