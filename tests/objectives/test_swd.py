"""Sliced Wasserstein: value by repeated rows and by SciPy, weights, directions that every process and resume share."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make
from moment_cases import gradients, weighted
from scipy.stats import wasserstein_distance


def directions(module, inputs) -> np.ndarray:
    """Those of the next step."""
    return array(copy.deepcopy(module)._directions(inputs["source_features"].detach()))


def projected(module, inputs):
    theta = directions(module, inputs)
    return [x @ theta for x in domains(inputs)]


def test_value_is_that_of_sorted_pairs_once_rows_are_repeated_to_a_common_number():
    sizes = ((7, 5), (4, 9), (6, 6), (8, 4), (1, 5), (1, 1))
    for order, (n, m) in itertools.product((1, 2), sizes):
        module, inputs, common = make("swd", order=order), batch(n, m), math.lcm(n, m)
        s, t = (np.sort(np.repeat(p, common // len(p), axis=0), axis=0) for p in projected(module, inputs))
        expected = (np.abs(s - t) ** order).mean()
        assert call(module, inputs).item() == pytest.approx(expected, rel=1e-4), (order, n, m)


def test_weighted_value_is_scipys():
    for n, m in ((7, 5), (4, 9), (6, 6)):
        module, inputs = make("swd", order=1, projections=16), weighted(n, m)
        pairs = zip(*(p.T for p in projected(module, inputs)), strict=True)
        expected = np.mean([wasserstein_distance(s, t, array(inputs["source_weights"])) for s, t in pairs])
        assert call(module, inputs).item() == pytest.approx(expected, rel=1e-4), (n, m)


def test_weighted_squares_are_those_of_quantiles():
    """Read off on a grid far finer than the steps."""
    module, inputs = make("swd", projections=4), weighted()
    levels = (np.arange(200_000) + 0.5) / 200_000
    w, total = array(inputs["source_weights"]), 0.0
    for s, t in zip(*(p.T for p in projected(module, inputs)), strict=True):
        order = np.argsort(s)
        ends = np.cumsum(w[order]) / w.sum()
        quantiles = s[order][np.searchsorted(ends, levels).clip(max=len(s) - 1)]
        total += ((quantiles - np.sort(t)[(levels * len(t)).astype(int)]) ** 2).mean()
    assert call(module, inputs).item() == pytest.approx(total / 4, rel=1e-3)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 4)])
def test_one_side_alone_may_move(n, m):
    """Its gradient is what it is when both do, and asking for it twice gives it twice."""
    module, inputs = make("swd"), batch(n, m)
    x, y, w = (inputs[name] for name in ("source_features", "target_features", "source_weights"))
    both = torch.autograd.grad(copy.deepcopy(module)(x, y, w), (x, y))
    for side in (0, 1):
        moving = [x.detach(), y.detach()]
        moving[side].requires_grad_()
        value = copy.deepcopy(module)(*moving, w)
        for _ in range(2):
            (found,) = torch.autograd.grad(value, moving[side], retain_graph=True)
            torch.testing.assert_close(found, both[side])


def test_directions_are_of_length_1_new_at_every_step_and_the_same_in_every_process():
    module, other, inputs = make("swd"), make("swd"), batch()
    first = directions(module, inputs)
    assert np.allclose((first**2).sum(0), 1)
    assert np.array_equal(first, directions(other, inputs))
    torch.manual_seed(5)  # a process that has drawn other numbers in the meantime
    torch.randn(3)
    assert np.array_equal(first, directions(other, inputs))
    call(module, inputs)
    assert not np.allclose(first, directions(module, inputs))


@pytest.mark.parametrize("order", [1, 2])
def test_rows_that_all_count_1_take_a_shorter_way_to_the_same_value(order):
    inputs = batch(6, 6)
    every = torch.ones(()).expand(6)
    found = call(make("swd", order=order), inputs, source_weights=every)
    wanted = call(make("swd", order=order), inputs)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, inputs), gradients(wanted, inputs))
