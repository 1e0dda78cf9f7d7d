"""What holds of all kernel objectives: estimators on equal distributions, and bandwidths without a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import batch, call, certain, distances, domains, make


@pytest.mark.parametrize(
    ("kind", "unbiased", "least"),
    [
        ("mmd", ("unbiased", "linear"), 40),
        ("mmd_rff", ("unbiased",), 40),
        ("jan", ("unbiased",), 40),
        ("dsan", ("unbiased",), 20),
    ],
)
def test_over_draws_of_equal_distributions_the_unbiased_forms_average_0(kind, unbiased, least):
    """And the biased form does not, by that many standard errors."""
    labels, g = torch.arange(8) // 4, torch.Generator().manual_seed(0)
    modules = {name: make(kind, 4, 2, estimator=name) for name in (*unbiased, "biased")}
    values = {name: [] for name in modules}
    for _ in range(300):
        x, y = torch.randn(2, 8, 4, generator=g) + (2.0 * labels.unsqueeze(1) if kind == "dsan" else 0)
        inputs = {"source_features": x, "target_features": y, "source_labels": labels, "source_weights": torch.ones(8)}
        logits = [certain(labels, 2)] * 2 if kind == "dsan" else torch.randn(2, 8, 2, generator=g)
        inputs |= {"source_logits": logits[0], "target_logits": logits[1]}
        for name, module in modules.items():
            values[name].append(call(module, inputs).item())
    errors = {name: np.mean(v) / (np.std(v) / 300**0.5) for name, v in values.items()}
    assert max(abs(errors[name]) for name in unbiased) < 4
    assert min(values["unbiased"]) < 0
    assert min(values["biased"]) >= -1e-6
    assert errors["biased"] > least


@pytest.mark.parametrize("kind", ["mmd", "mmd_rff"])
def test_bandwidth_has_no_gradient(kind):
    """The gradient is that of a kernel whose width is a constant with the same value."""
    inputs = batch(dtype=torch.float64)
    pairs = distances(np.concatenate(domains(inputs)))[np.triu_indices(12, 1)]
    rows = [inputs["source_features"], inputs["target_features"]]
    modules = [make(kind, bandwidth=b).double() for b in ("mean", float(pairs.mean()))]
    torch.testing.assert_close(*(torch.autograd.grad(call(module, inputs), rows) for module in modules))
