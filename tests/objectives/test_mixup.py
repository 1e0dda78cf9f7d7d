"""Mixup against NumPy; its pairs and shares; that minimising it makes a model linear between rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import FakePerturbedForward, array, descend, make, softmax
from scipy.stats import beta

from hftransfer.objectives.self_training.mixup import beta_quantiles, partners


def by_hand(forward, share):
    """Row by row, in float64."""
    inputs, mask, weight = array(forward.inputs), forward.mask.numpy(), array(forward.weight)
    rows = len(inputs)

    def logits(x, real):
        return (x * real[:, None]).sum(0) / max(1, real.sum()) @ weight

    p = softmax(np.stack([logits(x, real) for x, real in zip(inputs, mask, strict=True)]))
    total = 0.0
    for i in range(rows):
        j = i + 1 if i % 2 == 0 else i - 1
        j = i if j >= rows else j
        both = (mask[i] * mask[j])[:, None].astype(np.float64)
        mixed = inputs[i] + both * (share * inputs[i] + (1 - share) * inputs[j] - inputs[i])
        log_p = np.log(softmax(logits(mixed, mask[i])[None]))[0]
        total -= ((share * p[i] + (1 - share) * p[j]) * log_p).sum()
    return total / rows


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_the_formula(rows):
    objective = make("mixup").double()
    forward = FakePerturbedForward(rows, 6, 3, dtype=torch.float64)
    seen = []
    for number in range(4):
        share = float(objective.shares[(number * 633) % 1024])
        seen.append(share)
        assert objective(perturbed_target_forward=forward).item() == pytest.approx(by_hand(forward, share), rel=1e-9)
    assert len(set(seen)) > 1


def test_shares_are_those_of_the_larger_of_beta():
    for alpha in (0.3, 1.0):
        quantiles, steps = beta_quantiles(alpha), (np.arange(1024) + 0.5) / 1024
        expected = np.maximum(beta.ppf(steps, alpha, alpha), 1 - beta.ppf(steps, alpha, alpha))
        assert quantiles == pytest.approx(expected, abs=1e-6)
        assert quantiles.min() >= 0.5
    order = (np.arange(1024) * 633) % 1024
    assert sorted(order) == list(range(1024))  # each quantile comes once in 1024 calls
    assert abs(beta_quantiles(1.0)[order[:64]].mean() - 0.75) < 0.02  # and a few calls cover them evenly


def test_words_of_neighbouring_rows_swap_places():
    assert partners(6, torch.device("cpu"), words=2).tolist() == [2, 3, 0, 1, 4, 5]


def test_minimising_it_makes_predictions_between_rows_lie_between_theirs():
    """A small network that jumps between two rows; afterwards it is less sure half way than at the rows."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    with torch.no_grad():
        network[2].weight.mul_(20)

    class Rows:
        inputs = torch.tensor([[[1.0, 0.2]], [[-1.0, 0.1]], [[0.9, -0.3]], [[-0.8, -0.2]]])
        mask = torch.ones(4, 1, dtype=torch.long)

        def __call__(self, shift):
            return network((self.inputs if shift is None else self.inputs + shift)[:, 0])

    objective = make("mixup", alpha=1.0)

    def gap():
        with torch.no_grad():
            p = network(Rows.inputs[:, 0]).softmax(-1)
            between = network((Rows.inputs[0] + Rows.inputs[1]) / 2).softmax(-1)[0]
            return (between - (p[0] + p[1]) / 2).abs().max().item()

    before = gap()
    descend(lambda: objective(perturbed_target_forward=Rows()), network.parameters(), steps=150, lr=0.02)
    assert gap() < 0.5 * before
