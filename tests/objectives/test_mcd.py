"""MCD: two heads' errors and their discrepancy, each with its own direction for the encoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp, softmax
from moment_cases import weighted


def parts(module, inputs) -> tuple[list[float], float]:
    """Both heads' weighted source errors, and their mean absolute difference on the target."""
    labels, weights = inputs["source_labels"].numpy(), array(inputs["source_weights"])
    known, errors, targets = labels >= 0, [], []
    for head in (module.first, module.second):
        p = softmax(mlp(head, array(inputs["source_features"])))
        error = -np.log(p[np.arange(len(p)), np.maximum(labels, 0)])
        errors.append(np.average(error[known], weights=weights[known]))
        targets.append(softmax(mlp(head, array(inputs["target_features"]))))
    return errors, np.abs(targets[0] - targets[1]).mean()


def test_value_given_the_heads():
    for make_batch, (n, m), unlabelled in itertools.product((batch, weighted), ((7, 5), (4, 9)), (0, 1)):
        module, inputs = make("mcd"), make_batch(n, m)
        inputs["source_labels"][:unlabelled] = -100
        errors, discrepancy = parts(module, inputs)
        assert discrepancy > 1e-3  # heads start apart
        assert call(module, inputs).item() == pytest.approx(sum(errors) - discrepancy, abs=1e-6), (n, unlabelled)


def test_heads_as_far_apart_as_can_be():
    module, inputs = make("mcd", depth=0), batch()
    with torch.no_grad():
        for k, head in enumerate((module.first, module.second)):
            head[0].weight.zero_()
            head[0].bias.copy_(100.0 * torch.eye(3)[k])
    assert call(module, inputs, source_labels=torch.full((7,), -100)).item() == pytest.approx(-2 / 3)
