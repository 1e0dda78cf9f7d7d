"""What every objective owes a run: finite values, weights that are rows, gradients, state, precision.

Two processes that equal one are in tests/distributed. Where a method departs from a law by design, a table says so.
"""

from __future__ import annotations

import copy

import pytest
import torch
from cases import CLASSES, LEAST, WIDTH, asked, batch, call, certain, leaves
from toy import adapter, draw, joint
from variants import EDGES, VARIANTS, build, chosen, confident

from hftransfer.objectives import REGISTRY, Objective, build_objectives, parse_objectives

every = pytest.mark.parametrize("variant", VARIANTS)


def gradients(value, wanted):
    """Zeros where there is none."""
    found = torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]


def reads(variant: str, name: str) -> bool:
    return name in build(variant).inputs.values()


# ---- finite


@every
def test_value_and_gradient_are_finite(variant):
    """On batches at the edge."""
    for name, edge in EDGES.items():
        module, inputs = build(variant), batch()
        inputs |= {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in edge(inputs).items()}
        for turn in ("first", "second"):  # the second time over a filled queue
            given = asked(module, inputs)
            value = module(**given)
            assert value.shape == (), name
            assert torch.isfinite(value), (name, turn)
            wanted = [*leaves(list(given.values())), *module.parameters()]
            found = torch.autograd.grad(value, wanted, allow_unused=True)
            assert any(g is not None for g in found), (name, turn)
            assert all(torch.isfinite(g).all() for g in found if g is not None), (name, turn)


UNSURE, UNLABELLED = {"target_logits": torch.zeros(5, CLASSES)}, {"source_labels": torch.full((7,), -100)}
APART_BY_CLASS = {
    "source_labels": torch.ones(7, dtype=torch.long),
    "target_logits": certain(torch.tensor([0, 2, 0, 2, 2])),
}
NOTHING = {
    **dict.fromkeys(("prototype", "supcon", "supcon no queue", "supcon of fixed threshold"), UNSURE),
    **dict.fromkeys(("dsan", "dsan unbiased"), APART_BY_CLASS),
    **dict.fromkeys(("fixmatch", "fixmatch of fixed threshold"), UNSURE),
    "bi_tuning": UNLABELLED,
}


@pytest.mark.parametrize("variant", NOTHING)
def test_where_there_is_nothing_to_compare_value_and_gradient_are_0(variant):
    """An untrained head must not be taken at its word."""
    module, inputs = build(variant), batch() | NOTHING[variant]
    for turn in ("first", "second"):  # the second time over a filled queue
        value = call(module, inputs)
        assert value.item() == 0, turn
        assert not any(g.any() for g in gradients(value, leaves(list(asked(module, inputs).values())))), turn


# ---- weights of source rows

UNBIASED = ("mmd", "mmd median", "mmd_rff", "jan", "dsan unbiased", "coral", "coral with means")  # leave i = j out
APART = ("mmd linear", "wdgrl", "deepjdot sinkhorn")  # pairs rows by place; a penalty without weights; to a tolerance
APART += ("fixmatch", "fixmatch by class, aligned")  # weights move the bar alone; tested with the method
RANGED = ("cmd",)  # its interval is that of all rows, whatever they weigh
SUPCON = tuple(variant for variant in VARIANTS if variant.startswith("supcon"))
SUMS = ("bsp", "bsp three values", *SUPCON)  # a scale of weights counts


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in APART and reads(v, "source_weights")])
def test_a_row_of_weight_2_is_that_row_twice_and_one_of_weight_0_is_none(variant):
    """In the value, the gradient of the row, and that of the objective's own parameters; now, and through a queue or
    centroids in the batch after."""

    def found(weights, source=range(7)):
        module, forms = build(variant, fixed=True), []
        for seed in (1, 0):
            inputs = confident(seed=seed)
            weighted = {**inputs, "source_weights": torch.tensor(weights)}
            value = call(module, chosen(weighted, list(source), list(range(5))))
            forms += [value, *gradients(value, [inputs["source_features"], *module.parameters()])]
        return forms

    heavy = found([1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0])
    assert any((a - b).abs().max() > 1e-5 for a, b in zip(heavy, found([1.0] * 7), strict=True))
    pairs = {}
    if variant not in UNBIASED:
        pairs["twice"] = heavy, found([1.0] * 7, [0, 1, 2, 2, 3, 4, 5, 5, 6])
    if variant not in SUMS:
        pairs["scaled"] = heavy, found([10.0, 10.0, 20.0, 10.0, 10.0, 20.0, 10.0])
    if variant not in RANGED:
        pairs["absent"] = found([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]), found([1.0] * 7, [0, 2, 3, 6])
    for what, (some, others) in pairs.items():
        for a, b in zip(some, others, strict=True):
            torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-5, msg=lambda m, what=what: f"{what}: {m}")


