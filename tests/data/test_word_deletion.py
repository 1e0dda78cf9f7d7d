"""Word deletion: how many words go, that they go whole, that one stays, and that a draw decides all."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer.data.word_deletion import WordDeletion

IDS = np.array([2, *range(10, 30), 3])
WORDS = np.array([-1, *np.repeat(np.arange(10), 2), -1])  # ten words of two tokens


def left(share: float, seed: int = 0) -> np.ndarray:
    return WordDeletion(share)(IDS, WORDS, np.random.default_rng(seed))


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_words_go_whole_in_their_share_and_the_rest_keeps_its_order(share):
    counts, kept = [], np.zeros(10)
    for seed in range(400):
        row = left(share, seed)
        assert row[0] == 2
        assert row[-1] == 3
        words = (row[1:-1] - 10) // 2
        assert (np.bincount(words, minlength=10)[np.unique(words)] == 2).all()
        assert (np.diff(row[1:-1]) > 0).all()
        counts.append(10 - len(np.unique(words)))
        kept[np.unique(words)] += 1
    assert set(counts) <= {int(np.floor(10 * share)), int(np.ceil(10 * share))}
    assert np.mean(counts) == pytest.approx(10 * share, abs=0.1)
    assert np.abs(kept / 400 - (1 - share)).max() < 0.1  # each word with the same chance


def test_one_word_stays_and_no_word_is_no_error():
    for seed in range(20):
        row = WordDeletion(0.99)(np.array([2, 8, 9, 3]), np.array([-1, 0, 1, -1]), np.random.default_rng(seed))
        assert len(row) == 3
    assert WordDeletion()(np.array([2, 3]), np.array([-1, -1]), np.random.default_rng(0)).tolist() == [2, 3]


def test_the_same_draw_gives_the_same_row():
    assert np.array_equal(left(0.6, 3), left(0.6, 3))
    assert any(not np.array_equal(left(0.6, 3), left(0.6, seed)) for seed in range(4, 8))


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        WordDeletion(share)
