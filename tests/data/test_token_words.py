"""Words of a row told from its tokens: those that the tokenizer itself tells."""

from __future__ import annotations

import pytest
import word_tokenizers

from hftransfer.data.token_words import TokenWords
from hftransfer.data.word_masking import number_words


@pytest.mark.parametrize("kind", word_tokenizers.KINDS)
def test_words_are_the_tokenizers(kind):
    tokenizer = word_tokenizers.make(kind)
    encoding = tokenizer("fever cured fever")
    ids = encoding["input_ids"]
    expected = number_words(tokenizer.convert_ids_to_tokens(ids), encoding.word_ids(), tokenizer.unk_token)
    assert TokenWords(tokenizer)(ids).tolist() == expected
    assert max(expected) >= 2
