"""Bootstrap of a ranking: how often each of several candidates comes first when the rows are drawn anew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 100  # resamples that are drawn at a time


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """(..., M) scores, larger is better -> (..., M) mean ranks from 1 on; equal scores share theirs.

    Example:
        >>> ranks_of(np.array([0.5, 0.9, 0.5]))
        array([2.5, 1. , 2.5])
    """
    mine, others = scores[..., :, None], scores[..., None, :]
    return 0.5 + (others > mine).sum(-1) + 0.5 * (others == mine).sum(-1)


def order_of(scores: np.ndarray, *breakers: np.ndarray) -> np.ndarray:
    """(M,) places from 1 on, by scores, larger first; equal ones by the first of the breakers that tells them apart.

    Example:
        >>> order_of(np.array([0.5, 0.9, 0.5]), np.array([1.0, 0.0, 2.0]))
        array([3, 1, 2])
    """
    places = np.empty(len(scores), dtype=int)
    places[np.lexsort([-np.asarray(keys) for keys in (*reversed(breakers), scores)])] = 1 + np.arange(len(scores))
    return places


def resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of resampled rows, (M, n) -> (resamples, M): all M lines are averaged over the same drawn rows.

    Args:
        values: (M, n), such as whether each of M probes is right on each of n rows.
        resamples: how many.
        seed: of the draws; equal seeds and numbers of rows draw the same rows.
    """
    rows = values.shape[1]
    lines = values.T.astype(np.float64)
    return np.concatenate([drawn @ lines / rows for drawn in _counts(rows, resamples, seed)])


def _counts(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(chunk, rows) how often each row is drawn."""
    draw = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        chunk = min(CHUNK, resamples - start)
        drawn = draw.integers(0, rows, (chunk, rows)) + rows * np.arange(chunk)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * chunk).reshape(chunk, rows).astype(np.float64)


def share_first(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Share of resamples in which each candidate comes first, (resamples, M) -> (M,).

    Args:
        scores: of the resamples, larger is better.
        places: (M,), those on all rows: of candidates with equal scores in a resample, the one that is first there.

    Example:
        >>> share_first(np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.7], [0.3, 0.3]]), np.array([1, 2]))
        array([0.75, 0.25])
    """
    order = np.argsort(places)
    winners = order[scores[:, order].argmax(1)]
    return np.bincount(winners, minlength=scores.shape[1]) / len(scores)
