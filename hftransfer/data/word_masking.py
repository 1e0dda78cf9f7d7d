"""Whole-word masking: words drawn at random, hidden, replaced or kept, with what to predict (Devlin et al. 2019).

Words are those of the tokenizer (`word_ids()`), so that WordPiece, byte-level BPE and SentencePiece are masked alike:
all tokens of a word, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ignored_label import IGNORE

NO_WORD = -1  # number of a token that belongs to no word: special tokens, unknown words
LONGEST_WORD = 10  # tokens; a longer one, as a text without spaces is to some tokenizers, is masked token by token
WORD_STARTS = ("\u2581", "\u0120")  # how SentencePiece and byte-level BPE write the space in front of a word


@dataclass(frozen=True)
class MaskedRow:
    """Tokens of a row with some of them masked.

    Attributes:
        input_ids: (tokens,) what the model reads.
        positions: (masked,) of the tokens to predict, in order.
        labels: (masked,) what stood there.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray

    @property
    def dense_labels(self) -> np.ndarray:
        """(tokens,) labels as `AutoModelForMaskedLM` takes them: -100 where nothing is predicted."""
        labels = np.full(len(self.input_ids), IGNORE)
        labels[self.positions] = self.labels
        return labels


@dataclass(frozen=True)
class WordMasking:
    r"""Whole-word masking of rows.

    Word \(w\) is masked with probability \(p_w\), by default the same for all; the expected share of masked tokens is
    then \(p\). Words are drawn as `draw_words` says: their number is within one of its expectation, so that a row with
    \(\sum_w p_w \ge 1\) has a masked word. Of masked words, a share is hidden behind the mask token, a share is
    replaced by random tokens, and the rest stays.

    Args:
        mask_id: of the mask token.
        random_ids: of the tokens that may replace others; no special ones.
        probability: \(p\), of a word to be masked.
        hidden_share: of masked words that become mask tokens.
        random_share: of masked words that become random tokens.

    Raises:
        ValueError: probability or shares that cannot be.

    Example:
        >>> masking = WordMasking(mask_id=4, random_ids=np.arange(5, 48), probability=0.5, random_share=0.0)
        >>> row = masking(np.array([2, 9, 10, 11, 3]), np.array([-1, 0, 1, 1, -1]), np.random.default_rng(0))
        >>> row.positions, row.labels
        (array([2, 3]), array([10, 11]))
        >>> row.input_ids
        array([2, 9, 4, 4, 3])
    """

    mask_id: int
    random_ids: np.ndarray
    probability: float = 0.15
    hidden_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        check_shares(self.probability, self.hidden_share, self.random_share)

    @classmethod
    def for_tokenizer(cls, tokenizer: Any, **settings: Any) -> WordMasking:
        """Masking with a tokenizer's mask token, and all its tokens but the special ones as random ones.

        Args:
            tokenizer: with a mask token.
            **settings: probability and shares.

        Raises:
            ValueError: it has no mask token, or the settings cannot be.
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, so this is no model of masked words. Pre-train an "
                "encoder whose tokenizer has one, such as BERT's, RoBERTa's or ModernBERT's."
            )
        return cls(int(tokenizer.mask_token_id), ordinary_ids(tokenizer), **settings)

    def __call__(
        self,
        input_ids: np.ndarray | Sequence[int],
        words: np.ndarray | Sequence[int],
        rng: np.random.Generator,
        rates: np.ndarray | None = None,
    ) -> MaskedRow:
        """A row with words masked.

        Args:
            input_ids: (tokens,).
            words: (tokens,) number of each token's word, from `number_words`; -1 for none.
            rng: decides; the same state, the same words.
            rates: (words,) probability of each word; `probability` for all when absent.
        """
        ids, words = np.array(input_ids), np.asarray(words)
        count = int(words.max(initial=NO_WORD)) + 1
        rates = np.full(count, self.probability) if rates is None else rates
        chosen = draw_words(rng, rates)
        kind = np.append(rng.random(count), 1.0)  # a draw of each word, so that none depends on which are masked
        positions = np.flatnonzero(chosen[words])
        labels, kinds = ids[positions], kind[words[positions]]
        hidden = kinds < self.hidden_share
        random = ~hidden & (kinds < self.hidden_share + self.random_share)
        ids[positions[hidden]] = self.mask_id
        ids[positions[random]] = rng.choice(self.random_ids, int(random.sum()))
        return MaskedRow(ids, positions, labels)


def draw_words(rng: np.random.Generator, rates: np.ndarray) -> np.ndarray:
    """Words drawn by systematic sampling in random order (Madow 1949): each with its probability, and their number is
    within one of its expectation.

    Args:
        rng: decides.
        rates: (words,) probability of each.

    Returns:
        (words + 1,) whether each is drawn; the last, at -1, stands for tokens of no word and never is.

    Example:
        >>> draw_words(np.random.default_rng(0), np.full(4, 0.5)).sum().item()
        2
    """
    order = rng.permutation(len(rates))
    before = rng.random() + np.concatenate([[0.0], np.cumsum(rates[order])])
    drawn = np.zeros(len(rates) + 1, dtype=bool)
    drawn[order] = np.floor(before[1:]) > np.floor(before[:-1])
    return drawn


def ordinary_ids(tokenizer: Any) -> np.ndarray:
    """(tokens,) ids of all tokens of a tokenizer but the special ones, in order."""
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    return np.array(sorted(set(tokenizer.get_vocab().values()) - special))


def check_shares(probability: float, hidden_share: float, random_share: float) -> None:
    """Check of the shares of words that are masked, hidden and replaced; raises `ValueError`."""
    if not 0 < probability < 1:
        raise ValueError(f"mask_probability={probability} must be above 0 and below 1.")
    if min(hidden_share, random_share) < 0 or hidden_share + random_share > 1 + 1e-9:
        raise ValueError(
            f"mask_hidden_share={hidden_share:g} and mask_random_share={random_share:g} are shares of the masked "
            "words: at least 0 each, and at most 1 together."
        )


def number_words(tokens: Sequence[str], word_ids: Sequence[int | None], unknown_token: str | None = None) -> list[int]:
    """Number of the word that each token of a row belongs to, counted from 0; -1 for tokens of no word.

    A word begins where the tokenizer says, and where a token begins with a space: some SentencePiece tokenizers take a
    whole text for one word. Words of more than ten tokens are counted token by token. An unknown word has nothing to
    predict and gets no number.

    Args:
        tokens: of the row.
        word_ids: as a fast tokenizer's encoding gives them.
        unknown_token: of the tokenizer.

    Example:
        >>> number_words(["[CLS]", "fe", "##ver", "cured", "[SEP]"], [None, 0, 0, 1, None])
        [-1, 0, 0, 1, -1]
    """
    runs: list[list[int]] = []  # positions of each word
    previous: int | None = None
    for position, (token, word) in enumerate(zip(tokens, word_ids, strict=True)):
        if word is None or token == unknown_token:
            previous = None
            continue
        if word != previous or token.startswith(WORD_STARTS):
            runs.append([])
        runs[-1].append(position)
        previous = word
    pieces = [piece for run in runs for piece in ([run] if len(run) <= LONGEST_WORD else [[p] for p in run])]
    numbers = [NO_WORD] * len(tokens)
    for number, piece in enumerate(pieces):
        for position in piece:
            numbers[position] = number
    return numbers
