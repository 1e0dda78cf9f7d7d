"""Class centroids over batches: value, whose centroids there are, gradient, contrast, state, weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import CLASSES, array, batch, call, make, softmax
from kernel_cases import shifted_labels
from moment_cases import weighted

FORMS = [
    {"distance": "squared"},
    {"distance": "cosine"},
    {"distance": "squared", "temperature": 2.0},
    {"distance": "cosine", "temperature": 0.1},
]


def certain(labels: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    return 30.0 * torch.nn.functional.one_hot(labels, classes).float()


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


def stream(count: int = 5, classes: int = 5, dtype: torch.dtype = torch.float32):
    """Weighted batches of few rows a class, so that classes come and go, some rows without a label."""
    for seed in range(count):
        inputs = weighted(4, 5, seed=seed, dtype=dtype)
        g = torch.Generator().manual_seed(50 + seed)
        inputs["source_labels"] = torch.randint(0, classes, (4,), generator=g)
        inputs["source_labels"][0] = -100
        inputs["target_logits"] = 4 * torch.randn(5, classes, generator=g).to(dtype)
        yield inputs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_value_is_the_definition_batch_by_batch(form, decay, threshold):
    module, plain = (f(decay=decay, threshold=threshold, **form) for f in (make_five, Centroids))
    values, partial = [], False
    for inputs in stream():
        values.append(call(module, inputs).item())
        assert values[-1] == pytest.approx(plain(inputs), rel=2e-5, abs=1e-6)
        seen = [[float(k in kept) for k in range(5)] for kept in (plain.source, plain.target)]
        assert module.seen.tolist() == seen
        partial = partial or (values[-1] > 0 and 0 < np.prod(seen, axis=0).sum() < 5)
    assert partial  # some classes took part and others did not


def make_five(**settings):
    return make("prototype", classes=5, **settings)


def test_a_class_counts_once_both_domains_have_had_it():
    """Its first mean is taken whole; a class that the batch lacks keeps its centroid."""
    module = make("prototype", width=2, classes=3, decay=0.9)
    x, y = torch.tensor([[2.0, 0.0], [0.0, 8.0]]), torch.tensor([[5.0, 0.0]])
    given = {"source_features": x, "source_labels": torch.tensor([0, 1]), "source_weights": torch.ones(2)}

    def value(target, classes):
        return module(target_features=target, target_logits=certain(torch.tensor(classes)), **given).item()

    assert value(y, [2]) == 0  # class 2 of the target alone
    assert value(y, [0]) == 9  # class 0: 5 against 2
    assert value(torch.tensor([[0.0, 7.0]]), [1]) == pytest.approx((9 + 1) / 2)  # class 0 as it was
    assert value(torch.tensor([[6.0, 0.0]]), [0]) == pytest.approx((3.1**2 + 1) / 2)  # a tenth of the way from 5 to 6
    assert module.seen.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_nothing_confident_is_nothing():
    """0, with a gradient of 0: an untrained head must not be taken at its word."""
    inputs, module = batch(), make("prototype")
    value = call(module, inputs, target_logits=torch.zeros(5, 3))
    assert value.item() == 0
    for gradient in torch.autograd.grad(value, [inputs["source_features"], inputs["target_features"]]):
        assert not gradient.any()
    assert not module.seen[1].any()


def test_the_gradient_is_that_of_the_share_of_the_batch():
    """2 (1 - θ) (c_T - c_S) / rows of the class, over the classes; none for rows of the past."""
    inputs, module = batch(6, 6), make("prototype", decay=0.8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    inputs |= {"source_labels": labels, "target_logits": certain(labels)}
    call(module, batch(6, 6, seed=1), source_labels=labels, target_logits=certain(labels))
    gs, gt = torch.autograd.grad(call(module, inputs), [inputs["source_features"], inputs["target_features"]])
    s, t = module.centroids
    expected = 2 * (1 - 0.8) * (t - s)[labels] / 2 / 3
    torch.testing.assert_close(gt, expected)
    torch.testing.assert_close(gs, -expected)


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_equal_domains_score_nothing(distance):
    inputs = batch(6, 6)
    x, labels = inputs["source_features"], torch.tensor([0, 1, 2, 2, 1, 0])
    y = x.detach().clone().requires_grad_()
    inputs |= {"target_features": y, "source_labels": labels, "target_logits": certain(labels)}
    value = call(make("prototype", distance=distance), inputs)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert max(g.abs().max() for g in torch.autograd.grad(value, [x, y])) < 1e-6


def test_contrast_pushes_other_classes_away():
    """Centroids at one point score log(classes), matching ones less, swapped ones more; a class alone scores 0."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    inputs = batch(6, 6) | {"source_labels": labels, "target_logits": certain(labels)}
    corners = 3 * torch.eye(6)[labels]

    def value(x, y, **changed):
        settings = {"temperature": 4.0, "threshold": 0.5}
        return call(make("prototype", **settings), inputs, source_features=x, target_features=y, **changed).item()

    assert value(torch.ones(6, 6), torch.ones(6, 6)) == pytest.approx(math.log(3))
    assert value(corners, corners) == pytest.approx(math.log(1 + 2 * math.exp(-18 / 4)), rel=1e-4)
    assert value(corners, corners.roll(1, 0)) == pytest.approx(18 / 4 + math.log(1 + 2 * math.exp(-18 / 4)), rel=1e-4)
    alone = {"source_labels": 0 * labels, "target_logits": certain(0 * labels)}
    assert value(corners, corners + 1, **alone) == pytest.approx(0, abs=1e-6)


def test_a_weight_that_a_class_shares_cancels_and_so_does_its_frequency():
    """Classes that look the same in both domains are at the same place, however often they come."""
    for seed in range(3):
        x, w, y, z = shifted_labels(4000, seed)
        given = {"source_labels": z[:4000].argmax(1), "target_logits": 4 * z[4000:]}
        plain, weighed = (
            make("prototype", width=4, classes=2)(x, y, source_weights=weights, **given) for weights in (w, 0 * w + 1)
        )
        torch.testing.assert_close(plain, weighed)
        assert plain < 0.05
        assert (x.mean(0) - y.mean(0)).square().sum() > 5


def test_a_class_of_weight_0_is_not_there():
    inputs, module = batch(), make("prototype", threshold=0.0)
    inputs["source_weights"] = (inputs["source_labels"] != 1).float()
    call(module, inputs)
    assert module.seen[0, 1] == 0
