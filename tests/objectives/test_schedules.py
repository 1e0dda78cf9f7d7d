"""Schedules: formulas by training progress, and how they are named."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.schedules import SCHEDULES, describe_schedule, get_schedule

FORMULAS = {
    "constant": lambda p: 1.0,
    "linear": lambda p: p,
    "warm_start": lambda p: 2 / (1 + math.exp(-10 * p)) - 1,
}


def test_formula():
    for name, progress in itertools.product(SCHEDULES, (0.0, 0.1, 0.25, 0.5, 0.9, 1.0)):
        value = get_schedule(name)(torch.tensor(progress))
        assert value.shape == (), name
        assert value.item() == pytest.approx(FORMULAS[name](progress), abs=1e-6), (name, progress)
    for gamma in (1, 5.0, 20):
        value = get_schedule({"name": "warm_start", "gamma": gamma})(torch.tensor(0.3))
        assert value.item() == pytest.approx(2 / (1 + math.exp(-gamma * 0.3)) - 1, abs=1e-6), gamma


def test_a_schedule_reads_the_tensor_it_is_given():
    """Progress is a buffer that is filled in place: a schedule must not remember an earlier value."""
    progress, schedule = torch.zeros(()), get_schedule("linear")
    first = schedule(progress).item()
    progress.fill_(0.75)
    assert (first, schedule(progress).item()) == (0.0, 0.75)


def test_each_ends_at_1_and_so_does_each_default():
    for name in {*SCHEDULES, *(cls.default_schedule for cls in REGISTRY.values())}:
        assert get_schedule(name)(torch.tensor(1.0)).item() == pytest.approx(1, abs=1e-4), name


def test_descriptions():
    assert describe_schedule("linear") == "linear"
    assert describe_schedule({"name": "warm_start", "gamma": 5}) == "warm_start, gamma 5"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("warmstart", "not one of constant, linear, warm_start. Did you mean 'warm_start'"),
        ("cosine", "'cosine' is not one of"),
        ({"gamma": 5}, "None is not one of"),
        ({"name": ["linear"]}, "is not one of"),
        ({"name": "warm_start", "gama": 5}, "has no setting 'gama'. Did you mean 'gamma'"),
        ({"name": "linear", "gamma": 5}, "has no setting 'gamma'"),
        ({"name": "warm_start", "gamma": 0}, "gamma=0 of schedule 'warm_start' must be a positive number"),
        ({"name": "warm_start", "gamma": "steep"}, "gamma='steep'"),
        ({"name": "linear", "peak": 0.1}, "has no setting 'peak': an objective's weight is what it counts at the"),
        (3, "schedule 3 must be a name, or a map"),
        (None, "schedule None must be a name, or a map"),
    ],
)
def test_bad_specifications(spec, message):
    with pytest.raises(ValueError, match=message):
        get_schedule(spec)
