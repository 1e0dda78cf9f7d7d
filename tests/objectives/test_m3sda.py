"""M3SDA: moments across sources, sources that are not there, and that it brings three domains together."""

from __future__ import annotations

import itertools
from itertools import combinations

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains
from moment_cases import collapsed, gradients, moment, weighted
from toy import CLASSES, SEEDS, WIDTH, ToyModel, domain_accuracy, draw, joint

from hftransfer.models.feature_hook import Head
from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.trainers.step.joint_model import JointModel
from hftransfer.trainers.step.objective_set import ObjectiveSet


def make(num_sources: int = 1, width: int = 6, **settings):
    modules, _ = build_objectives(parse_objectives({"m3sda": settings}), width, 3, num_sources)
    return modules["m3sda"]


def m3sda(inputs, moments: int = 2) -> float:
    """The paper's sum over the sources that are there."""
    (x, y), w, of = domains(inputs), array(inputs["source_weights"]), inputs["source_domains"].numpy()
    there, value = sorted(set(of[w > 0])), 0.0
    for k in range(1, moments + 1):
        s = {i: moment(x[of == i], w[of == i], k) for i in there}
        t = moment(y, np.ones(len(y)), k)
        value += np.mean([np.linalg.norm(s[i] - t) for i in there])
        pairs = [np.linalg.norm(s[i] - s[j]) for i, j in combinations(there, 2)]
        value += np.mean(pairs) if pairs else 0
    return value


DOMAINS = [  # (sources of the run, those of the batch's rows); some lack a source
    (1, [0] * 7),
    (2, [0, 1, 1, 0, 0, 0, 1]),
    (3, [2, 0, 1, 1, 2, 2, 0]),
    (4, [3, 0, 0, 3, 1, 1, 2]),
    (4, [0, 2, 2, 0, 0, 0, 2]),
    (4, [3] * 7),
]


@pytest.mark.parametrize(("num_sources", "there"), DOMAINS)
def test_value_and_gradient(num_sources, there):
    """Of a source that is not in the batch, or whose rows weigh nothing, nothing is asked."""
    weightless = batch() | {"source_weights": (torch.tensor(there) == there[0]).float()}
    for moments, inputs in itertools.product((1, 2, 4), (batch(), weighted(), weightless)):
        inputs["source_domains"] = torch.tensor(there)
        value = call(make(num_sources, moments=moments), inputs).item()
        assert value == pytest.approx(m3sda(inputs, moments), rel=1e-5), moments
    inputs = weighted(7, 4, 3, dtype=torch.float64)
    module, rest = make(num_sources, 3, moments=3), (torch.tensor(there), inputs["source_weights"])
    forward = lambda x, y: module(x, y, *rest)  # noqa: E731
    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


def test_equal_domains_score_0_and_rounding_does_not_push():
    x = batch(6, 6)["source_features"].detach()
    equal = {"source_features": torch.cat([x, x.flip(0)]), "target_features": x.roll(2, 0)}
    cases = [batch(12, 6) | {name: z.clone().requires_grad_() for name, z in equal.items()}]
    cases += [collapsed(n, m, scale) for scale in (0.0, 1.0, 1e4) for n, m in ((16, 16), (13, 7))]
    for inputs in cases:
        n = len(inputs["source_features"])
        inputs["source_domains"] = torch.arange(n) // 6 if n == 12 else torch.arange(n) % 3
        value = call(make(3, inputs["source_features"].shape[1]), inputs)
        assert value.item() == 0, n
        assert all(g.abs().max() == 0 for g in gradients(value, inputs)), n


def three_domains(objectives, seed: int, rows: int = 300, steps: int = 300) -> tuple[list[float], list[float]]:
    """Two sources, of which the second is moved in a nuisance direction that the target leaves alone. Accuracy on
    held-out rows of each domain, and how well a linear classifier tells their features apart, in pairs."""
    torch.manual_seed(seed)
    specs = parse_objectives(objectives)
    modules, schedules = build_objectives(specs, WIDTH, CLASSES, 2)
    weights = {s.name: s.weight for s in specs}
    module = JointModel(ToyModel(), Head("head", WIDTH), objectives=ObjectiveSet(modules, weights, schedules))
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    g = torch.Generator().manual_seed(1000 + seed)

    def sample(count: int):
        parts = [draw(count, target, g) for target in (False, False, True)]
        parts[1][0][:, 3] -= 2
        return parts

    (first, labels), (second, more_labels), (target, _) = sample(rows)
    held_out = sample(400)
    for step in range(steps):
        module.progress.fill_(step / steps)
        (i, j), k = torch.randint(0, rows, (2, 16), generator=g), torch.randint(0, rows, (32,), generator=g)
        inputs = joint(torch.cat([first[i], second[j]]), torch.cat([labels[i], more_labels[j]]), target[k])
        inputs["domain"][16:32] = 1
        optimizer.zero_grad()
        module(**inputs).loss.backward()
        optimizer.step()
    module.eval()
    with torch.no_grad():
        features = [module.model.body(x) for x, _ in held_out]
        accuracy = [(module(x=x).logits.argmax(-1) == y).float().mean().item() for x, y in held_out]
    return accuracy, [domain_accuracy(a, b) for a, b in combinations(features, 2)]


@pytest.mark.parametrize("seeds", SEEDS)
def test_sources_and_target_come_together_and_the_target_gains(seeds):
    m3sda = {"m3sda": {"schedule": "warm_start", "weight": 0.1}}
    before, after = ([three_domains(o, seed) for seed in seeds] for o in (None, m3sda))
    for (accuracy, apart), (now_accuracy, now_apart) in zip(before, after, strict=True):
        assert now_accuracy[2] > accuracy[2] + 0.02
        assert min(now_accuracy[:2]) > min(accuracy[:2]) - 0.03
        assert all(now < then for now, then in zip(now_apart, apart, strict=True))
        assert np.mean(now_apart) < np.mean(apart) - 0.1


def test_the_number_of_sources_is_no_setting():
    assert list(type(make()).settings()) == ["moments"]
