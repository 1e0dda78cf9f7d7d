"""Sliced Wasserstein: value by repeated rows and by SciPy, weights, directions that every process and resume share."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make
from moment_cases import gradients, weighted
from scipy.stats import wasserstein_distance


def directions(module, inputs) -> np.ndarray:
    """Those of the next step."""
    return array(copy.deepcopy(module)._directions(inputs["source_features"].detach()))


def projected(module, inputs):
    theta = directions(module, inputs)
    return [array(inputs[f"{domain}_features"]) @ theta for domain in ("source", "target")]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (6, 6), (8, 4), (1, 5), (1, 1)])
def test_value_is_that_of_sorted_pairs_once_rows_are_repeated_to_a_common_number(order, n, m):
    module, inputs = make("swd", order=order), batch(n, m)
    common = math.lcm(n, m)
    s, t = (np.sort(np.repeat(p, common // len(p), axis=0), axis=0) for p in projected(module, inputs))
    value = call(module, inputs)
    assert value.shape == ()
    assert value.item() == pytest.approx((np.abs(s - t) ** order).mean(), rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (6, 6)])
def test_weighted_value_is_scipys(n, m):
    module, inputs = make("swd", order=1, projections=16), weighted(n, m)
    pairs = zip(*(p.T for p in projected(module, inputs)), strict=True)
    expected = np.mean([wasserstein_distance(s, t, array(inputs["source_weights"])) for s, t in pairs])
    assert call(module, inputs).item() == pytest.approx(expected, rel=1e-4)


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


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 12)])
def test_equal_domains_score_0_and_do_not_push(order, n, m):
    inputs = batch(n, m)
    rows = inputs["source_features"].detach().flip(0).repeat(m // n, 1)
    inputs["target_features"] = rows.requires_grad_()
    value = call(make("swd", order=order), inputs)
    assert value.item() == pytest.approx(0, abs=1e-6)
    if order == 2:
        assert all(g.abs().max() < 1e-6 for g in gradients(value, inputs))


def test_a_shift_has_the_squared_length_over_the_width():
    """On average over directions, whatever the rows."""
    g = torch.Generator().manual_seed(0)
    x, shift = torch.randn(16, 24, generator=g), torch.randn(24, generator=g)
    value = make("swd", width=24, projections=20_000)(x, x + shift, torch.ones(16)).item()
    assert value == pytest.approx(shift.square().mean().item(), rel=0.03)


def test_a_rotation_changes_it_by_chance_only():
    inputs = batch(8, 6)
    x, y, w = (inputs[name] for name in ("source_features", "target_features", "source_weights"))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    module = make("swd", projections=20_000)
    assert module(x @ rotation, y @ rotation, w).item() == pytest.approx(module(x, y, w).item(), rel=0.03)


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
    long, short = make("swd", order=order), make("swd", order=order)
    every = torch.ones(()).expand(6)
    found, wanted = call(short, inputs, source_weights=every), call(long, inputs)
    torch.testing.assert_close(found, wanted)
    names = ("source_features", "target_features")
    for name in names:
        (a,) = torch.autograd.grad(found, inputs[name], retain_graph=True)
        (b,) = torch.autograd.grad(wanted, inputs[name], retain_graph=True)
        torch.testing.assert_close(a, b)
