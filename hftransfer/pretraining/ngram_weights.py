"""Importance weights of texts from hashed n-grams (DSIR): how much likelier a text is among some texts than others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from zlib import crc32

import numpy as np

# A word, a run of signs, or one character of a script that is written without spaces.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]+")


def ngram_buckets(text: str, buckets: int) -> np.ndarray:
    """Buckets of a text's words and pairs of neighbouring words, in lower case.

    The hash is the CRC-32 of their UTF-8 bytes, the same in every process and on every machine.

    Args:
        text: one.
        buckets: number of buckets that n-grams are hashed to.

    Shapes: -> (n-grams,) numbers from 0 to buckets - 1.

    Example:
        >>> len(ngram_buckets("The patient was treated.", 10_000))  # 5 words and signs, 4 pairs
        9
    """
    words = [word.encode("utf-8", "surrogatepass") for word in WORDS.findall(text.lower())]
    grams = words + [b"%b %b" % pair for pair in pairwise(words)]
    return np.fromiter((crc32(gram) % buckets for gram in grams), np.int64, len(grams))


def ngram_counts(texts: Iterable[str], buckets: int) -> np.ndarray:
    """Number of n-grams of all texts in each bucket.

    Shapes: -> (buckets,).
    """
    counts = np.zeros(buckets, np.int64)
    for text in texts:
        np.add.at(counts, ngram_buckets(text, buckets), 1)
    return counts


def log_ratios(like_counts: np.ndarray, pool_counts: np.ndarray) -> np.ndarray:
    r"""Logarithm of how much more frequent an n-gram is in the one set of texts than in the other, by bucket.

    With c the counts and N the sum of the one set, q the other set's frequencies and K the number of its buckets that
    are not empty,

    \[\log\frac{p_b}{q_b}, \qquad p_b = \frac{c_b + K q_b}{N + K}\]

    The paper divides by sums alone, and a bucket that few texts happen to lack then outweighs all others. Here the
    frequencies p start at q, which counts as much as K n-grams: few texts say little, many texts say what the paper's
    ratio says. A bucket that the pool lacks has ratio 0: no row of the pool is in it.

    Args:
        like_counts: (B,) of the texts that rows should be like.
        pool_counts: (B,) of all rows.

    Shapes: -> (B,).
    """
    frequencies = pool_counts / max(pool_counts.sum(), 1)
    used = pool_counts > 0
    kinds = used.sum()
    ratios = np.zeros(len(pool_counts))
    ratios[used] = np.log((like_counts[used] / frequencies[used] + kinds) / (like_counts.sum() + kinds))
    return ratios


def log_weights(texts: Iterable[str], ratios: np.ndarray) -> np.ndarray:
    """Logarithm of each text's importance weight: the sum of its n-grams' ratios.

    Args:
        texts: in turn; none is kept.
        ratios: (B,) from `log_ratios`.

    Shapes: -> (texts,).
    """
    return np.array([ratios[ngram_buckets(text, len(ratios))].sum() for text in texts], dtype=np.float64)
