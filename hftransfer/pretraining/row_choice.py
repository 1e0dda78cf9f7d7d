"""Data selection for pre-training: the rows of a large pool of texts that are nearest to a task's texts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from ..embeddings.embed import embed
from ..embeddings.input_rows import InputRows, input_rows
from ..messages import nearest
from ..objectives.base import check_count
from .feature_nearness import mean_row, nearest_similarity, spread_rows
from .ngram_weights import log_ratios, log_weights, ngram_counts

BY = ("ngrams", "embeddings")
CANDIDATES_PER_ROW = 20  # rows that k-means++ draws each of its rows from
LEAST_CANDIDATES = 10_000


@dataclass(frozen=True)
class ChosenRows:
    """Rows of a pool that were chosen for pre-training.

    Attributes:
        rows: (count,) row numbers of the pool, the nearest first, those for diversity last.
        scores: (count,) how near each is: by n-grams the logarithm of its importance weight; by embeddings its mean
            cosine similarity to the nearest rows of the task.
        diverse: (count,) which were drawn for diversity.
        pool_size: rows of the pool.
        repeats: rows of the pool that repeat another row of it, and were not chosen from.
        known: rows of the pool that are rows of the task already, and were not chosen from.
        by: `"ngrams"` or `"embeddings"`.

    Example:
        >>> chosen = choose_rows(["w1 w2", "w7", "w1 w3", "w1  W2"], like=["w1 w4"], count=2, diversity=0)
        >>> str(chosen)
        '2 of 4 rows, the nearest by ngrams. Left out before: 1 repeated.'
    """

    rows: np.ndarray
    scores: np.ndarray
    diverse: np.ndarray
    pool_size: int
    repeats: int
    known: int
    by: str

    def __str__(self) -> str:
        diverse = int(self.diverse.sum())
        text = f"{len(self.rows):,} of {self.pool_size:,} rows, the nearest by {self.by}"
        text += f", {diverse:,} of them for diversity." if diverse else "."
        counts = {"repeated": self.repeats, "of the task already": self.known}
        left_out = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        return f"{text} Left out before: {left_out}." if left_out else text


def choose_rows(
    pool: Any,
    like: Any,
    count: int,
    *,
    by: str = "ngrams",
    diversity: float = 0.1,
    buckets: int = 10_000,
    model: Any = None,
    neighbours: int | None = 8,
    seed: int = 0,
    column: str | None = None,
    like_column: str | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    cache_dir: str | os.PathLike[str] | bool | None = None,
    progress: bool = True,
) -> ChosenRows:
    r"""Rows of a large pool of texts that are nearest to a task's texts, for pre-training on them.

    **By n-grams** (DSIR), each row has the importance weight

    \[w(x) = \prod_{g\in x}\frac{p(g)}{q(g)}\]

    with g its words and pairs of words, hashed to buckets, p their frequencies in the task's texts and q in the rows
    to choose from; see `log_ratios`. Rows are drawn without replacement with chances proportional to w: those of the
    largest log w(x) plus Gumbel noise. No model is needed. The weight is of the whole row, so that long rows have
    larger or smaller weights than short ones: split a pool of documents into passages first.

    **By embeddings**, the rows with the largest mean cosine similarity to their k nearest rows of the task, of frozen
    features from `embed`, which caches them; `neighbours=None` compares with all rows of the task.

    A share of the rows, `diversity`, is drawn for spread and not for nearness: by n-grams evenly from the other rows;
    by embeddings far from the rows that were chosen before (k-means++, among a random sample of the other rows).

    Rows that repeat another row but for case and spaces are chosen once, and rows that are texts of the task already
    are not chosen. The result is the same for one seed on any machine, as far as features are. Texts are read in
    chunks; what stays in memory is a few numbers a row and, by embeddings, the features of the task's rows.

    Args:
        pool: texts, or lists of words, or a data set that holds some; no stream, since it is read several times.
        like: texts of the task, without labels.
        count: rows to choose.
        by: `"ngrams"` or `"embeddings"`.
        diversity: share of them that is drawn for diversity, from 0 to below 1.
        buckets: of hashed n-grams.
        model: for embeddings; see `embed`.
        neighbours: k, for embeddings.
        seed: of the draws.
        column, like_column: of data sets; found by its name (`text`, `tokens`) when not given.
        batch_size, max_length, cache_dir, progress: for embeddings; see `embed`.

    Raises:
        TypeError, ValueError: a pool or a setting that cannot be used, a row without text, or a pool of fewer
            different rows than are to be chosen.

    Example:
        >>> pool = [f"w{i % 40} w{i % 7} up" for i in range(60)]
        >>> chosen = choose_rows(pool, medical, 20)
        >>> chosen.rows.shape, bool((chosen.rows < 60).all())
        ((20,), True)

    Papers: Xie et al., Data Selection for Language Models via Importance Resampling, NeurIPS 2023; nearest neighbours
    of a task in embedding space: Gururangan et al., Don't Stop Pretraining, ACL 2020 (kNN-TAPT).
    """
    _check(by, count, diversity, buckets, model, neighbours, seed)
    with _said_of("pool"):
        pool_rows = _texts(pool, column)
        if pool_rows.count is None:
            raise TypeError("it is a stream, and is read several times. Write it to a file, or take rows of it.")
        pool_keys = np.fromiter(map(_key, _each(pool_rows)), np.uint64)
    with _said_of("like"):
        like_rows = _texts(like, like_column)
        like_keys = np.fromiter(map(_key, _each(like_rows)), np.uint64)
    size = len(pool_keys)
    first = np.zeros(size, dtype=bool)
    first[np.unique(pool_keys, return_index=True)[1]] = True
    known = np.isin(pool_keys, like_keys)
    usable = np.flatnonzero(first & ~known)
    if count > len(usable):
        raise ValueError(
            f"{count:,} rows of the pool are to be chosen, and it has {len(usable):,} that differ from each "
            "other and from the texts of the task. Choose fewer, or train on all."
        )
    draw = np.random.default_rng([seed, count])
    diverse_count = int(count * diversity)
    near_count = count - diverse_count
    if by == "ngrams":
        is_usable = first & ~known
        like_counts, pool_counts = (
            ngram_counts(_each(like_rows), buckets),
            ngram_counts(_each(pool_rows, is_usable), buckets),
        )
        scores = np.full(size, -np.inf)
        scores[usable] = log_weights(_each(pool_rows, is_usable), log_ratios(like_counts, pool_counts))
        order = usable[np.argsort(-(scores + draw.gumbel(size=size))[usable], kind="stable")]
        others = draw.permutation(order[near_count:])[:diverse_count]
    else:
        settings: dict[str, Any] = {
            "batch_size": batch_size,
            "max_length": max_length,
            "cache_dir": cache_dir,
            "progress": progress,
        }
        features, like_features = (
            embed(rows.rows, model, column=rows.column, **settings).features for rows in (pool_rows, like_rows)
        )
        centre = mean_row(features)
        scores = nearest_similarity(features, like_features, neighbours, centre)
        order = usable[np.argsort(-scores[usable], kind="stable")]
        candidates = draw.permutation(order[near_count:])
        candidates = np.sort(candidates[: max(CANDIDATES_PER_ROW * diverse_count, LEAST_CANDIDATES)])
        spread = spread_rows(features[candidates], features[np.sort(order[:near_count])], diverse_count, draw, centre)
        others = candidates[spread]
    chosen = np.concatenate([order[:near_count], others])
    diverse = np.arange(count) >= near_count
    repeats = size - int(first.sum())
    return ChosenRows(chosen, scores[chosen], diverse, size, repeats, int((first & known).sum()), by)


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    """Errors in the block, with the name of what they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _texts(rows: Any, column: str | None) -> InputRows:
    """Rows of texts, or of lists of words. Raises as `input_rows`."""
    return input_rows(rows, column, "text")


