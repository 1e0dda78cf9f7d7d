"""Minimising an objective does what it is for: the domains come together and the target is classified better."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest
import torch
import toy
from toy import CLASSES, INPUTS, Outcome, train

SEEDS: tuple[int, ...] = ()  # of the test that runs
FULL = {"weight": 1.0}  # the default of a tenth is meant for pretrained encoders


@pytest.fixture(autouse=True, params=toy.SEEDS)
def seeds(request, monkeypatch):
    """Runs every test twice: on one seed, and on three, whose means must hold too."""
    monkeypatch.setattr(sys.modules[__name__], "SEEDS", request.param)


@functools.cache
def source_only(seed: int, dropout: float) -> Outcome:
    return train(None, seed, dropout=dropout)


def compare(objectives, gain: float, **how) -> list[tuple[Outcome, Outcome]]:
    """Of each seed, what training on the source alone gives and what the objectives give; the target gains that much
    at least, and the source loses nothing to speak of."""
    pairs = [(source_only(seed, how.get("dropout", 0.1)), train(objectives, seed, **how)) for seed in SEEDS]
    for before, after in pairs:
        assert after.target_accuracy > before.target_accuracy + gain
        assert after.source_accuracy > before.source_accuracy - 0.03
    return pairs


def mean_change(pairs: list[tuple[Outcome, Outcome]], name: str) -> float:
    return float(np.mean([getattr(after, name) - getattr(before, name) for before, after in pairs]))


@pytest.mark.parametrize(
    "kind", ["mmd", "mmd_rff", "jan", "dsan", "dann", "cdan", "cdan_e", "cdann", "wdgrl", "supcon", "prototype"]
)
def test_domains_come_together_and_the_target_gains(kind):
    pairs = compare({kind: FULL}, 0.01)
    assert all(after.discrepancy < 0.8 * before.discrepancy for before, after in pairs)
    assert mean_change(pairs, "domain_accuracy") < -0.04
    assert mean_change(pairs, "target_accuracy") > 0.03


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("coral", {"weight": 4.0, "mean_weight": 0.25}),  # TLlib's scale
        ("cmd", {"weight": 0.3}),
        ("swd", {}),
        ("deepjdot", {"alpha": 0.3}),  # features of width 16: the default is meant for hundreds
        ("m3sda", {"weight": 0.1}),
    ],
)
def test_moments_and_transport_bring_the_domains_together(kind, settings):
    """Measured by a classifier: classes are drawn so tight that chance in how often each is drawn rules the MMD."""
    pairs = compare({kind: {**FULL, **settings}}, 0.01)
    assert all(after.domain_accuracy < before.domain_accuracy - 0.1 for before, after in pairs)
    assert mean_change(pairs, "target_accuracy") > 0.03


@pytest.mark.parametrize("kind", ["mdd", "mcd"])
def test_what_classifiers_could_disagree_on_goes_and_the_target_gains(kind):
    """Neither asks for equal clouds, and a domain classifier may still tell them apart. What falls is how far further
    heads can part on the target: their loss ends higher than beside an encoder that hardly pays them attention."""
    aside = {kind: {"weight": 1e-12, "schedule": "constant"}}
    for seed, (_, after) in zip(SEEDS, compare({kind: FULL}, 0.03), strict=True):
        assert after.last > train(aside, seed).last


@pytest.mark.parametrize("kind", ["mcc", "bnm", "entropy", "im"])
def test_certain_predictions_bring_the_target_over(kind):
    """They read target predictions only. Domains need not become the same, but the classes' clouds meet."""
    for before, after in compare({kind: FULL}, 0.03):
        assert after.last < after.first - 0.1
        assert after.discrepancy < 0.8 * before.discrepancy


def test_nt_xent_learns_its_own_task_and_the_target_loses_nothing():
    """With strong views (half of the units dropped) and a soft temperature. On such small data a sharp one tells rows
    of one class apart at their class's expense."""
    pairs = compare({"nt_xent": {"weight": 0.3, "temperature": 1.0, "schedule": "constant"}}, -0.02, dropout=0.5)
    assert all(after.last < after.first - 0.3 for _, after in pairs)
    assert mean_change(pairs, "target_accuracy") >= 0


def test_weight_0_is_source_only_to_the_bit():
    """An objective of weight 0 computes nothing and draws nothing."""
    assert train({"dann": 0.0, "nt_xent": 0.0}, 0, steps=20) == train(None, 0, steps=20)


def test_longer_features_classify_the_target_better():
    """AFN aligns nothing: features are drawn outwards, and the domains with them."""
    assert all(after.discrepancy > before.discrepancy for before, after in compare({"afn": FULL}, 0.03))


def test_bsp_spreads_what_dann_concentrates_and_costs_it_nothing():
    """On this problem DANN alone is near the top already: the penalty must hold the first singular values down
    without taking that away. Alone, ten times stronger, it takes target accuracy, as its page says."""
    for seed, (before, beside) in zip(SEEDS, compare({"dann": FULL, "bsp": 1e-3}, 0.03), strict=True):
        watched = train({"dann": FULL, "bsp": {"weight": 1e-12}}, seed)
        assert beside.last < 0.6 * watched.last
        assert beside.target_accuracy > watched.target_accuracy - 0.01
        assert train({"bsp": 1e-2}, seed).target_accuracy < before.target_accuracy - 0.1


def far(rows: int, target: bool, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Three blobs on a circle, the target's turned so far that each is nearer to another class's source blob."""
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    angle = 2 * np.pi / CLASSES * labels + (1.2 if target else 0.0)
    x = 0.6 * torch.randn(rows, INPUTS, generator=generator)
    x[:, 0] += 2.4 * angle.cos()
    x[:, 1] += 2.4 * angle.sin()
    return x, labels


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), [("supcon", {"threshold": 0.9}), ("prototype", {})])
def test_wrong_pseudo_labels_lock_in(kind, settings):
    """What their pages warn of: the domains do come together, with the classes crossed."""
    for seed in SEEDS:
        b, a = train(None, seed, draw=far), train({kind: FULL | settings}, seed, draw=far)
        assert b.target_accuracy < 0.4
        assert a.discrepancy < 0.8 * b.discrepancy
        assert a.target_accuracy < b.target_accuracy - 0.05
        assert a.source_accuracy > b.source_accuracy - 0.03


@pytest.mark.slow
def test_the_contrastive_form_of_prototype_wants_a_temperature_as_large_as_the_distances():
    """Far below them the loss is gone as soon as each centroid is nearest to its own class, and moves nothing."""
    warm, cold = ({"prototype": {**FULL, "temperature": t}} for t in (10.0, 1.0))
    for seed, (before, after) in zip(SEEDS, compare(warm, 0.03), strict=True):
        assert after.discrepancy < 0.8 * before.discrepancy
        too_sharp = train(cold, seed)
        assert too_sharp.last < 1e-3
        assert abs(too_sharp.target_accuracy - before.target_accuracy) < 0.02
