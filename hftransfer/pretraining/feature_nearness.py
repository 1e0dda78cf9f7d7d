"""Nearness of rows by their features: mean cosine similarity to the nearest ones, and rows spread by k-means++."""

from __future__ import annotations

import numpy as np

CELLS = 1 << 23  # entries of a block of similarities that are in memory at once


def nearest_similarity(
    features: np.ndarray, like_features: np.ndarray, neighbours: int | None = 8, centre: np.ndarray | None = None
) -> np.ndarray:
    r"""Mean cosine similarity of each row to its nearest rows of another set.

    \[\frac1k\sum_{j\in N_k(i)}\cos(x_i - \mu, y_j - \mu)\]

    μ is the mean of all rows of the first set: features of most encoders share a large direction, which makes all
    rows alike until it is subtracted.

    Args:
        features: (n, d), memory-mapped or not; read in blocks.
        like_features: (m, d).
        neighbours: k; all m rows when `None` or where there are no more.
        centre: (d,) in place of the mean of `features`.

    Shapes: -> (n,).

    Example:
        >>> nearest_similarity(np.eye(3), np.array([[5.0, 0, 0]]), 1).round(2)
        array([ 0.87, -0.44, -0.44])
    """
    mean = mean_row(features) if centre is None else centre
    like = unit_rows(like_features, mean)
    count = len(like) if neighbours is None else min(neighbours, len(like))
    scores = np.empty(len(features))
    if count == len(like):
        like, count = like.mean(0, keepdims=True), 1  # a mean of cosines is the cosine's with the mean
    for rows in _blocks(len(features), len(like)):
        similarities = unit_rows(features[rows], mean) @ like.T
        nearest = np.partition(similarities, len(like) - count, axis=1)[:, len(like) - count :]
        scores[rows] = nearest.mean(1)
    return scores


def spread_rows(
    features: np.ndarray,
    taken_features: np.ndarray,
    count: int,
    draw: np.random.Generator,
    centre: np.ndarray | None = None,
) -> np.ndarray:
    """Rows spread over their features, by the seeding of k-means++.

    Each row is drawn with a probability proportional to the squared distance, of normalised features, to the nearest
    row that is taken already.

    Args:
        features: (n, d) of the rows to draw from.
        taken_features: (m, d) of rows that were taken before.
        count: rows to draw, at most n.
        draw: random numbers.
        centre: (d,) subtracted first; the mean of `features` when `None`.

    Returns:
        (count,) row numbers in the order in which they were drawn.

    Paper: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.
    """
    mean = mean_row(features) if centre is None else centre
    rows, taken = unit_rows(features, mean), unit_rows(taken_features, mean)
    nearest = np.full(len(rows), -1.0)  # largest cosine to a row that is taken
    if len(taken):
        for block in _blocks(len(rows), len(taken)):
            nearest[block] = (rows[block] @ taken.T).max(1)
    chosen: list[int] = []
    left = np.ones(len(rows), dtype=bool)
    while len(chosen) < count:
        distances = np.where(left, np.maximum(2 - 2 * nearest, 0), 0)
        distances[distances < 1e-12] = 0  # the same row, to rounding
        total = distances.sum()
        shares = distances / total if total else left / left.sum()
        row = int(draw.choice(len(rows), p=shares))
        chosen.append(row)
        left[row] = False
        nearest = np.maximum(nearest, rows @ rows[row])
    return np.array(chosen, dtype=np.int64)


def mean_row(features: np.ndarray) -> np.ndarray:
    """Mean of all rows, in float64, read in blocks.

    Shapes: (n, d) -> (d,).
    """
    total = np.zeros(features.shape[1])
    for rows in _blocks(len(features), features.shape[1]):
        total += np.asarray(features[rows], dtype=np.float64).sum(0)
    return total / max(len(features), 1)


def unit_rows(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rows of length 1 after the centre is subtracted, in float64; a row at the centre becomes 0.

    Shapes: (n, d), (d,) -> (n, d).
    """
    moved = np.asarray(features, dtype=np.float64) - centre
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.divide(moved, length, out=np.zeros_like(moved), where=length > 0)


def _blocks(rows: int, width: int) -> list[slice]:
    """Slices of rows such that a block of so many columns stays small."""
    size = max(1, CELLS // max(width, 1))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