def _each(rows: InputRows, wanted: np.ndarray | None = None) -> Iterator[str]:
    """Texts in turn, words joined by spaces; those of a mask of all rows, if one is given."""
    texts = (text for chunk in rows.chunks() for text in chunk.values)
    for text in texts if wanted is None else compress(texts, wanted):
        yield text if rows.kind == "text" else " ".join(text)


def _key(text: str) -> int:
    """Number that texts share which are equal but for case and spaces."""
    plain = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")


def _check(by: str, count: int, diversity: float, buckets: int, model: Any, neighbours: int | None, seed: int) -> None:
    """Check of the settings of `choose_rows`. Raises a `ValueError`."""
    if by not in BY:
        raise ValueError(f"by={by!r} must be one of {', '.join(map(repr, BY))}.{nearest(by, BY)}")
    check_count("count", count)
    check_count("buckets", buckets)
    check_count("seed", seed, least=0)
    if neighbours is not None:
        check_count("neighbours", neighbours)
    if isinstance(diversity, bool) or not isinstance(diversity, (int, float)) or not 0 <= diversity < 1:
        raise ValueError(f"diversity={diversity!r} must be a share from 0 to below 1.")
    if by == "embeddings" and model is None:
        raise ValueError("by='embeddings' needs a model: the Hub id or folder of an encoder.")
    if by == "ngrams" and model is not None:
        raise ValueError("model has no effect with by='ngrams'. Leave it out, or set by='embeddings'.")
