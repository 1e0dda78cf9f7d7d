"""What all adversarial objectives have in common: the MLP they share, reversal, row weights, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make
from torch import nn

from hftransfer.objectives import REGISTRY
from hftransfer.objectives.adversarial import SEARCH, Discriminator, normalized, weighted_mean
from hftransfer.objectives.alignment.dann import DANN

KINDS = ("dann", "cdan", "cdan_e", "cdann", "mdd", "mcd", "wdgrl", "iwan", "osbp")
HELPS = ("mcd", "osbp")  # here the encoder is trained on the source's labels, too, and so not reversed there
SMALL = {"hidden": 8}


def small(kind: str, **settings):
    return make(kind, **SMALL, **settings).double()


def evaluate(module, inputs, **replaced):
    """A counter, if there is one, starts at 0: the same value every time."""
    if hasattr(module, "drawn"):
        module.drawn.zero_()
    return call(module, inputs, **replaced)


# ---- the MLP


@pytest.mark.parametrize(("depth", "outputs"), [(0, 1), (0, 4), (2, 1), (2, 4)])
def test_groups_are_separate_mlps(depth, outputs):
    torch.manual_seed(0)
    module, x = Discriminator(6, 5, depth, outputs, groups=3), torch.randn(7, 6)
    found = module(x).view(7, 3, outputs)
    for k in range(3):
        one = Discriminator(6, 5, depth, outputs)
        with torch.no_grad():
            for mine, theirs in zip(one.parameters(), module.parameters(), strict=True):
                mine.copy_(theirs[k].mT if theirs.ndim == 3 else theirs[k])
        torch.testing.assert_close(found[:, k], one(x).view(7, outputs))


def test_groups_start_as_linear_layers_do():
    torch.manual_seed(0)
    grouped, plain = Discriminator(64, 200, 1, groups=5), nn.Linear(64, 1000)
    assert grouped[0].weight.abs().max().item() == pytest.approx(plain.weight.abs().max().item(), rel=1e-2)
    assert grouped[0].weight.std().item() == pytest.approx(plain.weight.std().item(), rel=2e-2)
    assert grouped[0].bias.std().item() == pytest.approx(plain.bias.std().item(), rel=5e-2)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_gradient_written_out_is_that_of_autograd_twice(depth):
    """Its value, and the gradient of a loss on it in every weight, against create_graph."""
    torch.manual_seed(0)
    module = Discriminator(6, 16, depth).double()
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    found = module.input_gradient(x)
    torch.testing.assert_close(found, wanted)
    weights = [layer.weight for layer in module if isinstance(layer, nn.Linear)]
    loss = lambda g: (torch.linalg.vector_norm(g, dim=1) - 1).square().mean()  # noqa: E731
    for mine, theirs in zip(
        torch.autograd.grad(loss(found), weights), torch.autograd.grad(loss(wanted), weights), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


# ---- weights


def test_weighted_mean():
    g = torch.Generator().manual_seed(0)
    values, weights = torch.randn(9, generator=g), torch.rand(9, generator=g)
    wanted = np.average(array(values), weights=array(weights))
    assert weighted_mean(values, weights).item() == pytest.approx(wanted, abs=1e-6)
    assert normalized(weights).sum().item() == pytest.approx(9, abs=1e-5)
    assert torch.equal(weighted_mean(values, torch.ones(9)), values.mean())
    assert weighted_mean(values, torch.zeros(9)).item() == 0


WEIGHED = [(kind, {}) for kind in KINDS if kind != "wdgrl"]  # whose penalty is unweighted: see its own test


@pytest.mark.parametrize(("kind", "settings"), WEIGHED)
def test_weight_2_is_the_row_twice(kind, settings):
    module, inputs = make(kind, **settings), batch()
    rows = torch.tensor([0, 1, 2, 2, 3, 4, 5, 5, 6])
    twice = {name: x[rows] for name, x in inputs.items() if name.startswith("source")}
    weighted = {"source_weights": torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0])}
    value = call(module, {**inputs, **weighted})
    torch.testing.assert_close(value, call(module, {**inputs, **twice}))
    assert (value - call(module, inputs)).abs() > 1e-5
    scaled = {"source_weights": 10 * weighted["source_weights"]}
    torch.testing.assert_close(value, call(module, {**inputs, **scaled}))


def test_weight_2_is_the_row_twice_among_several_sources():
    torch.manual_seed(0)
    module, inputs = DANN(6, 2, sources="each"), batch()
    inputs["source_domains"] = torch.tensor([0, 1, 1, 0, 1, 1, 1])
    rows = torch.tensor([0, 1, 2, 2, 3, 4, 5, 6])
    twice = {name: x[rows] for name, x in inputs.items() if name.startswith("source")}
    weights = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(call(module, inputs, source_weights=weights), call(module, {**inputs, **twice}))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_weight_0_are_not_there(kind):
    """Only the penalty on a critic, which asks nothing of domains, still sees them."""
    module, inputs = make(kind, **({"penalty": 1e-30} if kind == "wdgrl" else {})), batch()
    rows = torch.tensor([0, 2, 3, 6])
    some = {name: x[rows] for name, x in inputs.items() if name.startswith("source")}
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(evaluate(module, inputs, source_weights=weights), evaluate(module, {**inputs, **some}))


# ---- gradients


@pytest.mark.parametrize("name", ["source_features", "target_features"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "iwan"])  # part of it has no gradient: own test
def test_gradcheck_in_the_features(kind, name):
    """With strength -1 nothing is reversed; where the encoder helps, 1 leaves the sign alone."""
    module, inputs = small(kind), batch(4, 3, dtype=torch.float64)
    strength = torch.tensor(1.0 if kind in HELPS and name == "source_features" else -1.0)
    assert torch.autograd.gradcheck(lambda x: evaluate(module, inputs, **{name: x}, strength=strength), inputs[name])


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_in_the_parameters(kind):
    module, inputs = small(kind), batch(4, 3, dtype=torch.float64)
    given = {name: inputs[name].detach() for name in module.needs()}
    # iwan: the weights that come from the first classifier have no gradient.
    names = [name for name, _ in module.named_parameters() if not name.startswith("weigher")]
    values = [module.get_parameter(name).detach().clone().requires_grad_() for name in names]

    def forward(*parameters):
        if hasattr(module, "drawn"):
            module.drawn.zero_()
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), kwargs=given)

    assert torch.autograd.gradcheck(forward, values)


@pytest.mark.parametrize("kind", KINDS)
def test_the_strength_scales_what_the_encoder_gets_and_nothing_else(kind):
    module, inputs = small(kind), batch(dtype=torch.float64)
    features = [inputs["source_features"], inputs["target_features"]]
    wanted = [*features, *module.parameters()]
    strengths = (1.0, 0.3, 0.0)
    values = [evaluate(module, inputs, strength=torch.tensor(s)) for s in strengths]
    full, weak, none = (torch.autograd.grad(value, wanted) for value in values)
    assert values[0] == values[1] == values[2]
    for i, (a, b, c) in enumerate(zip(full, weak, none, strict=True)):
        mine = i >= len(features)  # the objective's own parameters learn at full speed
        torch.testing.assert_close(b, a if mine else 0.3 * a)
        torch.testing.assert_close(c, a if mine else 0.0 * a)
        assert mine or a.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_logits_get_no_gradient(kind):
    module, inputs = small(kind), batch(dtype=torch.float64)
    logits = [inputs[name] for name in module.needs() if name.endswith("logits")]
    if logits:
        assert torch.autograd.grad(call(module, inputs), logits, allow_unused=True) == (None,) * len(logits)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_come_in_any_order(kind):
    """The points between the domains pair rows as they come, so there order moves the penalty."""
    module, inputs = small(kind, **({"penalty": 1e-30} if kind == "wdgrl" else {})), batch(dtype=torch.float64)
    flipped = {name: inputs[name].flip(0) if inputs[name].ndim else inputs[name] for name in module.needs()}
    torch.testing.assert_close(evaluate(module, inputs), evaluate(module, flipped))


@pytest.mark.parametrize("kind", KINDS)
def test_search_names_settings(kind):
    cls = REGISTRY[kind]
    assert set(SEARCH) <= set(cls.search) <= {"weight", *cls.settings()}
