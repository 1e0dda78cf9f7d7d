"""The selection score: a mean of known scores, comparable from checkpoint to checkpoint, behind gates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as probabilities_of

from hftransfer.selection.calibration import fit_temperature
from hftransfer.selection.model_predictions import MixedPairs, Predictions
from hftransfer.selection.selection_score import SelectionScore


def made(rows: int = 60, classes: int = 3, seed: int = 0, strength: float = 2.0) -> Predictions:
    """Predictions that are right more often than not."""
    draw = np.random.default_rng(seed)
    labels, target = draw.integers(classes, size=rows), draw.integers(classes, size=rows + 7)
    first, second = draw.integers(len(target), size=(2, 40))
    return Predictions(
        strength * np.eye(classes)[labels] + draw.normal(size=(rows, classes)),
        labels,
        strength * np.eye(classes)[target] + draw.normal(size=(len(target), classes)),
        mixed=MixedPairs(probabilities_of(draw.normal(size=(40, classes)), axis=1), first, second),
    )


def by_hand(p: Predictions) -> dict[str, float]:
    temperature = fit_temperature(p.source_logits, p.source_labels)
    q = probabilities_of(p.target_logits / temperature, axis=1)
    logs = log_softmax(p.target_logits / temperature, axis=1)
    rows, classes = q.shape
    mean = q.mean(0)
    predicted = q.argmax(1)
    pairs = predicted[p.mixed.first] != predicted[p.mixed.second]
    nuclear = np.linalg.svd(q, compute_uv=False).sum() / np.sqrt(rows * classes)
    return {
        "source_accuracy": np.mean(p.source_logits.argmax(1) == p.source_labels),
        "information": (-(mean * np.log(mean)).sum() + (q * logs).sum(1).mean()) / np.log(classes),
        "nuclear_norm": (nuclear - 1 / classes) / (1 - 1 / classes),
        "mixval_inter": np.mean((p.mixed.probabilities.argmax(1) == predicted[p.mixed.first])[pairs]),
    }


@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_the_mean_of_its_parts(classes):
    p = made(classes=classes)
    scored = SelectionScore().score(p)
    expected = by_hand(p)
    assert scored.parts == pytest.approx(expected)
    assert scored.value == pytest.approx(np.mean(list(expected.values())))
    assert not scored.refused


def test_without_mixtures_it_is_the_mean_of_the_rest():
    p = replace(made(), mixed=None)
    scored = SelectionScore().score(p)
    assert set(scored.parts) == {"source_accuracy", "information", "nuclear_norm"}
    assert scored.value == pytest.approx(np.mean(list(scored.parts.values())))


def test_a_better_model_scores_higher_and_a_surer_one_does_not():
    weak, strong = (SelectionScore().score(replace(made(strength=s), mixed=None)).value for s in (1.0, 3.0))
    assert strong > weak + 0.1
    p = replace(made(strength=1.5), mixed=None)
    surer = replace(p, source_logits=4 * p.source_logits, target_logits=4 * p.target_logits)
    assert SelectionScore().score(surer).value == pytest.approx(SelectionScore().score(p).value, abs=1e-4)


def test_ends_of_the_scale():
    certain = 50 * np.eye(4)[np.arange(40) % 4]
    parts = SelectionScore().score(Predictions(certain, np.arange(40) % 4, certain)).parts
    assert list(parts.values()) == pytest.approx([1, 1, 1])
    parts = SelectionScore().score(Predictions(certain, np.arange(40) % 4, np.zeros((40, 4)))).parts
    assert list(parts.values())[1:] == pytest.approx([0, 0], abs=1e-9)


def test_gates():
    p = made()
    accuracy = np.mean(p.source_logits.argmax(1) == p.source_labels)
    rule = SelectionScore()
    assert rule.score(p, accuracy + 0.03).value > 0
    scored = rule.score(p, accuracy + 0.04)
    assert scored.value == -1
    assert "more than 3 points below the best so far" in scored.refused
    assert SelectionScore(source_accuracy_within=0.05).score(p, accuracy + 0.04).value > 0
    assert scored.parts["source_accuracy"] == pytest.approx(accuracy)

    one_class = replace(p, target_logits=p.target_logits + np.array([9.0, 0, 0]), mixed=None)
    assert rule.score(one_class).value == -1
    assert rule.score(one_class).refused == "Every target row is predicted as class 0."
    nearly = np.array([[9.0, 0, 0]] * 99 + [[0, 9.0, 0]])
    assert "have collapsed" in rule.score(replace(p, target_logits=nearly, mixed=None)).refused
    uneven = np.array([[9.0, 0, 0]] * 90 + [[0, 9.0, 0]] * 10)
    assert rule.score(replace(p, target_logits=uneven, mixed=None)).value > 0
