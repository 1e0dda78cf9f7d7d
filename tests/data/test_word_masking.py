"""Whole-word masking: shares, whole words, and what is left alone, for three kinds of tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import word_tokenizers

from hftransfer.data.word_masking import NO_WORD, WordMasking, number_words

RANDOM = np.arange(5, 48)
MASK = 4


def many_rows(masking: WordMasking, words, times=4000, rates=None):
    ids = 100 + np.arange(len(words))  # no id is one that masking draws
    return ids, [masking(ids, words, np.random.default_rng(i), rates) for i in range(times)]


def test_the_share_of_masked_tokens_is_the_probability():
    words = np.array([-1, 0, 1, 1, 1, 2, 3, 3, 4, 5, -1])
    _, rows = many_rows(WordMasking(MASK, RANDOM, 0.3), words)
    share = np.mean([len(row.positions) for row in rows]) / 9
    assert share == pytest.approx(0.3, abs=0.01)
    per_word = [np.mean([p in row.positions for row in rows]) for p in (1, 2, 5, 6, 8, 9)]
    assert per_word == pytest.approx([0.3] * 6, abs=0.03)


def test_each_word_has_its_own_rate():
    rates = np.array([0.9, 0.05, 0.4, 0.0, 1.0])
    _, rows = many_rows(WordMasking(MASK, RANDOM), np.arange(5), rates=rates)
    assert np.mean([np.isin(np.arange(5), row.positions) for row in rows], 0) == pytest.approx(rates, abs=0.03)
    counts = {len(row.positions) for row in rows}
    assert counts == {2, 3}  # their sum is 2.35


def test_of_masked_words_80_are_hidden_10_random_10_kept():
    _, rows = many_rows(WordMasking(MASK, RANDOM), np.arange(12))
    masked = np.concatenate([row.input_ids[row.positions] for row in rows])
    before = np.concatenate([row.labels for row in rows])
    shares = [(masked == MASK).mean(), np.isin(masked, RANDOM).mean(), (masked == before).mean()]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert sum(shares) == pytest.approx(1)


def test_a_word_is_treated_as_a_whole_and_special_tokens_never():
    words = np.array([-1, 0, 0, 0, 1, -1, 2, 2, -1])
    ids, rows = many_rows(WordMasking(MASK, RANDOM, 0.5), words, 300)
    for row in rows:
        assert not np.isin(row.positions, [0, 5, 8]).any()
        for word in range(3):
            places = np.flatnonzero(words == word)
            chosen = np.isin(places, row.positions)
            assert chosen.all() or not chosen.any()
            hidden = row.input_ids[places] == MASK
            assert hidden.all() or not hidden.any()
        untouched = np.setdiff1d(np.arange(9), row.positions)
        np.testing.assert_array_equal(row.input_ids[untouched], ids[untouched])
        np.testing.assert_array_equal(row.dense_labels[row.positions], ids[row.positions])
        assert (row.dense_labels[untouched] == -100).all()


def test_the_same_generator_masks_the_same_words():
    masking, words = WordMasking(MASK, RANDOM, 0.4), np.arange(20)
    one, same, other = (masking(np.arange(50, 70), words, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.input_ids, same.input_ids)
    assert not np.array_equal(one.input_ids, other.input_ids)


def test_rows_without_words_are_left_alone():
    row = WordMasking(MASK, RANDOM)(np.array([2, 3]), np.array([NO_WORD, NO_WORD]), np.random.default_rng(0))
    assert len(row.positions) == len(row.labels) == 0
    np.testing.assert_array_equal(row.input_ids, [2, 3])


@pytest.mark.parametrize("kind", word_tokenizers.KINDS)
def test_words_of_a_text(kind):
    """WordPiece, byte-level BPE, SentencePiece, and a SentencePiece that takes the text for one word."""
    tokenizer = word_tokenizers.make(kind)
    encoded = tokenizer("fever cured feverfever cured")
    tokens = encoded.tokens()
    numbers = number_words(tokens, encoded.word_ids(), tokenizer.unk_token)
    by_word = {}
    for token, number in zip(tokens, numbers, strict=True):
        by_word.setdefault(number, []).append(token)
    specials = by_word.pop(NO_WORD, [])
    assert set(specials) <= set(tokenizer.all_special_tokens)
    texts = ["".join(part).replace("##", "").lstrip("\u2581\u0120") for part in by_word.values()]
    assert texts == ["fever", "cured", "feverfever", "cured"]
    assert list(by_word) == [0, 1, 2, 3]
    assert any(len(part) > 1 for part in by_word.values())
    masking = WordMasking.for_tokenizer(tokenizer)
    assert not set(masking.random_ids) & set(tokenizer.all_special_ids)


def test_long_runs_without_spaces_are_masked_token_by_token():
    assert number_words(["x"] * 12, [0] * 12) == list(range(12))
    assert number_words(["x"] * 10, [0] * 10) == [0] * 10


def test_unknown_words_have_no_number():
    tokenizer = tiny.tokenizer()
    encoded = tokenizer("w1 neverseen w2")
    assert number_words(encoded.tokens(), encoded.word_ids(), tokenizer.unk_token) == [-1, 0, -1, 1, -1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"probability": 0.0}, "mask_probability=0.0"),
        ({"probability": 1.0}, "above 0 and below 1"),
        ({"hidden_share": 0.9, "random_share": 0.2}, "at most 1 together"),
        ({"random_share": -0.1}, "at least 0 each"),
    ],
)
def test_shares_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        WordMasking(MASK, RANDOM, **settings)


def test_a_tokenizer_without_a_mask_token():
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match=r"has no mask token.*Pre-train an encoder"):
        WordMasking.for_tokenizer(tokenizer)
