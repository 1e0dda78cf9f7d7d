"""Local MMD: value class by class, which classes take part, weights, against another library's form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CLASSES, array, batch, call, distances, make, softmax
from kernel_cases import kernel_matrix, shifted_labels


def certain(labels: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    return 30.0 * torch.nn.functional.one_hot(labels, classes).float()


def local_mmd(inputs, estimator="biased", bandwidth="mean", kernels=5) -> float:
    """The mean over shared classes of each class's own sums."""
    z = np.concatenate([array(inputs["source_features"]), array(inputs["target_features"])])
    w, labels = array(inputs["source_weights"]), inputs["source_labels"].numpy()
    p, k = softmax(array(inputs["target_logits"])), kernel_matrix(z, w, bandwidth, kernels)
    n, biased, values = len(w), estimator == "biased", []

    def average(block, a, b, diagonal=True):
        weight = np.outer(a, b) * (1 if diagonal else 1 - np.eye(len(a)))
        return (weight * block).sum() / weight.sum()

    for c in range(p.shape[1]):
        a, b = w * (labels == c), p[:, c]
        if (labels == c).sum() < (1 if biased else 2) or not (p.argmax(1) == c).any():
            continue
        within = average(k[:n, :n], a, a, biased) + average(k[n:, n:], b, b, biased)
        values.append(within - 2 * average(k[:n, n:], a, b))
    return float(np.mean(values)) if values else 0.0


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (12, 12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_definition(estimator, bandwidth, n, m, weighted):
    inputs = batch(n, m)
    if weighted:
        inputs["source_weights"] = 0.3 + torch.rand(n, generator=torch.Generator().manual_seed(1))
    value = call(make("dsan", estimator=estimator, bandwidth=bandwidth), inputs)
    assert value.shape == ()
    assert value.item() == pytest.approx(local_mmd(inputs, estimator, bandwidth), abs=3e-6)


@pytest.mark.parametrize("seed", range(4))
def test_deepda_sums_five_kernels_and_is_otherwise_the_same(seed):
    """Its weight matrices, on its kernel: the mean distance without the diagonal, from a quarter in 5 doublings."""
    inputs = batch(8, 8, seed=seed)
    z = np.concatenate([array(inputs["source_features"]), array(inputs["target_features"])])
    labels, p = inputs["source_labels"].numpy(), softmax(array(inputs["target_logits"]))
    d = distances(z)
    width = d.sum() / (16 * 15) / 4
    k = sum(np.exp(-d / (width * 2**i)) for i in range(5))
    onehot = np.eye(CLASSES)[labels]
    shared = sorted(set(labels) & set(p.argmax(1)))
    a, b = onehot[:, shared] / onehot.sum(0)[shared], (p / p.sum(0))[:, shared]
    ss, tt, st = (u @ v.T / len(shared) for u, v in ((a, a), (b, b), (a, b)))
    expected = (ss * k[:8, :8] + tt * k[8:, 8:] - 2 * st * k[:8, 8:]).sum()
    assert 5 * call(make("dsan"), inputs).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_no_shared_class_is_0(estimator):
    inputs = batch()
    inputs["source_labels"] = torch.ones(7, dtype=torch.long)
    value = call(make("dsan", estimator=estimator), inputs, target_logits=certain(torch.tensor([0, 2, 0, 2, 2])))
    assert value.item() == 0
    gradients = torch.autograd.grad(value, [inputs["source_features"], inputs["target_features"]])
    assert max(g.abs().max() for g in gradients) == 0


def test_rows_without_a_label_take_no_part():
    """Fixed bandwidth: they are in the cloud that the mean is taken over."""
    module, inputs = make("dsan", bandwidth=3.0), batch()
    hidden = inputs["source_labels"].clone()
    hidden[:3] = -100
    rest = {k: inputs[k][3:] for k in ("source_features", "source_labels", "source_weights")}
    value = call(module, inputs, source_labels=hidden)
    assert value.item() == pytest.approx(call(module, inputs, **rest).item(), abs=1e-6)


def test_it_sees_classes_that_changed_places():
    """The clouds are the same; only which class is where differs."""
    g = torch.Generator().manual_seed(0)
    f = torch.cat([torch.randn(10, 6, generator=g) - 2, torch.randn(10, 6, generator=g) + 2])
    labels = torch.tensor([0] * 10 + [1] * 10)
    inputs = {"source_features": f, "target_features": f, "source_labels": labels, "source_weights": torch.ones(20)}
    together = call(make("dsan"), inputs, target_logits=certain(labels)).item()
    crossed = call(make("dsan"), inputs, target_logits=certain(1 - labels)).item()
    assert together == pytest.approx(0, abs=1e-6)
    assert crossed > 0.5


def test_estimators_on_equal_distributions():
    draws, g, values = 300, torch.Generator().manual_seed(0), {"unbiased": [], "biased": []}
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    for _ in range(draws):
        x, y = torch.randn(2, 8, 4, generator=g) + 2.0 * labels.unsqueeze(1)
        for name, found in values.items():
            found.append(
                make("dsan", classes=2, estimator=name)(x, y, labels, certain(labels, 2), torch.ones(8)).item()
            )
    mean = {name: np.mean(v) for name, v in values.items()}
    error = {name: np.std(v) / draws**0.5 for name, v in values.items()}
    assert abs(mean["unbiased"]) < 4 * error["unbiased"]
    assert mean["biased"] > 20 * error["biased"]


def test_a_weight_that_a_class_shares_cancels_and_so_does_its_frequency():
    module, values = make("dsan", width=4, classes=2, estimator="unbiased", bandwidth=8.0), []
    for seed in range(10):
        x, w, y, z = shifted_labels(80, seed)
        rows = [module(x, y, z[:80].argmax(1), z[80:], weights) for weights in (w, torch.ones(80))]
        torch.testing.assert_close(*rows, atol=1e-6, rtol=0)
        values.append([rows[0].item(), make("mmd", width=4, bandwidth=8.0)(x, y).item()])
    local, whole = np.mean(values, axis=0)
    assert abs(local) < 0.1 * whole
