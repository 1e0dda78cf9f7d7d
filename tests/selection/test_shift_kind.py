"""The kind of shift that predictions suggest, on Gaussians where each kind is made on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import Predictions, estimate_label_shift
from hftransfer.selection.shift_kind import UNSEEN, describe_shift

CENTRES = 2.0 * np.eye(3)
EQUAL = [1 / 3] * 3


def rows(frequencies, seed, n=800):
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, n, p=frequencies)
    return labels, CENTRES[labels] + draw.normal(size=(n, 3))


def near_the_border(x, seed):
    """Inputs between classes kept more often: labels given inputs stay what they were."""
    z = np.sort(x @ CENTRES.T, axis=1)
    keep = np.exp(-0.8 * (z[:, -1] - z[:, -2]))
    return x[np.random.default_rng(seed).uniform(size=len(x)) < keep]


def kind(frequencies=EQUAL, border=False, proxy_a_distance=None, seed=0):
    labels, source = rows(EQUAL, seed)
    _, target = rows(frequencies, seed + 100, n=3000 if border else 800)
    if border:
        target = near_the_border(target, seed)
    p = Predictions(source @ CENTRES.T, labels, target @ CENTRES.T)
    return describe_shift(p, estimate_label_shift(p, resamples=0), proxy_a_distance)


@pytest.mark.parametrize("seed", range(3))
def test_each_kind_is_told_from_the_others(seed):
    assert kind(seed=seed).kind == "none visible"
    assert kind([0.7, 0.2, 0.1], seed=seed).kind == "label"
    assert kind(border=True, seed=seed).kind == "covariate"
    assert kind([0.7, 0.2, 0.1], proxy_a_distance=1.9, seed=seed).kind == "both"


def test_features_that_class_frequencies_explain_are_no_covariate_shift():
    """Frequencies 1/3 → 0.7, 0.2, 0.1 let a classifier of domains reach an A-distance of 0.73 at most."""
    assert kind([0.7, 0.2, 0.1], proxy_a_distance=0.7).kind == "label"
    assert kind(proxy_a_distance=0.1).kind == "none visible"
    told = kind(proxy_a_distance=1.0)
    assert told.kind == "covariate"
    assert "75 % of rows" in str(told)
    assert "may not be affected" in str(told)


def test_other_labels_of_the_same_inputs_are_not_seen_and_it_says_so():
    """What is drawn is a shift of inputs or of nothing; the labels of the target are never an argument."""
    for told in (kind(), kind([0.7, 0.2, 0.1]), kind(border=True), kind(border=True, proxy_a_distance=1.0)):
        assert told.sentences[-1] == UNSEEN
        assert str(told) == " ".join(told.sentences)


def test_sentences_say_the_evidence():
    assert "explain 9" in str(kind([0.7, 0.2, 0.1]))
    both = kind(border=True, proxy_a_distance=1.0)
    assert "Inputs differ (covariate shift): predictions" in both.sentences[0]
    assert "Features tell the domains of 75 % of rows." in both.sentences
    assert "confidence is 0." in both.sentences[0]
