"""Metrics against numbers worked out by hand, and as `evaluate` modules without a network."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from processes import script
from transformers import EvalPrediction

from hftransfer.trainers.evaluate_modules import DomainClassification, DomainRegression
from hftransfer.trainers.metrics import classification_metrics, label_free_metrics, metrics_for, regression_metrics

# Six rows of classes a, b, c. a: 2 found of 3, 1 false alarm; b: 1 of 2, 1 false; c: 1 of 1, none false.
PREDICTIONS = np.array([0, 0, 1, 0, 1, 2])
REFERENCES = np.array([0, 0, 0, 1, 1, 2])
EXPECTED = {
    "accuracy": 4 / 6,
    "precision_a": 2 / 3,
    "recall_a": 2 / 3,
    "f1_a": 2 / 3,
    "precision_b": 1 / 2,
    "recall_b": 1 / 2,
    "f1_b": 1 / 2,
    "precision_c": 1.0,
    "recall_c": 1.0,
    "f1_c": 1.0,
    "macro_precision": (2 / 3 + 1 / 2 + 1) / 3,
    "macro_recall": (2 / 3 + 1 / 2 + 1) / 3,
    "macro_f1": (2 / 3 + 1 / 2 + 1) / 3,
    "micro_precision": 4 / 6,
    "micro_recall": 4 / 6,
    "micro_f1": 4 / 6,
}
# Three rows of two labels. x: 1 right, 1 false alarm, 1 missed; y: 1 right, 1 missed. One row is right in full.
SETS = np.array([[1, 1], [1, 0], [0, 0]])
SET_REFERENCES = np.array([[1, 1], [0, 1], [1, 0]])
SETS_EXPECTED = {
    "accuracy": 1 / 3,
    "precision_x": 1 / 2,
    "recall_x": 1 / 2,
    "f1_x": 1 / 2,
    "precision_y": 1.0,
    "recall_y": 1 / 2,
    "f1_y": 2 / 3,
    "macro_precision": 3 / 4,
    "macro_recall": 1 / 2,
    "macro_f1": (1 / 2 + 2 / 3) / 2,
    "micro_precision": 2 / 3,
    "micro_recall": 2 / 4,
    "micro_f1": 2 * 2 / (3 + 4),
}
PAIR = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 4.0])
REGRESSION = {"mse": 5 / 3, "mae": 1.0, "pearson": 6 / np.sqrt(14 * 8 / 3)}


def test_one_label_a_row():
    assert classification_metrics(PREDICTIONS, REFERENCES, ["a", "b", "c"]) == pytest.approx(EXPECTED)


def test_several_labels_a_row():
    assert classification_metrics(SETS, SET_REFERENCES, ["x", "y"], multilabel=True) == pytest.approx(SETS_EXPECTED)


def test_a_class_that_occurs_nowhere_does_not_pull_the_average_down():
    metrics = classification_metrics(PREDICTIONS, REFERENCES, ["a", "b", "c", "never seen"])
    assert metrics["macro_f1"] == pytest.approx(EXPECTED["macro_f1"])
    assert metrics["f1_never_seen"] == 0


def test_a_class_that_is_never_predicted_does():
    metrics = classification_metrics(np.zeros(4, int), np.array([0, 0, 0, 1]), ["a", "b"])
    assert metrics["macro_recall"] == 0.5
    assert metrics["precision_b"] == 0


def test_regression():
    assert regression_metrics(*PAIR) == pytest.approx(REGRESSION)


def test_a_constant_has_no_correlation():
    assert regression_metrics(np.ones(3), PAIR[1])["pearson"] == 0
    assert regression_metrics(np.ones(1), np.ones(1))["pearson"] == 0


@pytest.mark.parametrize(
    ("task", "logits", "labels", "expected"),
    [
        ("sequence-classification", np.eye(3)[PREDICTIONS], REFERENCES, EXPECTED),
        (
            "token-classification",  # two rows of four, two of them no words
            np.eye(3)[[0, 0, 1, 2, 0, 1, 2, 2]].reshape(2, 4, 3),
            np.array([[0, 0, 0, -100], [1, 1, 2, -100]]),
            EXPECTED,
        ),
        ("multi-label-classification", SETS * 6.0 - 3, SET_REFERENCES.astype(float), SETS_EXPECTED),
        ("regression", PAIR[0][:, None], PAIR[1], REGRESSION),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["logits", "logits first of a tuple"])
def test_each_task_has_its_measures(task, logits, labels, expected, wrapped):
    names = ["x", "y"] if task.startswith("multi") else ["a", "b", "c"]
    predictions = (logits, np.zeros(1)) if wrapped else logits
    assert metrics_for(task, names)(EvalPrediction(predictions, labels)) == pytest.approx(expected)


def test_what_needs_no_label():
    """Rows (1/2, 1/2) and (3/4, 1/4): mean entropy, entropy of the mean (5/8, 3/8), and their difference."""
    logits = np.log([[1 / 2, 1 / 2], [3 / 4, 1 / 4]])
    entropy = (np.log(2) + 0.75 * np.log(4 / 3) + 0.25 * np.log(4)) / 2
    marginal = 5 / 8 * np.log(8 / 5) + 3 / 8 * np.log(8 / 3)
    expected = {"entropy": entropy, "diversity": marginal / np.log(2), "information": marginal - entropy}
    assert label_free_metrics("sequence-classification", logits) == pytest.approx(expected)
    padded = np.concatenate([logits + 5, np.full((1, 2), -100.0)])[None]
    assert label_free_metrics("token-classification", padded) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (np.array([[900.0, 0, 0]] * 3), {"entropy": 0, "diversity": 0, "information": 0}),
        (np.eye(3) * 900, {"entropy": 0, "diversity": 1, "information": np.log(3)}),
        (np.zeros((4, 3)), {"entropy": np.log(3), "diversity": 1, "information": 0}),
    ],
    ids=["collapsed", "sure and balanced", "knows nothing"],
)
def test_extremes_that_need_no_label(logits, expected):
    assert label_free_metrics("sequence-classification", logits) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("task", ["regression", "multi-label-classification"])
def test_nothing_is_said_of_float_tasks(task):
    assert label_free_metrics(task, np.zeros((3, 2))) == {}


# ---- as `evaluate` modules


@pytest.fixture
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a metric reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(
    ("make", "predictions", "references", "expected"),
    [
        (lambda: DomainClassification(names=["a", "b", "c"]), PREDICTIONS, REFERENCES, EXPECTED),
        (lambda: DomainClassification(names=["x", "y"], multilabel=True), SETS, SET_REFERENCES, SETS_EXPECTED),
        (DomainRegression, *PAIR, REGRESSION),
    ],
    ids=["one label", "several labels", "regression"],
)
def test_modules_say_the_same_at_once_and_in_batches(make, predictions, references, expected):
    import evaluate

    module = make()
    assert isinstance(module, evaluate.Metric)
    assert module.compute(predictions=predictions, references=references) == pytest.approx(expected)
    module.add_batch(predictions=predictions[:2], references=references[:2])
    module.add_batch(predictions=predictions[2:], references=references[2:])
    assert module.compute() == pytest.approx(expected)


def test_evaluate_is_not_imported_until_asked_for(tmp_path):
    code = "import sys, hftransfer; hftransfer.AdaptationTrainer; print('evaluate' in sys.modules)"
    assert script(code, log=tmp_path / "log") == "False\n"
