"""M3SDA: moments across sources, sources that are not there, and that it brings three domains together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from cases import array, batch, call
from moment_cases import collapsed, doubled, gradients, moment, weighted
from toy import CLASSES, WIDTH, ToyModel, domain_accuracy, draw, joint

from hftransfer.models.feature_hook import Head
from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.trainers.step.joint_model import JointModel
from hftransfer.trainers.step.objective_set import ObjectiveSet


def make(num_sources: int = 1, width: int = 6, **settings):
    modules, _ = build_objectives(parse_objectives({"m3sda": settings}), width, 3, num_sources)
    return modules["m3sda"]


def several(inputs, domains: list[int]):
    return {**inputs, "source_domains": torch.tensor(domains)}


def m3sda(inputs, moments: int = 2) -> float:
    """The paper's sum over the sources that are there."""
    x, y, w = (array(inputs[name]) for name in ("source_features", "target_features", "source_weights"))
    domains, value = inputs["source_domains"].numpy(), 0.0
    there = sorted(set(domains[w > 0]))
    for k in range(1, moments + 1):
        s = {i: moment(x[domains == i], w[domains == i], k) for i in there}
        t = moment(y, np.ones(len(y)), k)
        value += np.mean([np.linalg.norm(s[i] - t) for i in there])
        pairs = [np.linalg.norm(s[i] - s[j]) for i, j in combinations(there, 2)]
        value += np.mean(pairs) if pairs else 0
    return value


DOMAINS = {1: [0] * 7, 2: [0, 1, 1, 0, 0, 0, 1], 3: [2, 0, 1, 1, 2, 2, 0], 4: [3, 0, 0, 3, 1, 1, 2]}


@pytest.mark.parametrize("num_sources", DOMAINS)
@pytest.mark.parametrize("moments", [1, 2, 4])
def test_value_is_the_definition(num_sources, moments):
    module = make(num_sources, moments=moments)
    for inputs in (batch(), weighted()):
        inputs = several(inputs, DOMAINS[num_sources])
        value = call(module, inputs)
        assert value.shape == ()
        assert value.item() == pytest.approx(m3sda(inputs, moments), rel=1e-5)


def test_with_one_source_it_matches_source_and_target_moments():
    inputs = batch()
    x, y = array(inputs["source_features"]), array(inputs["target_features"])
    expected = np.linalg.norm(x.mean(0) - y.mean(0)) + np.linalg.norm((x**2).mean(0) - (y**2).mean(0))
    assert call(make(), inputs).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("domains", "renamed"), [([0, 2, 2, 0, 0, 0, 2], 2), ([3] * 7, 1)])
def test_a_source_that_is_not_in_the_batch_contributes_nothing(domains, renamed):
    """As though the run had only those that are there: in value and in gradient."""
    inputs = weighted()
    absent = several(inputs, domains)
    names = sorted(set(domains))
    present = several(inputs, [names.index(d) for d in domains])
    found, wanted = call(make(4), absent), call(make(renamed), present)
    torch.testing.assert_close(found, wanted)
    for a, b in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_a_source_whose_rows_weigh_nothing_is_not_there():
    inputs = several(batch(), DOMAINS[2])
    inputs["source_weights"] = 1.0 - inputs["source_domains"]
    rows = inputs["source_domains"] == 0
    alone = {name: inputs[name][rows] for name in ("source_features", "source_domains", "source_weights")}
    torch.testing.assert_close(call(make(2), inputs), call(make(2), inputs, **alone))


@pytest.mark.parametrize("num_sources", [1, 3])
def test_gradient(num_sources):
    inputs = several(weighted(7, 4, 3, dtype=torch.float64), DOMAINS[num_sources])
    module, rest = make(num_sources, 3, moments=3), (inputs["source_domains"], inputs["source_weights"])
    forward = lambda x, y: module(x, y, *rest)  # noqa: E731
    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


def test_equal_domains_score_0_and_do_not_push():
    x = batch(6, 6)["source_features"].detach()
    inputs = batch(12, 6) | {"source_features": torch.cat([x, x.flip(0)]), "target_features": x.roll(2, 0)}
    for name in ("source_features", "target_features"):
        inputs[name] = inputs[name].clone().requires_grad_()
    value = call(make(2), several(inputs, [0] * 6 + [1] * 6))
    assert value.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(value, inputs))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(("n", "m"), [(16, 16), (13, 7)])
def test_rounding_does_not_push(scale, n, m):
    inputs = several(collapsed(n, m, scale), [i % 3 for i in range(n)])
    value = call(make(3, 64), inputs)
    assert value.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(value, inputs))


def test_invariances():
    inputs = several(weighted(), DOMAINS[3])
    x, y, domains, w = (
        inputs[name] for name in ("source_features", "target_features", "source_domains", "source_weights")
    )
    module, g = make(3), torch.Generator().manual_seed(1)
    value, order, columns = (
        module(x, y, domains, w).item(),
        torch.randperm(7, generator=g),
        torch.randperm(6, generator=g),
    )
    for what, arguments in {
        "row order": (x[order], y.flip(0), domains[order], w[order]),
        "names of the sources": (x, y, (domains + 1) % 3, w),
        "order of coordinates": (x[:, columns], y[:, columns], domains, w),
        "sign": (-x, -y, domains, w),
        "weights of a source scaled": (x, y, domains, torch.where(domains == 1, 5 * w, w)),
    }.items():
        assert module(*arguments).item() == pytest.approx(value, rel=1e-5), what
    one = make(3, moments=1)
    assert one(x + 30, y + 30, domains, w).item() == pytest.approx(one(x, y, domains, w).item(), rel=1e-4)


def test_a_weight_of_2_is_the_row_twice():
    heavy, twice = doubled(several(batch(), DOMAINS[3]))
    torch.testing.assert_close(call(make(3), heavy), call(make(3), twice))


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

    def domains(count: int):
        parts = [draw(count, target, g) for target in (False, False, True)]
        parts[1][0][:, 3] -= 2
        return parts

    (first, labels), (second, more_labels), (target, _) = domains(rows)
    held_out = domains(400)
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


def test_sources_and_target_come_together_and_the_target_gains():
    m3sda = {"m3sda": {"schedule": "warm_start", "weight": 0.1}}
    before, after = ([three_domains(o, seed) for seed in (0, 1, 2)] for o in (None, m3sda))
    for (accuracy, apart), (now_accuracy, now_apart) in zip(before, after, strict=True):
        assert now_accuracy[2] > accuracy[2] + 0.02
        assert min(now_accuracy[:2]) > min(accuracy[:2]) - 0.03
        assert all(now < then for now, then in zip(now_apart, apart, strict=True))
        assert np.mean(now_apart) < np.mean(apart) - 0.1


def test_the_number_of_sources_is_no_setting():
    assert list(type(make()).settings()) == ["moments"]


@pytest.mark.parametrize("moments", [0, 1.5, True])
def test_bad_settings(moments):
    with pytest.raises(ValueError, match="moments=.* must be a whole number of at least 1"):
        make(moments=moments)
