"""Policies on a two-layer BERT, and which parameters each of them should let move, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def under(*prefixes: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(tuple(f"{p}." for p in prefixes))


TOP = under("classifier", "bert.pooler", "bert.encoder.layer.1")
FREEZE: dict[str, tuple[Any, Callable[[str], bool]]] = {
    "none": ("none", lambda name: True),
    "head": ("head", under("classifier")),
    "last_1": ("last_1", TOP),
    "last_2": ('{"last": 2}', lambda name: not under("bert.embeddings")(name)),
    "first_1": ("first_1", TOP),
    "first_2": ({"first": 2}, under("classifier", "bert.pooler")),
    "embeddings": ("embeddings", lambda name: not under("bert.embeddings")(name)),
    "norms": ("norms", lambda name: "LayerNorm" in name or under("classifier")(name)),
    "biases": ("biases", lambda name: name.endswith(".bias") or under("classifier")(name)),
    "block": ("block:layer.0", under("bert.encoder.layer.0")),
    "blocks": ({"block": [-1, "bert.pooler"]}, under("bert.encoder.layer.1", "bert.pooler")),
    "pattern": ("pattern:*.attention.self", lambda name: ".attention.self." in name),
    "regex": (
        r"regex:layer\.[01]\.output\.dense",
        lambda name: ".output.dense." in name and ".attention." not in name,
    ),
    "union": (["head", "block:embeddings"], under("classifier", "bert.embeddings")),
    "auto": ("auto", lambda name: True),
}
# Runs of four updates, three an epoch.
PHASES: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "unfreeze": ({"unfreeze": {"by": "step", "every": 1}}, lambda name: True),
    "unfreeze_slowly": ({"unfreeze": '{"by": "step", "every": 2}'}, TOP),
    "unfreeze_by_epoch": ({"unfreeze": {"by": "epoch", "every": 1}}, TOP),
    "unfreeze_norms": (
        {"unfreeze": {"by": "step", "every": 2}, "freeze": "norms"},
        lambda name: under("classifier")(name) or (TOP(name) and "LayerNorm" in name),
    ),
    "lp": ({"lp_epochs": 1}, lambda name: True),
    "lp_last": ({"lp_epochs": 0.5, "freeze": "last_1"}, TOP),
}
CASES = {name: ({"freeze": policy}, moves) for name, (policy, moves) in FREEZE.items()} | PHASES
# One of each kind, for runs that cost more.
FEW = ("head", "last_1", "embeddings", "norms", "biases", "block", "pattern", "union", *PHASES)


def expected(case: str, names) -> set[str]:
    """Which of the names should have moved after four updates."""
    return {name for name in names if CASES[case][1](name)}
