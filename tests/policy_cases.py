"""`trainable` and `freeze` on a two-layer BERT, and which parameters each pair should train, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def under(*prefixes: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(tuple(f"{p}." for p in prefixes))


TOP = under("classifier", "bert.pooler", "bert.encoder.layer.1")
TRAINABLE: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "all": ({"trainable": "all"}, lambda name: True),
    "head": ({"trainable": "head"}, under("classifier")),
    "last_1": ({"trainable": "last_1"}, TOP),
    "last_2": ({"trainable": '{"last": 2}'}, lambda name: not under("bert.embeddings")(name)),
    "first_1": ({"freeze": "first_1"}, TOP),
    "first_2": ({"freeze": {"first": 2}}, under("classifier", "bert.pooler")),
    "embeddings": ({"freeze": "embeddings"}, lambda name: not under("bert.embeddings")(name)),
    "norms": ({"trainable": "norms"}, lambda name: "LayerNorm" in name or under("classifier")(name)),
    "biases": ({"trainable": "biases"}, lambda name: name.endswith(".bias") or under("classifier")(name)),
    "block": ({"trainable": "block:layer.0"}, under("bert.encoder.layer.0")),
    "blocks": ({"trainable": {"block": [-1, "bert.pooler"]}}, under("bert.encoder.layer.1", "bert.pooler")),
    "pattern": ({"trainable": "pattern:*.attention.self"}, lambda name: ".attention.self." in name),
    "regex": (
        {"trainable": r"regex:layer\.[01]\.output\.dense"},
        lambda name: ".output.dense." in name and ".attention." not in name,
    ),
    "union": ({"trainable": ["head", "block:embeddings"]}, under("classifier", "bert.embeddings")),
    "auto": ({"trainable": "auto"}, lambda name: True),
    "frozen block": ({"freeze": "block:0"}, lambda name: not under("bert.encoder.layer.0")(name)),
    "frozen pattern": ({"freeze": "pattern:*.attention.self"}, lambda name: ".attention.self." not in name),
    "frozen regex": ({"freeze": r"regex:layer\.[01]\.output"}, lambda name: not re.search(r"layer\.\d\.output", name)),
    "frozen list": (
        {"freeze": ["embeddings", {"block": -1}]},
        lambda name: not under("bert.embeddings", "bert.encoder.layer.1")(name),
    ),
    "difference": (
        {"trainable": ["norms", "block:0"], "freeze": "pattern:*.attention"},
        lambda name: (
            ".attention." not in name and ("LayerNorm" in name or under("classifier", "bert.encoder.layer.0")(name))
        ),
    ),
    "auto without": ({"trainable": "auto", "freeze": "first_1"}, TOP),
}
# Runs of four updates, three an epoch.
PHASES: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "unfreeze": ({"unfreeze": {"by": "step", "every": 1}}, lambda name: True),
    "unfreeze_slowly": ({"unfreeze": '{"by": "step", "every": 2}'}, TOP),
    "unfreeze_by_epoch": ({"unfreeze": {"by": "epoch", "every": 1}}, TOP),
    "unfreeze_norms": (
        {"unfreeze": {"by": "step", "every": 2}, "trainable": "norms"},
        lambda name: under("classifier")(name) or (TOP(name) and "LayerNorm" in name),
    ),
    "lp": ({"lp_epochs": 1}, lambda name: True),
    "lp_last": ({"lp_epochs": 0.5, "trainable": "last_1"}, TOP),
}
CASES = TRAINABLE | PHASES
# One of each kind, for runs that cost more; two processes differ where what trains is no whole block, or changes.
FEW = ("norms", "union", *PHASES)
MORE = ("head", "last_1", "embeddings", "biases", "block", "pattern", "difference")  # in the slow tests


def expected(case: str, names) -> set[str]:
    """Which of the names should have changed after four updates."""
    return {name for name in names if CASES[case][1](name)}
