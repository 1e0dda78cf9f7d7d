"""OSBP: K + 1 classes on the source, the border of the last one on the target."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CLASSES, array, batch, call, make, mlp, softmax
from moment_cases import weighted


def parts(module, inputs) -> tuple[float, float]:
    """Source error and target border."""
    labels, weights = inputs["source_labels"].numpy(), array(inputs["source_weights"])
    known = labels >= 0
    p = softmax(mlp(module.head, array(inputs["source_features"])))
    assert p.shape[1] == CLASSES + 1
    error = -np.log(p[np.arange(len(p)), np.maximum(labels, 0)])
    unknown = softmax(mlp(module.head, array(inputs["target_features"])))[:, -1]
    border = -module.boundary * np.log(unknown) - (1 - module.boundary) * np.log(1 - unknown)
    return np.average(error[known], weights=weights[known]), border.mean()


@pytest.mark.parametrize("boundary", [0.5, 0.3])
def test_value_given_the_head(boundary):
    for make_batch, (n, m), unlabelled in itertools.product((batch, weighted), ((7, 5), (4, 9)), (0, 1)):
        module, inputs = make("osbp", boundary=boundary), make_batch(n, m)
        inputs["source_labels"][:unlabelled] = -100
        assert call(module, inputs).item() == pytest.approx(sum(parts(module, inputs)), abs=1e-6), (n, unlabelled)


def test_the_unknown_probability_is_that_of_the_last_class():
    module, inputs = make("osbp"), batch()
    x = inputs["target_features"]
    found = module.unknown_probability(x)
    np.testing.assert_allclose(array(found), softmax(mlp(module.head, array(x)))[:, -1], atol=1e-6)
    assert not found.requires_grad