@every
def test_without_weights_all_rows_count_1_and_without_strength_it_is_full(variant):
    inputs = {**batch(), "strength": torch.tensor(1.0)}
    given = asked(module := build(variant), inputs)
    bare = {k: v for k, v in given.items() if k not in ("source_weights", "strength")}
    torch.testing.assert_close(module(**given), build(variant)(**bare))


BY_PLACE = ("mmd linear", "wdgrl", "mixup")  # pair rows by it


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in BY_PLACE])
def test_rows_may_come_in_any_order(variant):
    inputs = confident()
    moved = chosen(inputs, [3, 0, 6, 1, 5, 2, 4], [2, 4, 0, 1, 3])
    torch.testing.assert_close(call(build(variant), moved), call(build(variant), inputs), atol=2e-6, rtol=2e-6)


# ---- gradients

SILENT = {  # inputs that are looked at, but not moved
    **dict.fromkeys(("cdan", "cdan_e", "mdd"), ("source_logits", "target_logits")),
    **dict.fromkeys(("cdann", "dsan"), ("target_logits",)),
    **dict.fromkeys(("prototype", "supcon", "fixmatch"), ("source_logits", "target_logits")),
    "lwf": ("features",),  # of an old head, if there is one
}
HELPED = ("mcd", "osbp")  # the encoder is trained on the source's labels, too, and so not reversed there
# Parts that are held still for the gradient, which is then not the value's derivative; tested with the method:
HELD = ("cmd", "iwan", "afn", "mcc", "vat", "vat three iterations", "mixup", "deepjdot sinkhorn")
ROUNDED = ("l2_sp", "l2_sp to the start")  # in fp32, whatever it is given


@every
def test_the_gradient_reaches_what_it_should(variant):
    """Every input that a gradient could flow to and every parameter (DDP waits for each), and no silent one."""
    module, inputs = build(variant), confident()
    given = asked(module, inputs)
    value = module(**given)
    for name, tensors in given.items():
        for tensor in leaves(tensors):
            assert gradients(value, [tensor])[0].any() != (name in SILENT.get(VARIANTS[variant][0], ())), name
    for name, parameter in module.named_parameters():
        assert gradients(value, [parameter])[0].any(), name


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in (*HELD, *ROUNDED)])
def test_the_gradient_is_the_values_derivative(variant):
    """Along random directions of each input and each parameter, in float64, over a filled queue, with row weights. At
    a strength of -1 nothing is reversed; where the encoder helps, 1 leaves the sign alone."""
    kind = VARIANTS[variant][0]
    small = {"hidden": 8} if "hidden" in REGISTRY[kind].settings() else {}
    module = build(variant, fixed=True, **small).double()
    inputs = confident(4, 3, dtype=torch.float64)
    inputs["source_weights"] = torch.linspace(0.5, 1.5, 4, dtype=torch.float64)
    call(module, confident(4, 3, seed=1, dtype=torch.float64))

    own = dict(module.named_parameters())
    buffers = {name: x.clone() for name, x in module.state_dict().items() if name not in own}

    def value(strength):
        module.load_state_dict(buffers, strict=False)  # a queue is as full each time
        return call(module, {**inputs, "strength": torch.tensor(strength, dtype=torch.float64)})

    given = [(name, x) for name, tensors in asked(module, inputs).items() for x in leaves(tensors)]
    g = torch.Generator().manual_seed(0)
    for name, x in [*((n, x) for n, x in given if n not in SILENT.get(kind, ())), *own.items()]:
        strength = 1.0 if kind in HELPED and name == "source_features" else -1.0
        (gradient,) = gradients(value(strength), [x])
        direction, ends = torch.randn(x.shape, generator=g, dtype=x.dtype), []
        with torch.no_grad():
            for step in (1e-6, -2e-6):
                x += step * direction
                ends.append(value(strength).item())
            x += 1e-6 * direction
        slope = (ends[0] - ends[1]) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("variant", [v for v in VARIANTS if reads(v, "strength")])
def test_the_strength_scales_what_the_encoder_gets_and_nothing_else(variant):
    inputs, found = batch(dtype=torch.float64), {}
    for strength in (1.0, 0.3, 0.0):
        module = build(variant).double()
        value = call(module, inputs, strength=torch.tensor(strength))
        rows = [inputs[name] for name in ("source_features", "target_features") if reads(variant, name)]
        found[strength] = value, gradients(value, rows), gradients(value, list(module.parameters()))
    for strength, (value, of_rows, of_parameters) in found.items():
        assert value == found[1.0][0]
        for full, scaled in zip(found[1.0][1], of_rows, strict=True):
            assert full.any()
            torch.testing.assert_close(scaled, strength * full)
        for full, same in zip(found[1.0][2], of_parameters, strict=True):
            torch.testing.assert_close(same, full)


# ---- state


