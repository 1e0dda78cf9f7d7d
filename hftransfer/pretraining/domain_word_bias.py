"""Domain word bias: words that are commoner in the target than in the source are masked more often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.word_masking import NO_WORD
from .text_rows import WORDS

Word = tuple[int, ...]  # its tokens
HIGHEST = 0.5  # chance of a word to be masked: something of it must be left to read


class DomainWordBias:
    r"""Chance of each word to be masked, by how much commoner it is in the target than in the source.

    \[
        r_w = \frac{(c^t_w + s) / (N^t + s V)}{(c^s_w + s) / (N^s + s V)}, \qquad
        p_w = \min(p_{max},\ \kappa\, r_w^{\beta})
    \]

    with the counts \(c\) of a word, the number of words \(N\), the number of different words \(V\) of both domains,
    and \(s\) for smoothing. \(\kappa\) is such that the expected share of masked tokens, over the texts that are
    trained on, is the probability that was asked for. At \(\beta = 0\), all words are masked alike. Words are compared
    as the tokenizer writes them.

    Args:
        target: counts of the target's words.
        source: counts of the source's words.
        power: \(\beta\).
        probability: the expected share of masked tokens, below a half.
        smoothing: \(s\), in words.

    Attributes:
        scale: \(\kappa\).

    Raises:
        ValueError: a domain without words, or a probability that is not below a half.

    Example:
        >>> bias = DomainWordBias(target=Counter({(7,): 8, (9,): 2}), source=Counter({(9,): 10}), power=1.0)
        >>> bias.rate((7,)) > 0.15 > bias.rate((9,))
        True
        >>> round(0.4 * bias.rate((7,)) + 0.6 * bias.rate((9,)), 6)  # 8 and 12 of 20 words
        0.15
    """

    def __init__(
        self,
        target: Mapping[Word, int],
        source: Mapping[Word, int],
        power: float,
        probability: float = 0.15,
        smoothing: float = 1.0,
    ):
        if not target or not source:
            raise ValueError("target_word_bias compares the words of both domains, and one of them has none.")
        if not 0 < probability < HIGHEST:
            raise ValueError(
                f"mask_probability={probability} with target_word_bias must be below {HIGHEST}, which is the highest "
                "of any word. Lower it, or leave target_word_bias out."
            )
        words = sorted({*target, *source})
        counts = np.array([[target.get(word, 0), source.get(word, 0)] for word in words], dtype=float)
        shares = (counts + smoothing) / (counts.sum(0) + smoothing * len(words))
        ratios = (shares[:, 0] / shares[:, 1]) ** power
        tokens = counts.sum(1) * [len(word) for word in words]
        self.scale = _scale(ratios, tokens / tokens.sum(), probability)
        self.rates = dict(zip(words, np.minimum(HIGHEST, self.scale * ratios).tolist(), strict=True))
        unseen = (smoothing / (counts[:, 0].sum() + smoothing * len(words))) / (
            smoothing / (counts[:, 1].sum() + smoothing * len(words))
        )
        self._unseen = float(min(HIGHEST, self.scale * unseen**power))

    def rate(self, word: Word) -> float:
        """Chance of a word to be masked; of one that was not counted, that of a word with no count in either."""
        return self.rates.get(word, self._unseen)

    def row_rates(self, input_ids: Sequence[int], words: Sequence[int]) -> np.ndarray:
        """(words,) chances of the words of a row, from its tokens and the number of each token's word."""
        return np.array([self.rate(word) for word in words_of(input_ids, words)])

    def most_masked(self, count: int = 10) -> list[Word]:
        """The words that are masked most often, by how often first."""
        return sorted(self.rates, key=lambda word: (-self.rates[word], word))[:count]


def words_of(input_ids: Sequence[int], words: Sequence[int]) -> list[Word]:
    """Words of a row as their tokens, in the order of their numbers.

    Example:
        >>> words_of([2, 9, 10, 11, 3], [-1, 0, 1, 1, -1])
        [(9,), (10, 11)]
    """
    found: list[list[int]] = [[] for _ in range(max(words, default=NO_WORD) + 1)]
    for token, word in zip(input_ids, words, strict=True):
        if word != NO_WORD:
            found[word].append(token)
    return [tuple(tokens) for tokens in found]


def count_words(rows: Iterable[Mapping[str, Any]]) -> Counter[Word]:
    """Counts of the words of rows from `tokenize_rows`."""
    counts: Counter[Word] = Counter()
    for row in rows:
        counts.update(words_of(row["input_ids"], row[WORDS]))
    return counts


def _scale(ratios: np.ndarray, shares: np.ndarray, probability: float) -> float:
    """The factor with which the expected share of masked tokens is the probability, by bisection."""
    low, high = 0.0, HIGHEST / ratios.min()
    for _ in range(200):
        middle = (low + high) / 2
        if shares @ np.minimum(HIGHEST, middle * ratios) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
