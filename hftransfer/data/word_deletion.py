"""Word deletion: rows of which words drawn at random are missing, for denoising (Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .word_masking import NO_WORD, draw_words


@dataclass(frozen=True)
class WordDeletion:
    r"""Deletion of whole words.

    Each word is deleted with probability \(p\), and how many are is within one of \(p\) times their number; one word
    stays in any case. Tokens of no word, such as special ones and unknown words, stay.

    Args:
        share: \(p\), of the words.

    Raises:
        ValueError: it is not above 0 and below 1.

    Example:
        >>> deletion = WordDeletion(0.5)
        >>> deletion(np.array([2, 9, 10, 11, 3]), np.array([-1, 0, 1, 1, -1]), np.random.default_rng(0))
        array([2, 9, 3])

    Paper: Wang, Reimers and Gurevych, TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
    Unsupervised Sentence Embedding Learning, Findings of EMNLP 2021.
    """

    share: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share} must be above 0 and below 1.")

    def __call__(
        self, input_ids: np.ndarray | Sequence[int], words: np.ndarray | Sequence[int], rng: np.random.Generator
    ) -> np.ndarray:
        """(tokens left,) of a row.

        Args:
            input_ids: (tokens,).
            words: (tokens,) number of each token's word, from `number_words`; -1 for none.
            rng: decides; the same state, the same words.
        """
        ids, words = np.asarray(input_ids), np.asarray(words)
        count = int(words.max(initial=NO_WORD)) + 1
        deleted = draw_words(rng, np.full(count, self.share))
        stays = int(rng.integers(max(1, count)))  # drawn in any case
        if count and deleted[:count].all():
            deleted[stays] = False
        return ids[~deleted[words]]
