"""Local MMD: value class by class, which classes take part, weights, against another library's form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CLASSES, array, batch, call, distances, domains, make, softmax
from kernel_cases import average, kernel_matrix
from moment_cases import weighted


def local_mmd(inputs, estimator="biased", bandwidth="mean", kernels=5) -> float:
    """The mean over shared classes of each class's own sums."""
    w, labels = array(inputs["source_weights"]), inputs["source_labels"].numpy()
    p = softmax(array(inputs["target_logits"]))
    k = kernel_matrix(np.concatenate(domains(inputs)), w, bandwidth, kernels)
    n, biased, values = len(w), estimator == "biased", []

    for c in range(p.shape[1]):
        a, b = w * (labels == c), p[:, c]
        if (labels == c).sum() < (1 if biased else 2) or not (p.argmax(1) == c).any():
            continue
        within = average(k[:n, :n], a, a, biased) + average(k[n:, n:], b, b, biased)
        values.append(within - 2 * average(k[:n, n:], a, b))
    return float(np.mean(values)) if values else 0.0


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
def test_value_is_the_definition(estimator, bandwidth):
    """Rows without a label take no part, but for the mean distance."""
    module = make("dsan", estimator=estimator, bandwidth=bandwidth)
    for (n, m), unlabelled in itertools.product(((7, 5), (4, 9), (12, 12)), (0, 3)):
        for inputs in (batch(n, m), weighted(n, m)):
            inputs["source_labels"][:unlabelled] = -100
            wanted = local_mmd(inputs, estimator, bandwidth)
            assert call(module, inputs).item() == pytest.approx(wanted, abs=3e-6), (n, m, unlabelled)


@pytest.mark.parametrize("seed", range(4))
def test_deepda_sums_five_kernels_and_is_otherwise_the_same(seed):
    """Its weight matrices, on its kernel: the mean distance without the diagonal, from a quarter in 5 doublings."""
    inputs = batch(8, 8, seed=seed)
    labels, p = inputs["source_labels"].numpy(), softmax(array(inputs["target_logits"]))
    d = distances(np.concatenate(domains(inputs)))
    k = sum(np.exp(-d / (d.sum() / (16 * 15) / 4 * 2**i)) for i in range(5))
    onehot = np.eye(CLASSES)[labels]
    shared = sorted(set(labels) & set(p.argmax(1)))
    a, b = onehot[:, shared] / onehot.sum(0)[shared], (p / p.sum(0))[:, shared]
    ss, tt, st = (u @ v.T / len(shared) for u, v in ((a, a), (b, b), (a, b)))
    expected = (ss * k[:8, :8] + tt * k[8:, 8:] - 2 * st * k[:8, 8:]).sum()
    assert 5 * call(make("dsan"), inputs).item() == pytest.approx(expected, abs=1e-5)
