"""Masking biased to the target's words: the formula, against NumPy, and the expected share."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hftransfer.pretraining.domain_word_bias import HIGHEST, DomainWordBias, count_words, words_of

TARGET = Counter({(1,): 50, (2,): 20, (3, 4): 30, (5,): 1})
SOURCE = Counter({(1,): 50, (2,): 90, (6, 7, 8): 10, (5,): 1})


def expected_share(bias: DomainWordBias) -> float:
    tokens = {word: (TARGET[word] + SOURCE[word]) * len(word) for word in {*TARGET, *SOURCE}}
    return sum(bias.rate(word) * count for word, count in tokens.items()) / sum(tokens.values())


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("probability", [0.05, 0.15, 0.4])
def test_the_expected_share_of_masked_tokens_stays(power, probability):
    bias = DomainWordBias(TARGET, SOURCE, power, probability)
    assert expected_share(bias) == pytest.approx(probability, abs=1e-6)
    assert max(bias.rates.values()) <= HIGHEST


def test_the_ratio_of_two_words_is_that_of_the_formula():
    bias = DomainWordBias(TARGET, SOURCE, power=0.5, probability=0.1)
    size = len({*TARGET, *SOURCE})
    ratio = {
        word: ((TARGET[word] + 1) / (sum(TARGET.values()) + size))
        / ((SOURCE[word] + 1) / (sum(SOURCE.values()) + size))
        for word in [(1,), (2,), (6, 7, 8)]
    }
    rates = np.array([bias.rate(word) for word in ratio])
    np.testing.assert_allclose(rates / rates[0], np.array(list(ratio.values())) ** 0.5 / ratio[1,] ** 0.5, rtol=1e-9)
    assert bias.most_masked(1) == [(3, 4)]


def test_without_a_power_all_words_are_masked_alike():
    bias = DomainWordBias(TARGET, SOURCE, power=0.0)
    assert set(np.round(list(bias.rates.values()), 9)) == {0.15}
    assert bias.rate((99,)) == pytest.approx(0.15)


def test_words_of_rows_are_counted():
    rows = [{"input_ids": [2, 9, 10, 11, 3], "words": [-1, 0, 1, 1, -1]}, {"input_ids": [9, 9], "words": [0, 1]}]
    assert count_words(rows) == {(9,): 3, (10, 11): 1}
    assert words_of([], []) == []
    bias = DomainWordBias(TARGET, SOURCE, power=1.0)
    np.testing.assert_allclose(bias.row_rates([0, 3, 4, 1], [-1, 0, 0, 1]), [bias.rate((3, 4)), bias.rate((1,))])
