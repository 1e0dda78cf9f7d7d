"""Co-Tuning against NumPy: the loss, the direct relation, the calibrated one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.objectives.anchoring.co_tuning import calibrated_relation, direct_relation
from hftransfer.objectives.base import TeacherFacts


def taught():
    """With a teacher of five classes."""
    g = torch.Generator().manual_seed(3)
    facts = [TeacherFacts("a teacher", 6, tuple("abcde"), False, (torch.randn(5, 6, generator=g), torch.zeros(5)))]
    return build_objectives(parse_objectives("co_tuning"), 6, 3, teachers=lambda where: facts)[0]["co_tuning"]


def predictions(rows=120, seed=0):
    """Logits of five classes, of which a and b are mostly class 0, c is 1, d and e are 2; and labels."""
    g = np.random.default_rng(seed)
    z = g.integers(0, 5, rows)
    labels = np.array([0, 0, 1, 2, 2])[z]
    noisy = g.random(rows) < 0.1
    labels[noisy] = g.integers(0, 3, noisy.sum())
    logits = g.normal(size=(rows, 5)) + 3 * np.eye(5)[z]
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


def test_value():
    """An unlabelled row counts nothing; the head that is trained is the teacher's."""
    inputs, module = batch(), taught()
    module.fit(*predictions())
    inputs["source_labels"][2] = -100
    y, h = inputs["source_labels"].numpy(), array(inputs["source_features"])
    log_p = np.log(softmax(h @ array(module.head.weight).T + array(module.head.bias)))
    relation, known = array(module.relation), y >= 0
    want = -(relation[y[known]] * log_p[known]).sum(1).mean()
    assert call(module, inputs).item() == pytest.approx(want, rel=1e-5)


def test_direct_relation():
    logits, labels = predictions()
    p = softmax(array(logits))
    want = np.stack([p[labels.numpy() == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(direct_relation(logits, labels, 3).numpy(), want, rtol=1e-9)


def test_rows_without_a_label_teach_nothing_and_a_class_without_rows_has_the_mean():
    logits, labels = predictions()
    unlabelled = labels.clone()
    unlabelled[labels == 1] = -100
    found = direct_relation(logits, unlabelled, 3)
    labelled = softmax(array(logits))[labels.numpy() != 1]
    np.testing.assert_allclose(found[1].numpy(), labelled.mean(0), rtol=1e-9)
    assert torch.equal(found[0], direct_relation(logits, labels, 3)[0])


def test_calibrated_relation_is_the_best_of_the_held_out_half():
    """Strength and temperature are chosen on every second row of each class; few rows, so that they matter."""
    logits, labels = predictions(40)
    p, y = softmax(array(logits)), labels.numpy()
    held = np.zeros(len(y), dtype=bool)
    for k in range(3):
        held[np.flatnonzero(y == k)[1::2]] = True
    models = [LogisticRegression(C=10.0**k, max_iter=1000).fit(p[~held], y[~held]) for k in range(-4, 5)]
    losses = [log_loss(y[held], model.predict_proba(p[held])) for model in models]
    best = models[int(np.argmin(losses))]
    assert losses[4] > min(losses) + 0.01  # another one than scikit-learn's default

    def loss(t: float) -> float:
        return float(log_loss(y[held], softmax(best.decision_function(p[held]) / t)))

    t = min(10 ** np.linspace(-1, 1, 41), key=loss)
    assert abs(t - 1) > 0.05
    joint = softmax(best.decision_function(np.eye(5)) / t).T * p.mean(0)
    want = joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(calibrated_relation(logits, labels, 3).numpy(), want, rtol=1e-4)


def test_calibrated_relation_of_two_classes_and_of_unlabelled_rows():
    logits, labels = predictions()
    known = labels < 2
    two = calibrated_relation(logits[known], labels[known], 2)
    padded = calibrated_relation(logits, torch.where(known, labels, -100), 2)
    assert two.shape == (2, 5)
    assert two[0, :2].sum() > 0.6
    assert two[1, 2] > 0.5
    torch.testing.assert_close(two, padded)


def test_calibration_needs_rows_to_hold_out():
    logits, labels = predictions()
    keep = (labels != 1) | (torch.arange(len(labels)) == int((labels == 1).nonzero()[0]))
    with pytest.raises(ValueError, match="class number 1 has 1. Use relation='direct'"):
        calibrated_relation(logits[keep], labels[keep], 3)


def test_what_was_learned_is_in_the_state():
    module, other, inputs = taught(), taught(), batch()
    module.fit(*predictions())
    other.load_state_dict(module.state_dict())
    assert torch.equal(call(other, inputs), call(module, inputs))
