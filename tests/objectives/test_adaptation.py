"""Minimising an objective does what it is for: the domains come together and the target is classified better."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from toy import Outcome, train

SEEDS = (0, 1, 2)
FULL = {"schedule": "warm_start"}  # the default's tenth is meant for pretrained encoders


@functools.cache
def source_only(seed: int, dropout: float) -> Outcome:
    return train(None, seed, dropout=dropout)


def mean(outcomes: list[Outcome], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))


@pytest.mark.parametrize("kind", ["mmd", "dann", "cdan", "cdan_e", "supcon"])
def test_domains_come_together_and_the_target_gains(kind):
    before, after = [source_only(seed, 0.1) for seed in SEEDS], [train({kind: FULL}, seed) for seed in SEEDS]
    for b, a in zip(before, after, strict=True):
        assert a.discrepancy < 0.8 * b.discrepancy
        assert a.target_accuracy > b.target_accuracy + 0.01
        assert a.source_accuracy > b.source_accuracy - 0.03
    assert mean(after, "domain_accuracy") < mean(before, "domain_accuracy") - 0.04
    assert mean(after, "target_accuracy") > mean(before, "target_accuracy") + 0.03


def test_nt_xent_learns_its_own_task_and_the_target_loses_nothing():
    """With strong views (half of the units dropped) and a soft temperature. On such small data a sharp one tells rows
    of one class apart at their class's expense."""
    settings = {"nt_xent": {"weight": 0.3, "temperature": 1.0, "schedule": "constant"}}
    before = [source_only(seed, 0.5) for seed in SEEDS]
    after = [train(settings, seed, dropout=0.5) for seed in SEEDS]
    for b, a in zip(before, after, strict=True):
        assert a.last < a.first - 0.3
        assert a.source_accuracy > b.source_accuracy - 0.03
        assert a.target_accuracy > b.target_accuracy - 0.02
    assert mean(after, "target_accuracy") >= mean(before, "target_accuracy")


def test_weight_0_is_source_only_to_the_bit():
    """An objective of weight 0 computes nothing and draws nothing."""
    assert train({"dann": 0.0, "nt_xent": 0.0}, 0, steps=20) == train(None, 0, steps=20)
