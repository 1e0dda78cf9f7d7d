"""Corrections of importance weights: mean 1, a cap, flattening, and how many rows they rest on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...setting_ranges import Bounds

CLIP = Bounds(1, hint="1 is the mean weight, and None caps nothing.")
FLATTEN = Bounds(0, 1)
FEWEST = 0.1  # share of the rows that weights must rest on


def effective_sample_size(weights: ArrayLike) -> float:
    r"""Effective sample size of weighted rows: \((\sum_i w_i)^2 / \sum_i w_i^2\), between 1 and n (Kish 1965).

    Args:
        weights: (n,), not negative, not all 0.

    Raises:
        ValueError: weights that are none.

    Example:
        >>> effective_sample_size([1, 1, 1, 1]), effective_sample_size([1, 0, 0, 0])
        (4.0, 1.0)
    """
    w = checked_weights(weights)
    w = w / w.max()
    return float(w.sum() ** 2 / (w @ w))


def corrected_weights(weights: ArrayLike, clip: float | None = 10.0, flatten: float = 1.0) -> np.ndarray:
    r"""Importance weights with mean 1, capped, and flattened to \(w^\tau\).

    In this order: divided by their mean, capped at `clip`, raised to τ, divided by their mean again. A cap and τ < 1
    trade bias for variance: τ = 0 counts all rows alike. The cap is in units of the mean weight.

    Args:
        weights: (n,), not negative, not all 0.
        clip: the cap, at least 1; `None` for none.
        flatten: τ, between 0 and 1.

    Returns:
        (n,) weights with mean 1.

    Raises:
        ValueError: weights that are none, or a setting out of range.

    Papers: Shimodaira, Improving Predictive Inference under Covariate Shift by Weighting the Log-Likelihood Function,
    Journal of Statistical Planning and Inference 2000 (flattening); Ionides, Truncated Importance Sampling, JCGS 2008
    (capping).

    Example:
        >>> corrected_weights([1, 1, 4], clip=None, flatten=0.5)
        array([0.75, 0.75, 1.5 ])
    """
    clip = None if clip is None else CLIP.read("clip", clip)
    flatten = FLATTEN.read("flatten", flatten)
    w = checked_weights(weights)
    w = w / w.max()  # so that no sum overflows
    w = w / w.mean()
    if clip is not None:
        w = np.minimum(w, clip)
    w = w**flatten
    return w / w.mean()


def refuse_few_rows(weights: ArrayLike, name: str = "instance_weights", fewest: float = FEWEST) -> None:
    """Check that weights rest on enough rows.

    Args:
        weights: (n,) before capping and flattening: both spread them evenly, whatever they rest on.
        name: in the message.
        fewest: effective sample size that is asked for, as a share of the rows.

    Raises:
        ValueError: the effective sample size is below that, or weights that are none.
    """
    w = np.asarray(weights, dtype=np.float64)
    size, rows = effective_sample_size(w), w.size
    if size < fewest * rows:
        raise ValueError(
            f"{name}: the weights rest on {size:.1f} of {rows:,} source rows ({100 * size / rows:.1f} %), and "
            f"{100 * fewest:g} % are the least that can be trusted. As these features see them, source and target "
            "hardly overlap, so a few rows would decide all. Leave weights out and align the domains instead, use "
            "features in which they overlap, or give fewer dimensions, such as principal components."
        )


def checked_weights(weights: ArrayLike) -> np.ndarray:
    """Weights in double precision, (n,); raises `ValueError` unless finite, not negative and not all 0."""
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or not w.size:
        raise ValueError(f"weights must be one a row, not of shape {w.shape}.")
    wrong = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if len(wrong):
        raise ValueError(f"weights: row {wrong[0]} has {w[wrong[0]]}; a weight is a number of at least 0.")
    if not w.any():
        raise ValueError("weights are all 0: no row would count.")
    return w
