"""DANN, with one source and with several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import WIDTH, array, batch, call, domain_entropy, domains, make, mlp, softmax
from moment_cases import weighted

from hftransfer.objectives.alignment.dann import DANN


@pytest.mark.parametrize(("hidden", "depth"), [(256, 2), (16, 1), (8, 3), (8, 0)])
def test_value_given_the_discriminator(hidden, depth):
    module, inputs = make("dann", hidden=hidden, depth=depth), batch()
    source, target = (mlp(module.discriminator, x) for x in domains(inputs))
    assert call(module, inputs).item() == pytest.approx(domain_entropy(source, target), abs=1e-6)


def domain_cross_entropy(module, inputs) -> float:
    """Each domain's weighted mean cross-entropy by itself, then the mean over the domains that have rows."""
    x, m = np.concatenate(domains(inputs)), len(inputs["target_features"])
    which = np.concatenate([inputs["source_domains"].numpy(), np.full(m, module.num_sources)])
    weights = np.concatenate([array(inputs["source_weights"]), np.ones(m)])
    error = -np.log(softmax(mlp(module.discriminator, x))[np.arange(len(x)), which])
    return float(np.mean([np.average(error[which == d], weights=weights[which == d]) for d in np.unique(which)]))


@pytest.mark.parametrize(
    ("sources", "there"),
    [(3, [0, 1, 2, 0, 1, 2, 2]), (3, [1, 0, 0, 0, 0, 0, 2]), (3, [0, 0, 2, 2, 2, 2, 2]), (1, [0] * 7)],
)
def test_each_source_and_the_target_are_told_apart_and_count_the_same(sources, there):
    """The third case lacks a source in the batch; of one source it is the joint form."""
    torch.manual_seed(0)
    module = DANN(WIDTH, sources, sources="each")
    for inputs in (batch(), weighted()):
        inputs["source_domains"] = torch.tensor(there)
        assert call(module, inputs).item() == pytest.approx(domain_cross_entropy(module, inputs), abs=1e-6)
