"""Words of a tokenized row, told from its tokens alone: which token belongs to which word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from .word_masking import WORD_STARTS, number_words

CONTINUES = "##"  # how WordPiece writes a token that goes on with a word


class TokenWords:
    """Numbers of the words of rows of token ids, as `number_words` counts them.

    Where the vocabulary writes the space in front of a word (SentencePiece, byte-level BPE), a word begins there and
    at punctuation; where it writes that a token goes on with a word (WordPiece), a word ends before the first that
    does not; elsewhere each token is a word.

    Args:
        tokenizer: of the rows.
    """

    def __init__(self, tokenizer: Any):
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.tokens = {i: token for token, i in vocabulary.items()}
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special = {*tokenizer.all_special_ids, *added}
        self.unknown = tokenizer.unk_token
        self.marks_starts = any(token.startswith(WORD_STARTS) for token in vocabulary)
        self.marks_rests = not self.marks_starts and any(token.startswith(CONTINUES) for token in vocabulary)

    def __call__(self, input_ids: Sequence[int]) -> np.ndarray:
        """(tokens,) number of each token's word, from 0; -1 for special and unknown tokens."""
        tokens = [self.tokens.get(i, "") for i in input_ids]
        word_ids: list[int | None] = []
        number, previous = -1, None
        for i, token in zip(input_ids, tokens, strict=True):
            if i in self.special:
                previous = None
                word_ids.append(None)
                continue
            number += previous is None or self._starts(token, previous)
            previous = token
            word_ids.append(number)
        return np.array(number_words(tokens, word_ids, self.unknown), dtype=np.int64)

    def _starts(self, token: str, previous: str) -> bool:
        """Whether a word begins with a token that follows another."""
        if self.marks_starts:
            return token.startswith(WORD_STARTS) or _is_punctuation(token) or _is_punctuation(previous)
        return not (self.marks_rests and token.startswith(CONTINUES))


def _is_punctuation(token: str) -> bool:
    text = token.lstrip("".join(WORD_STARTS))
    return bool(text) and all(unicodedata.category(character).startswith("P") for character in text)
