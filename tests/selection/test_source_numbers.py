"""Source numbers: counts that stand for rows, and the estimate of class frequencies from them alone."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from hftransfer import SourceNumbers, estimate_label_shift

NAMES = ("down", "up", "flat")


def rows(frequencies, count, seed, noise=1.0):
    draw = np.random.default_rng(seed)
    labels = draw.choice(len(frequencies), count, p=frequencies)
    return 3 * np.eye(len(frequencies))[labels] + noise * draw.normal(size=(count, len(frequencies))), labels


@pytest.fixture(scope="module")
def numbers():
    return SourceNumbers.of(*rows((1 / 3, 1 / 3, 1 / 3), 600, 0), NAMES)


def test_counts_are_those_of_the_rows():
    logits, labels = rows((0.5, 0.3, 0.2), 200, 3)
    numbers = SourceNumbers.of(logits, labels, NAMES)
    scaled = logits / numbers.temperature
    p = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    for true in range(3):
        for predicted in range(3):
            sure = p.max(1)[(labels == true) & (logits.argmax(1) == predicted)]
            counted = [int((sure < 0.6).sum()), int(((sure >= 0.6) & (sure < 0.9)).sum()), int((sure >= 0.9).sum())]
            assert numbers.confusion[true, predicted].tolist() == counted
    assert numbers.class_counts.tolist() == np.bincount(labels).tolist()
    assert numbers.accuracy == (logits.argmax(1) == labels).mean()


def test_they_come_back_from_json_the_same(numbers):
    back = SourceNumbers.read(json.loads(json.dumps(numbers.as_json())), NAMES)
    assert (back.confusion == numbers.confusion).all()
    assert back.temperature == pytest.approx(numbers.temperature, rel=1e-5)
    assert set(numbers.as_json()) == {"labels", "class_counts", "temperature", "confusion"}  # and nothing else


def test_a_shift_of_classes_is_found_and_believed(numbers):
    target, _ = rows((0.7, 0.2, 0.1), 600, 1)
    estimate = estimate_label_shift(numbers.predictions(target), "bbse")
    assert estimate.believed
    assert np.abs(estimate.target_frequencies - (0.7, 0.2, 0.1)).max() < 0.06


def test_none_is_believed_where_there_is_none_or_where_the_model_has_grown_unsure(numbers):
    same, _ = rows((1 / 3, 1 / 3, 1 / 3), 600, 2)
    noisy, _ = rows((1 / 3, 1 / 3, 1 / 3), 600, 2, noise=3.0)
    for target in (same, noisy):
        assert not estimate_label_shift(numbers.predictions(target), "bbse").believed


BROKEN = {
    "no map": (lambda n: [1, 2], "must be a map"),
    "a field too few": (lambda n: {k: v for k, v in n.items() if k != "temperature"}, "must be a map"),
    "a field too many": (lambda n: n | {"rows": []}, "must be a map"),
    "other labels": (lambda n: n | {"labels": ["a", "b", "c"]}, "are of the labels"),
    "a temperature of 0": (lambda n: n | {"temperature": 0.0}, "from 0.05 to 20"),
    "a temperature that is text": (lambda n: n | {"temperature": "1"}, "from 0.05 to 20"),
    "no matrix": (lambda n: n | {"confusion": None}, "must be a list"),
    "a class beyond the last": (lambda n: n | {"confusion": [[3, 0, 0, 1]]}, "no \\[true"),
    "a negative count": (lambda n: n | {"confusion": [[0, 0, 0, -1]]}, "rows in a cell"),
    "a count that is no whole number": (lambda n: n | {"confusion": [[0, 0, 0, 1.5]]}, "no \\[true"),
    "more rows than there can be": (lambda n: n | {"confusion": [[0, 0, 0, 10**12]]}, "rows in a cell"),
    "sums that differ": (lambda n: n | {"class_counts": [1, 2, 3]}, "not the sums"),
    "no rows": (lambda n: n | {"confusion": [], "class_counts": [0, 0, 0]}, "holds no rows"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damaged_numbers_are_refused(numbers, case):
    break_it, said = BROKEN[case]
    with pytest.raises(ValueError, match=said):
        SourceNumbers.read(break_it(copy.deepcopy(numbers.as_json())), NAMES)


def test_an_average_of_weights_does_not_carry_the_numbers_of_one_model():
    from hftransfer.models import interpolation
    from hftransfer.selection.source_numbers import KEY

    assert interpolation.COUNTS == KEY
    assert interpolation._without_counts({KEY: {}, "sources": ["news"]}) == {"sources": ["news"]}
