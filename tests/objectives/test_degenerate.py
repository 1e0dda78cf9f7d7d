"""Batches at the edge: value and gradient stay finite, in fp32 and through the adapter under bf16 autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import LEAST, asked, batch, call, leaves, make
from toy import adapter, draw, joint

from hftransfer.objectives import REGISTRY, Objective

VARIANTS = {
    **{kind: (kind, {}) for kind in REGISTRY},
    "mmd biased": ("mmd", {"estimator": "biased"}),
    "mmd median": ("mmd", {"bandwidth": "median", "queue": 8}),
    "mmd linear": ("mmd", {"estimator": "linear", "queue": 8}),
    "mmd_rff biased": ("mmd_rff", {"estimator": "biased"}),
    "jan mean": ("jan", {"prediction_bandwidth": "mean", "estimator": "biased"}),
    "dsan unbiased": ("dsan", {"estimator": "unbiased"}),
    "dann each": ("dann", {"sources": "each"}),
    "coral with means": ("coral", {"mean_weight": 1.0}),
    "cmd tanh": ("cmd", {"interval": "tanh"}),
    "cmd fixed interval": ("cmd", {"interval": [-1, 1]}),
    "swd order 1": ("swd", {"order": 1}),
    "deepjdot sinkhorn": ("deepjdot", {"regularization": 0.1}),
    "m3sda four moments": ("m3sda", {"moments": 4}),
    "cdan randomized": ("cdan", {"randomized": True}),
    "wdgrl linear": ("wdgrl", {"depth": 0}),
    "nt_xent plain": ("nt_xent", {"projection_dim": 0}),
    "nt_xent queue in chunks": ("nt_xent", {"queue": 8, "chunk": 3}),
    "supcon no queue": ("supcon", {"queue": 0}),
    "supcon in chunks": ("supcon", {"chunk": 3}),
    "prototype of all rows": ("prototype", {"threshold": 0.0}),
    "prototype contrast": ("prototype", {"threshold": 0.0, "temperature": 1.0}),
    "prototype cosine contrast": ("prototype", {"threshold": 0.0, "distance": "cosine", "temperature": 0.1}),
    "bsp three values": ("bsp", {"k": 3}),
    "vat three iterations": ("vat", {"iterations": 3}),
    "l2_sp to the start": ("l2_sp", {"head": "start"}),
    "distill the target's logits": ("distill_logits", {"rows": "target"}),
    "bss three values": ("bss", {"k": 3}),
    "rkd distances": ("rkd", {"angle": 0.0}),
    "bi_tuning no queue": ("bi_tuning", {"queue": 0}),
    "constraint implications": ("constraint", {"implies": [["0", ["1", "2"]]], "method": "lagrangian", "rows": "all"}),
}
ANCHORED = (
    "adda",
    "l2_sp",
    "lwf",
    "distill_logits",
    "distill_features",
    "distill_attention",
    "delta",
    "rkd",
)  # they ask for a teacher or a start: tests/trainers
ON_THE_TOY = [kind for kind in REGISTRY if kind not in ("vat", *ANCHORED)]  # vat: there are no embeddings to move
FEATURES = ("source_features", "target_features", "target_view_features")


def logits(inputs, value):
    return {f"{domain}_logits": value(inputs[f"{domain}_logits"].detach()) for domain in ("source", "target")}


def features(inputs, value):
    return {name: value(inputs[name].detach()) for name in FEATURES}


def certain(z: torch.Tensor) -> torch.Tensor:
    """±1e4: probabilities of exactly 0 and 1."""
    z = torch.where(z == z.amax(-1, keepdim=True), 1e4, -1e4)
    assert set(z.softmax(-1).unique().tolist()) == {0.0, 1.0}
    return z


BATCHES = {
    "ordinary": lambda b: {},
    "identical domains": lambda b: {"target_features": b["source_features"][:5].detach()},
    "collapsed to a point": lambda b: features(b, lambda x: torch.full_like(x, 0.3)),
    "collapsed to zero": lambda b: features(b, torch.zeros_like),
    "one row of zeros": lambda b: features(b, lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]])),
    "collapsed within each domain": lambda b: {
        "source_features": torch.zeros(7, 6),
        **{name: torch.ones(5, 6) for name in FEATURES[1:]},
    },
    "one row a domain": lambda b: {
        k: v[:1].detach()
        for k, v in b.items()
        if isinstance(v, torch.Tensor) and v.ndim and k.startswith(("source", "target"))
    },
    "norms of 1e4": lambda b: features(b, lambda x: 1e4 * x / x.norm(dim=-1, keepdim=True)),
    "far from the origin": lambda b: features(b, lambda x: x + 1e4),
    "one outlier": lambda b: features(b, lambda x: torch.cat([1e4 * x[:1], x[1:]])),
    "one class": lambda b: {
        "source_labels": torch.zeros(7, dtype=torch.long),
        **logits(b, lambda z: torch.tensor([4.0, 0.0, 0.0]).expand_as(z)),
    },
    "probabilities at 0 and 1": lambda b: logits(b, certain),
    "no confident target row": lambda b: logits(b, torch.zeros_like),
    "no labelled source row": lambda b: {"source_labels": torch.full((7,), -100)},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", BATCHES)
def test_value_and_gradient_are_finite(variant, name):
    kind, settings = VARIANTS[variant]
    module, inputs = make(kind, **settings), batch()
    changed = BATCHES[name](inputs)
    inputs |= {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in changed.items()}
    for _ in range(2):  # the second time over a filled queue
        given = asked(module, inputs)
        value = module(**given)
        assert torch.isfinite(value)
        wanted = [*leaves(list(given.values())), *module.parameters()]
        gradients = torch.autograd.grad(value, wanted, allow_unused=True)
        assert any(g is not None for g in gradients)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


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
    return joint(x, y, target)


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


@pytest.mark.parametrize("how", ["autocast", "bf16 weights"])
@pytest.mark.parametrize("kind", ON_THE_TOY)
def test_bf16_features_give_the_objective_of_those_features_in_fp32(kind, how):
    module = adapter({kind: {**LEAST.get(kind, {}), "schedule": "linear"}}, dropout=0.0)
    module.progress.fill_(0.5)
    objective = copy.deepcopy(module.objectives[kind])
    seen = []
    module.model.head.register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
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
    }
    assert seen[0].dtype == torch.bfloat16
    torch.testing.assert_close(out.parts[1], call(objective, given).detach())
    out.loss.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert len(gradients) >= len(list(module.model.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("kind", ON_THE_TOY)
def test_identical_rows_through_the_adapter(kind):
    """Every row the same text, as an empty column would give: a step must not blow up."""
    module = adapter({kind: {**LEAST.get(kind, {}), "schedule": "constant"}}, dropout=0.0)
    inputs = training_batch()
    inputs["x"] = inputs["x"][:1].expand(12, -1)
    out = module(**inputs)
    out.loss.backward()
    assert torch.isfinite(out.parts).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