@every
def test_all_state_travels_and_nothing_is_drawn_at_random(variant):
    """One that was built from another seed and given the state goes on with the same bits: a run that was resumed.
    The global generator is left alone: processes would part."""
    kind, settings = VARIANTS[variant]
    module = build(variant)
    torch.manual_seed(7)
    specs = parse_objectives({kind: {**LEAST.get(kind, {}), **settings}})
    other = build_objectives(specs, WIDTH, CLASSES)[0][kind]
    generator = torch.get_rng_state()
    for seed in range(1, 4):
        call(module, confident(seed=seed))
    other.load_state_dict(module.state_dict())
    for seed in (9, 10):
        assert torch.equal(call(module, confident(seed=seed)), call(other, confident(seed=seed)))
    assert torch.equal(torch.get_rng_state(), generator)


# ---- precision, on a model and its adapter

DISTILLED = ("distill_logits", "distill_features", "distill_attention")
ANCHORED = ("adda", "l2_sp", "lwf", *DISTILLED, "delta", "rkd")  # they ask for a teacher or a start: tests/trainers
NOT_THERE = ("vat", "mixup", "mean_teacher", "masked_lm")  # there are no embeddings, and nobody averages weights
ON_THE_TOY = [kind for kind in REGISTRY if kind not in (*NOT_THERE, *ANCHORED)]


class Witness(Objective):
    """Notes what it is given."""

    def forward(self, source_features, target_features, source_logits, target_logits, target_view_features, strength):
        given = [source_features, target_features, source_logits, target_logits, target_view_features, strength]
        self.dtypes = {x.dtype for x in given}
        product = source_features @ target_features.T  # a matmul: autocast would make it bf16
        self.autocast, self.product = torch.is_autocast_enabled("cpu"), product.dtype
        return product.mean()


def training_batch():
    g = torch.Generator().manual_seed(0)
    (x, y), (target, _) = draw(6, False, g), draw(6, True, g)
    soft = torch.randn(12, CLASSES, generator=g).softmax(-1)
    soft[:6] = 0  # as the collator leaves source rows
    return joint(x, y, target) | {"soft_labels": soft}


def half_precision(module, how: str):
    """The output of a training batch in bf16: by autocast, or by weights and inputs that are bf16 themselves."""
    inputs = training_batch()
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            return module(**inputs)
    module.model.to(torch.bfloat16)
    return module(**inputs | {"x": inputs["x"].bfloat16()})


@pytest.mark.parametrize("how", ["autocast", "bf16 weights"])
def test_objectives_see_fp32_and_no_autocast(how, monkeypatch):
    monkeypatch.setitem(REGISTRY, "witness", Witness)
    module = adapter({"witness": 1.0})
    out = half_precision(module, how)
    assert out.logits.dtype == torch.bfloat16
    witness = module.objectives["witness"]
    assert witness.dtypes == {torch.float32}
    assert (witness.autocast, witness.product) == (False, torch.float32)
    assert out.loss.dtype == torch.float32


@pytest.mark.parametrize("kind", ON_THE_TOY)
def test_bf16_features_give_the_objective_of_those_features_in_fp32(kind):
    for how in ("autocast", "bf16 weights"):
        module = adapter({kind: {**LEAST.get(kind, {}), "weight": 1.0, "schedule": "linear"}}, dropout=0.0)
        module.progress.fill_(0.5)
        objective = copy.deepcopy(module.objectives[kind])
        seen = []
        module.model.head.register_forward_hook(lambda _, args, out, seen=seen: seen.extend([args[0], out]))
        out = half_precision(module, how)
        f, z = (x.detach().float() for x in seen)
        given = {
            "source_features": f[:6],
            "target_features": f[6:12],
            "target_view_features": f[12:],
            "source_logits": z[:6],
            "target_logits": z[6:12],
            "source_labels": training_batch()["labels"][:6],
            "source_weights": torch.ones(6),
            "source_domains": torch.zeros(6, dtype=torch.long),
            "strength": torch.tensor(0.5),
            "class_vectors": module.model.head.weight.detach().float(),
            "target_soft_labels": training_batch()["soft_labels"][6:],
            "target_view_logits": z[12:],
        }
        assert seen[0].dtype == torch.bfloat16, how
        torch.testing.assert_close(out.losses[1], call(objective, given).detach())
        out.loss.backward()
        found = [p.grad for p in module.parameters() if p.grad is not None]
        assert len(found) >= len(list(module.model.parameters())), how
        assert all(torch.isfinite(g).all() for g in found), how


@pytest.mark.parametrize("kind", ON_THE_TOY)
def test_identical_rows_through_the_adapter(kind):
    """Every row the same text, as an empty column would give: a step must not blow up."""
    module = adapter({kind: {**LEAST.get(kind, {}), "weight": 1.0, "schedule": "constant"}}, dropout=0.0)
    inputs = training_batch()
    inputs["x"] = inputs["x"][:1].expand(12, -1)
    out = module(**inputs)
    out.loss.backward()
    assert torch.isfinite(out.losses).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
