"""Schedules: formulas by training progress, and how they are named."""

from __future__ import annotations

import copy
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


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_formula(name, progress):
    value = get_schedule(name)(torch.tensor(progress))
    assert isinstance(value, torch.Tensor)
    assert value.shape == ()
    assert value.item() == pytest.approx(FORMULAS[name](progress), abs=1e-6)


def test_landmarks():
    warm = get_schedule("warm_start")
    assert warm(torch.tensor(0.0)) == 0
    assert warm(torch.tensor(0.5)).item() == pytest.approx(0.9866, abs=1e-4)
    assert get_schedule("linear")(torch.tensor(1.0)) == 1


@pytest.mark.parametrize("gamma", [1, 5.0, 20])
def test_gamma(gamma):
    value = get_schedule({"name": "warm_start", "gamma": gamma})(torch.tensor(0.3))
    assert value.item() == pytest.approx(2 / (1 + math.exp(-gamma * 0.3)) - 1, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_ends_at_1(name):
    assert get_schedule(name)(torch.tensor(1.0)).item() == pytest.approx(1, abs=1e-4)


def test_a_schedule_reads_the_tensor_it_is_given():
    """Progress is a buffer that is filled in place: a schedule must not remember an earlier value."""
    progress, schedule = torch.zeros(()), get_schedule("linear")
    first = schedule(progress).item()
    progress.fill_(0.75)
    assert (first, schedule(progress).item()) == (0.0, 0.75)


def test_the_specification_is_left_as_it_was():
    spec = {"name": "warm_start", "gamma": 5.0}
    before = copy.deepcopy(spec)
    get_schedule(spec)
    assert spec == before


@pytest.mark.parametrize("kind", REGISTRY)
def test_defaults_are_schedules(kind):
    value = get_schedule(REGISTRY[kind].default_schedule)(torch.tensor(1.0)).item()
    assert value == pytest.approx(1, abs=1e-4)


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
