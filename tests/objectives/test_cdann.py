"""CDANN: one discriminator a class, rows counted by their class probability."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import array, batch, call, domains, make, softmax
from moment_cases import weighted


def scores(module, x: np.ndarray) -> np.ndarray:
    """(rows, classes), class by class: the k-th weights of every layer are one MLP."""
    layers = [layer for layer in module.discriminators if hasattr(layer, "weight")]
    columns = []
    for k in range(len(layers[0].weight)):
        h = x
        for i, layer in enumerate(layers):
            h = h @ array(layer.weight[k]) + array(layer.bias[k])
            h = np.maximum(h, 0) if i + 1 < len(layers) else h
        columns.append(h[:, 0])
    return np.stack(columns, 1)


def reference(module, inputs) -> float:
    source, target = (scores(module, x) for x in domains(inputs))
    labels, weights, p = inputs["source_labels"].numpy(), array(inputs["source_weights"]), inputs["target_logits"]
    known = labels >= 0
    of_its_class = source[np.arange(len(labels)), np.maximum(labels, 0)]
    s = np.average(np.logaddexp(0, -of_its_class)[known], weights=weights[known])
    t = (softmax(array(p)) * np.logaddexp(0, target)).sum(1).mean()
    return float(s + t) / 2


@pytest.mark.parametrize("classes", [1, 3])  # of one class it is DANN
def test_value_given_the_discriminators(classes):
    for (n, m), depth in itertools.product(((7, 5), (4, 9)), (0, 2)):
        module = make("cdann", classes=classes, depth=depth)
        for inputs in (batch(n, m, classes=classes), weighted(n, m, classes=classes)):
            assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-6), (n, depth)
            inputs["source_labels"][1] = -100
            assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-6), (n, depth)
