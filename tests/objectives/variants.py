"""Every objective, at its defaults and in its other forms; batches at the edge; batches with other rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from cases import batch, make

from hftransfer.objectives import REGISTRY, Objective
from hftransfer.objectives.base import LayerPair

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in REGISTRY},
    "mmd biased": ("mmd", {"estimator": "biased"}),
    "mmd median": ("mmd", {"bandwidth": "median", "queue": 8}),
    "mmd linear": ("mmd", {"estimator": "linear", "queue": 8}),
    "mmd_rff biased": ("mmd_rff", {"estimator": "biased"}),
    "jan biased": ("jan", {"prediction_bandwidth": "mean", "estimator": "biased"}),
    "dsan unbiased": ("dsan", {"estimator": "unbiased"}),
    "dann each": ("dann", {"sources": "each"}),
    "coral with means": ("coral", {"mean_weight": 1.0}),
    "cmd tanh": ("cmd", {"interval": "tanh"}),
    "cmd fixed interval": ("cmd", {"interval": [-1, 1]}),
    "swd order 1": ("swd", {"order": 1}),
    "deepjdot sinkhorn": ("deepjdot", {"regularization": 0.1}),
    "m3sda four moments": ("m3sda", {"moments": 4}),
    "cdan randomized": ("cdan", {"randomized": True}),
    "cdan_e randomized": ("cdan_e", {"randomized": True}),
    "wdgrl linear": ("wdgrl", {"depth": 0}),
    "wdgrl distance alone": ("wdgrl", {"penalty": 1e-30}),
    "nt_xent plain": ("nt_xent", {"projection_dim": 0}),
    "nt_xent queue in chunks": ("nt_xent", {"queue": 8, "chunk": 3}),
    "supcon no queue": ("supcon", {"queue": 0}),
    "supcon in chunks": ("supcon", {"chunk": 3}),
    "supcon of fixed threshold": ("supcon", {"threshold": 0.8}),
    "supcon by class": ("supcon", {"per_class": True}),
    "prototype of all rows": ("prototype", {"threshold": 0.0}),
    "prototype by class": ("prototype", {"per_class": True}),
    "prototype contrast": ("prototype", {"threshold": 0.0, "temperature": 1.0}),
    "prototype cosine contrast": ("prototype", {"threshold": 0.0, "distance": "cosine", "temperature": 0.1}),
    "bsp three values": ("bsp", {"k": 3}),
    "vat three iterations": ("vat", {"iterations": 3}),
    "fixmatch by class, aligned": ("fixmatch", {"per_class": True, "distribution_alignment": True}),
    "fixmatch of the target": ("fixmatch", {"relative_to": "target"}),
    "fixmatch of fixed threshold": ("fixmatch", {"threshold": 0.6}),
    "mean_teacher divergence": ("mean_teacher", {"distance": "divergence"}),
    "l2_sp to the start": ("l2_sp", {"head": "start"}),
    "distill the target's logits": ("distill_logits", {"rows": "target"}),
    "bss three values": ("bss", {"k": 3}),
    "rkd distances": ("rkd", {"angle": 0.0}),
    "bi_tuning no queue": ("bi_tuning", {"queue": 0}),
    "constraint implications": ("constraint", {"implies": [["0", ["1", "2"]]], "method": "lagrangian", "rows": "all"}),
}
FEATURES = ("source_features", "target_features", "target_view_features")


def build(variant: str, fixed: bool = False, **more: Any) -> Objective:
    """The objective; `fixed`: kernels of a constant width, which otherwise is the batch's and moves with it."""
    kind, settings = VARIANTS[variant]
    if fixed:
        settings = settings | {n: 2.0 for n in REGISTRY[kind].settings() if n.endswith("bandwidth")}
    return make(kind, **settings, **more)


def confident(n: int = 7, m: int = 5, seed: int = 0, **how: Any) -> dict[str, Any]:
    """A batch whose target predictions are sure enough to be taken for labels."""
    inputs = batch(n, m, seed=seed, **how)
    return inputs | {"target_logits": (5 * inputs["target_logits"]).detach().requires_grad_()}


def rows_of(value: Any, rows: torch.Tensor) -> Any:
    """The same input of some of its rows, in that order."""
    if isinstance(value, list):
        return [rows_of(item, rows) for item in value]
    if isinstance(value, LayerPair):
        return LayerPair(value.current[rows], value.teacher[rows], value.share[rows])
    if hasattr(value, "mask"):  # a perturbed forward
        value = copy.copy(value)
        value.inputs, value.mask = value.inputs[rows], value.mask[rows]
        return value
    return value[rows]


def chosen(inputs: dict[str, Any], source: list[int], target: list[int]) -> dict[str, Any]:
    """The batch of these source and target rows, in that order; a row may come twice."""
    of_source, of_target = torch.tensor(source), torch.tensor(target)
    of_all = torch.cat([of_source, len(inputs["source_features"]) + of_target])
    found = {}
    for name, value in inputs.items():
        if name in ("strength", "trained_weights", "class_vectors"):
            found[name] = value
        else:
            rows = of_source if "source" in name else of_target if "target" in name else of_all
            found[name] = rows_of(value, rows)
    return found


# ---- batches at the edge


def logits(inputs, value):
    return {f"{domain}_logits": value(inputs[f"{domain}_logits"].detach()) for domain in ("source", "target")}


def features(inputs, value):
    return {name: value(inputs[name].detach()) for name in FEATURES}


def certain(z: torch.Tensor) -> torch.Tensor:
    """±1e4: probabilities of exactly 0 and 1."""
    z = torch.where(z == z.amax(-1, keepdim=True), 1e4, -1e4)
    assert set(z.softmax(-1).unique().tolist()) == {0.0, 1.0}
    return z


EDGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
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
    "one source row of any weight": lambda b: {"source_weights": torch.tensor([0.0, 0, 1, 0, 0, 0, 0])},
}
