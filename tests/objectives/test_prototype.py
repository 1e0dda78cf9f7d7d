"""Class centroids over batches: value, whose centroids there are, gradient, contrast, state, weights."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import array, batch, call, certain, make, softmax
from moment_cases import gradients, weighted

FORMS = [
    {"distance": "squared"},
    {"distance": "cosine"},
    {"distance": "squared", "temperature": 2.0},
    {"distance": "cosine", "temperature": 0.1},
]


class Centroids:
    """The method by its definition, class by class."""

    def __init__(self, decay=0.7, threshold=0.0, distance="squared", temperature=None):
        self.decay, self.threshold, self.distance, self.temperature = decay, threshold, distance, temperature
        self.source: dict[int, np.ndarray] = {}
        self.target: dict[int, np.ndarray] = {}

    def __call__(self, inputs: dict[str, Any]) -> float:
        p = softmax(array(inputs["target_logits"]))
        pseudo = np.where(p.max(1) >= self.threshold, p.argmax(1), -100)
        self.move(self.source, inputs["source_features"], inputs["source_labels"], array(inputs["source_weights"]))
        self.move(self.target, inputs["target_features"], pseudo, np.ones(len(p)))
        shared = sorted(self.source.keys() & self.target.keys())
        return float(np.mean([self.of_class(k) for k in shared])) if shared else 0.0

    def move(self, kept, features, labels, weights) -> None:
        x, labels = array(features), np.asarray(labels)
        for k in set(labels.tolist()) - {-100}:
            now = np.average(x[labels == k], axis=0, weights=weights[labels == k])
            kept[k] = self.decay * kept[k] + (1 - self.decay) * now if k in kept else now

    def apart(self, a, b) -> float:
        if self.distance == "squared":
            return ((a - b) ** 2).sum()
        return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    def of_class(self, k: int) -> float:
        own = self.apart(self.source[k], self.target[k])
        if self.temperature is None:
            return own
        to_target = sum(math.exp(-self.apart(self.source[k], c) / self.temperature) for c in self.target.values())
        to_source = sum(math.exp(-self.apart(c, self.target[k]) / self.temperature) for c in self.source.values())
        return own / self.temperature + 0.5 * (math.log(to_target) + math.log(to_source))


def stream():
    """Weighted batches of few rows a class, so that classes come and go, some rows without a label."""
    for seed in range(5):
        inputs, g = weighted(4, 5, seed=seed), torch.Generator().manual_seed(50 + seed)
        inputs["source_labels"] = torch.randint(0, 5, (4,), generator=g)
        inputs["source_labels"][0] = -100
        inputs["target_logits"] = 4 * torch.randn(5, 5, generator=g)
        yield inputs


@pytest.mark.parametrize("form", FORMS)
def test_value_is_the_definition_batch_by_batch(form):
    for decay, threshold in itertools.product((0.0, 0.7), (0.0, 0.9)):
        settings, partial = {"decay": decay, "threshold": threshold, **form}, False
        module, plain = make("prototype", classes=5, **settings), Centroids(**settings)
        for inputs in stream():
            value = call(module, inputs).item()
            assert value == pytest.approx(plain(inputs), rel=2e-5, abs=1e-6), settings
            seen = [[float(k in kept) for k in range(5)] for kept in (plain.source, plain.target)]
            assert module.seen.tolist() == seen, settings
            partial = partial or (value > 0 and 0 < np.prod(seen, axis=0).sum() < 5)
        assert partial  # some classes took part and others did not


def test_a_class_counts_once_both_domains_have_had_it():
    """Its first mean is taken whole; a class that the batch lacks keeps its centroid."""
    module = make("prototype", width=2, classes=3, decay=0.9, threshold=0.9)
    x, y = torch.tensor([[2.0, 0.0], [0.0, 8.0]]), torch.tensor([[5.0, 0.0]])
    given = {"source_features": x, "source_labels": torch.tensor([0, 1]), "source_weights": torch.ones(2)}

    def value(target, classes):
        return module(target_features=target, target_logits=certain(torch.tensor(classes)), **given).item()

    assert value(y, [2]) == 0  # class 2 of the target alone
    assert value(y, [0]) == 9  # class 0: 5 against 2
    assert value(torch.tensor([[0.0, 7.0]]), [1]) == pytest.approx((9 + 1) / 2)  # class 0 as it was
    assert value(torch.tensor([[6.0, 0.0]]), [0]) == pytest.approx((3.1**2 + 1) / 2)  # a tenth of the way from 5 to 6
    assert module.seen.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_the_gradient_is_that_of_the_share_of_the_batch():
    """2 (1 - θ) (c_T - c_S) / rows of the class, over the classes; none for rows of the past."""
    inputs, module = batch(6, 6), make("prototype", decay=0.8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    inputs |= {"source_labels": labels, "target_logits": certain(labels)}
    call(module, batch(6, 6, seed=1), source_labels=labels, target_logits=certain(labels))
    gs, gt = gradients(call(module, inputs), inputs)
    s, t = module.centroids
    expected = 2 * (1 - 0.8) * (t - s)[labels] / 2 / 3
    torch.testing.assert_close(gt, expected)
    torch.testing.assert_close(gs, -expected)


def test_a_class_of_weight_0_is_not_there():
    inputs, module = batch(), make("prototype", threshold=0.0)
    inputs["source_weights"] = (inputs["source_labels"] != 1).float()
    call(module, inputs)
    assert module.seen[0, 1] == 0
