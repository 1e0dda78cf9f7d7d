"""Freezing policies: which parameters move."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from torch import nn

from .structure import embeddings, head_modules, layers
from .tap import Head

POLICIES = "none, head, last_<k>, embeddings"


@dataclass(frozen=True)
class PolicyReport:
    """What a policy did: names of the parameters that move and the counts."""

    policy: str
    trainable: frozenset[str]
    num_trainable: int
    num_total: int

    def __str__(self) -> str:
        share = 100 * self.num_trainable / max(1, self.num_total)
        return f"{self.policy}: {self.num_trainable:,} of {self.num_total:,} parameters move ({share:.1f} %)"


def apply_policy(model: nn.Module, policy: str, head: Head) -> PolicyReport:
    """Sets `requires_grad` on every parameter.

    Args:
        model: the plain model (an adapter is attached afterwards and does its own freezing).
        policy: `none` — everything moves; `head` — only the head moves (linear probe); `last_2` — the head and the
            last two layers move (any number); `embeddings` — the embeddings are frozen and the rest moves.
        head: from `find_head`.

    Weights that the checkpoint lacked and `load_model` drew (a pooler, say) belong to the new head: they always move.

    Raises:
        ValueError: an unknown policy, or more layers than the model has.
    """
    last = re.fullmatch(r"last_(\d+)", policy)
    if policy == "none":
        prefixes = [""]
    elif policy == "embeddings":
        frozen = embeddings(model)
        if not frozen:
            raise ValueError(f"{type(model).__name__}: no embeddings were found to freeze.")
        names = {n for n, _ in model.named_parameters() if not n.startswith(tuple(f + "." for f in frozen))}
        return _set(model, policy, names)
    elif policy == "head":
        prefixes = [f"{name}." for name in head_modules(model, head)]
    elif last:
        stack, blocks = layers(model)
        k = int(last.group(1))
        if not 1 <= k <= len(blocks):
            raise ValueError(f"freeze={policy!r}: {type(model).__name__} has {len(blocks)} layers.")
        prefixes = [f"{name}." for name in head_modules(model, head)]
        prefixes += [f"{stack}.{i}." for i in range(len(blocks) - k, len(blocks))]
        prefixes += _between(model, stack)
    else:
        raise ValueError(f"freeze={policy!r} is not one of {POLICIES}.")
    return _set(model, policy, {n for n, _ in model.named_parameters() if n.startswith(tuple(prefixes))})


def report(model: nn.Module, policy: str) -> PolicyReport:
    """Counts what moves in a model as it stands (after an adapter was attached, say)."""
    moving = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    return PolicyReport(policy, frozenset(moving), sum(moving.values()), sum(p.numel() for p in model.parameters()))


def _between(model: nn.Module, stack: str) -> list[str]:
    """Backbone parts after the layers (pooler, final norm): they move with the last layers.

    Relative positions stand there too in some models, but serve all layers: from an embedding on, nothing moves.
    """
    frozen = set(embeddings(model))
    parent, _, last = stack.rpartition(".")
    out: list[str] = []
    while True:
        names = [n for n, _ in (model.get_submodule(parent) if parent else model).named_children()]
        if last in names and parent:
            after = [f"{parent}.{n}" for n in names[names.index(last) + 1 :]]
            out += [f"{n}." for n in takewhile(lambda n: n not in frozen, after)]
        if "." not in parent:
            return out
        parent, _, last = parent.rpartition(".")


def _set(model: nn.Module, policy: str, names: set[str]) -> PolicyReport:
    names = names | set(getattr(model, "fresh_weights", ()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return report(model, policy)
