"""Freezing policies: which parameters move."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..messages import nearest
from ..settings import read_setting
from .blocks import Block, layer_name, num_layers, split
from .feature_hook import Head
from .structure import embeddings

POLICIES = ", ".join(
    "none auto head last_<k> first_<k> embeddings norms biases block:<name> pattern:<glob> regex:<expression>".split()
)
BARE = ("none", "auto", "head", "embeddings", "norms", "biases")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
FEW, SOME = 1, 10  # labelled rows for a million parameters in the layers, see `choose`


@dataclass(frozen=True)
class Term:
    """One policy: its kind, and its number or name."""

    kind: str
    argument: Any = None

    def __str__(self) -> str:
        if self.argument is None:
            return self.kind
        return f"{self.kind}{'_' if self.kind in ('last', 'first') else ':'}{self.argument}"


@dataclass(frozen=True)
class PolicyReport:
    """What a policy did: names of the parameters that move, the counts, and what a reader should know."""

    policy: str
    trainable: frozenset[str]
    num_trainable: int
    num_total: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = 100 * self.num_trainable / max(1, self.num_total)
        return f"{self.policy}: {self.num_trainable:,} of {self.num_total:,} parameters move ({share:.1f} %)"


def parse_policy(value: Any) -> tuple[Term, ...]:
    """Reads a policy, or several whose parameters all move.

    Args:
        value: one of `POLICIES`; a map such as `{"last": 2}` or `{"block": ["layer.0", "layer.1"]}`; a list of those;
            or JSON or YAML of a map or a list.

    Raises:
        ValueError: it is none of these.
    """
    terms = tuple(_terms(value, value))
    kinds = [term.kind for term in terms]
    alone = next((kind for kind in ("auto", "none") if kind in kinds and len(kinds) > 1), None)
    if alone:
        raise ValueError(f"freeze={value!r}: {alone!r} stands alone, not in a list.")
    return terms


def apply_policy(model: nn.Module, policy: Any, head: Head, labelled_rows: int | None = None) -> PolicyReport:
    """Sets `requires_grad` on every parameter.

    Args:
        model: the plain model (an adapter is attached afterwards and does its own freezing).
        policy: see `parse_policy`. `none` — everything moves; `head` — only the head moves (linear probe); `last_2` —
            the head and the last two layers move; `first_2` — the embeddings and the first two layers are frozen;
            `embeddings` — the embeddings are frozen and the rest moves; `norms` — normalisation layers and the head
            move; `biases` — biases and the head move (BitFit, Ben Zaken et al. 2022); `block:encoder.layer.3` — that
            module moves and nothing else (surgical fine-tuning, Lee et al. 2023), by its full name, the end of it, or
            a layer's number; `pattern:*.attention.*` and `regex:` — the parameters that match, or that a matching
            module holds, move and nothing else; `auto` — `choose` decides. In a list, what any of them moves moves.
        head: from `find_head`.
        labelled_rows: for `auto`.

    Weights that the checkpoint lacked and `load_model` drew (a pooler, say) belong to the new head: they always move.
    A tensor that is shared by a part that moves and one that does not stays as it is.

    Raises:
        ValueError: an unknown policy, a layer, module or pattern that the model lacks, or nothing would move.
    """
    terms, label, notes = parse_policy(policy), "", []
    if terms[0].kind == "auto":
        chosen, reason = choose(model, labelled_rows)
        terms, label, notes = (chosen,), f"auto: {chosen}", [reason]
    blocks = split(model, head)
    moving: set[str] = set()
    for term in terms:
        moving |= _moving(model, term, blocks)
    fresh = {name for name, _ in model.named_parameters() if name in getattr(model, "fresh_weights", ())}
    if fresh - moving:
        notes.append(f"{_shown(fresh - moving)}: new weights, which the checkpoint lacked, always move.")
    moving |= fresh
    held = _tied_to_frozen(model, moving)
    notes += [f"{name} and {other} are one tensor, which stays as it is." for name, other in held.items()]
    moving -= set(held)
    if not moving:
        raise ValueError(f"freeze={policy!r} leaves nothing to train. " + " ".join(notes))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name in moving)
    if not any(block.head and moving & set(block.parameters) for block in blocks):
        notes.append('The head stays as it is; freeze=["head", …] moves it too.')
    return report(model, label or " + ".join(map(str, terms)), notes)


def report(model: nn.Module, policy: str, notes: Iterable[str] = ()) -> PolicyReport:
    """Counts what moves in a model as it stands (after an adapter was attached, say)."""
    moving = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    total = sum(p.numel() for p in model.parameters())
    return PolicyReport(policy, frozenset(moving), sum(moving.values()), total, tuple(notes))


def choose(model: nn.Module, labelled_rows: int | None) -> tuple[Term, str]:
    """The policy for a number of labelled rows, and why: the rule behind `auto`.

    Rows are counted for each million parameters of the layers; embeddings are left out, since the size of a
    vocabulary says little of what can be overfitted. Fewer than 1: only the head moves. Fewer than 10: the head and
    the upper half of the layers. Else everything. A rule of thumb.

    Raises:
        ValueError: rows that cannot be counted, or a model without layers.
    """
    if labelled_rows is None:
        raise ValueError("freeze='auto' counts labelled rows, and a stream says of none: name a policy.")
    depth = num_layers(model)
    inside = {n for block in split(model) if 1 <= block.depth <= depth for n in block.parameters}
    millions = sum(p.numel() for n, p in model.named_parameters() if n in inside) / 1e6
    if not millions:
        raise ValueError(f"freeze='auto': {type(model).__name__} has no stack of layers; name a policy.")
    rows = labelled_rows / millions
    if rows < FEW:
        chosen, why = Term("head"), f"fewer than {FEW}, so only the head moves"
    elif rows < SOME:
        upper = (depth + 1) // 2
        chosen, why = Term("last", upper), f"fewer than {SOME}, so the head and the upper half of the layers move"
    else:
        chosen, why = Term("none"), f"at least {SOME}, so everything moves"
    return chosen, (
        f"{labelled_rows:,} labelled rows for {millions:.3g} million parameters in the layers are {rows:.3g} a "
        f"million: {why}."
    )


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of normalisation layers, whoever wrote the layer: by type, or by a class that calls
    itself a norm and has no matrices."""
    return {
        f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        if _is_norm(module)
        for own, _ in module.named_parameters(recurse=False)
    }


def bias_parameters(names: Iterable[str]) -> set[str]:
    """Those names that are of biases (a table of relative positions is none)."""
    return {name for name in names if name.endswith("bias")}


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, NORMS):
        return True
    own = [p for p in module._parameters.values() if p is not None]
    return "norm" in type(module).__name__.lower() and all(p.ndim <= 1 for p in own)


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The outermost modules that hold parameters of which none moves, their own and those of all modules inside.

    What does not move should not do so in disguise either: in training, these run as in evaluation, without dropout
    and without updates of running statistics.
    """
    return _frozen(model)[2]


def _frozen(module: nn.Module) -> tuple[bool, bool, list[nn.Module]]:
    """Whether a module holds parameters, whether one of them moves, and the frozen modules in it."""
    own = [p for p in module._parameters.values() if p is not None]
    holds, moves = bool(own), any(p.requires_grad for p in own)
    found: list[nn.Module] = []
    for child in module.children():
        child_holds, child_moves, inside = _frozen(child)
        holds, moves = holds or child_holds, moves or child_moves
        found += inside
    return (True, False, [module]) if holds and not moves else (holds, moves, found)


# ---- reading


def _terms(value: Any, whole: Any) -> Iterable[Term]:
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        value = read_setting("freeze", value)
    if isinstance(value, (list, tuple)) and value:
        for item in value:
            yield from _terms(item, whole)
    elif isinstance(value, dict) and value:
        for kind, given in value.items():
            for argument in given if isinstance(given, list) else [given]:
                yield _term(str(kind), argument, whole)
    elif isinstance(value, str):
        found = re.fullmatch(r"(last|first)_(\d+)|(block|pattern|regex):(.+)", value.strip(), re.S)
        if found:
            yield _term(found[1] or found[3], int(found[2]) if found[1] else found[4].strip(), whole)
        elif value.strip() in BARE:
            yield Term(value.strip())
        else:
            raise _unknown(value)
    else:
        raise _unknown(whole)


def _term(kind: str, argument: Any, whole: Any) -> Term:
    if kind in ("last", "first"):
        if isinstance(argument, bool) or not isinstance(argument, int):
            raise ValueError(f"freeze={whole!r}: {kind} needs a number of layers, not {argument!r}.")
    elif kind not in ("block", "pattern", "regex"):
        raise _unknown(kind)
    elif isinstance(argument, bool) or not isinstance(argument, (str, int) if kind == "block" else str):
        raise ValueError(f"freeze={whole!r}: {kind} needs a name, not {argument!r}.")
    if kind == "regex":
        try:
            re.compile(argument)
        except re.error as error:
            raise ValueError(f"freeze={whole!r} is no regular expression: {error}.") from error
    return Term(kind, argument)


def _unknown(value: Any) -> ValueError:
    if value == "all":
        return ValueError("freeze='all' leaves nothing to train; freeze='head' trains the head alone.")
    return ValueError(f"freeze={value!r} is not one of {POLICIES}.{nearest(value, [*BARE, 'last_2', 'first_2'])}")


# ---- choosing


def _moving(model: nn.Module, term: Term, blocks: list[Block]) -> set[str]:
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    head = {name for block in blocks if block.head for name in block.parameters}
    kind, argument = term.kind, term.argument
    if kind == "none":
        return names
    if kind == "head":
        return head
    if kind in ("last", "first"):
        depth = num_layers(model)
        if not 1 <= argument <= depth:
            many = f"{depth} layer{'s' * (depth != 1)}"
            raise ValueError(f"freeze={str(term)!r}: {type(model).__name__} has {many}.")
        least = argument if kind == "last" else depth - argument
        return {name for block in blocks if block.depth <= least for name in block.parameters}
    if kind == "embeddings":
        frozen = embeddings(model)
        if not frozen:
            raise ValueError(f"{type(model).__name__}: no embeddings were found to freeze.")
        return {n for n in names if not n.startswith(tuple(f"{f}." for f in frozen))}
    if kind in ("norms", "biases"):
        found = norm_parameters(model) if kind == "norms" else bias_parameters(names)
        if not found - head:
            raise ValueError(f"freeze={kind!r}: {type(model).__name__} has no {kind} outside its head.")
        return found | head
    if kind == "block":
        return _block(model, argument, names)
    return _matching(term, blocks, names)


def _block(model: nn.Module, given: str | int, names: set[str]) -> set[str]:
    """Parameters of one module: by its full name, by the end of it if only one ends so, or by a layer's number."""
    if re.fullmatch(r"-?\d+", str(given)):
        index, depth = int(given), num_layers(model)
        if not -depth <= index < depth:
            raise ValueError(
                f"freeze='block:{given}': {type(model).__name__} has {depth} layers, 0 to {depth - 1} (or -1 for the "
                "last)."
            )
        given = layer_name(model, index)
    modules = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    known = [*modules, *sorted(names)]
    exact = [name for name in known if name == given]
    ends = exact or [name for name in known if name.endswith(f".{given}")]
    if not ends:
        short = [".".join(parts[i:]) for name in modules for parts in [name.split(".")] for i in range(len(parts))]
        raise ValueError(
            f"freeze='block:{given}': {type(model).__name__} has no such module.{nearest(given, short)} "
            "`print_policy(model)` lists its blocks."
        )
    if len(ends) > 1:
        raise ValueError(
            f"freeze='block:{given}' could be {', '.join(ends[:3])}{' …' * (len(ends) > 3)}. Say more of its name."
        )
    return {name for name in names if f"{name}.".startswith(f"{ends[0]}.")}


def _matching(term: Term, blocks: list[Block], names: set[str]) -> set[str]:
    """Parameters that match by their own name or by that of a module that holds them."""

    def matches(name: str) -> bool:
        if term.kind == "regex":
            return re.search(term.argument, name) is not None
        parts = name.split(".")
        return any(fnmatchcase(".".join(parts[:end]), term.argument) for end in range(1, len(parts) + 1))

    found = {name for name in names if matches(name)}
    if not found:
        word = term.argument.strip("*.^$")
        known = [*sorted(names), *(block.name for block in blocks), *(p for n in sorted(names) for p in n.split("."))]
        raise ValueError(
            f"freeze={str(term)!r} matches no parameter.{nearest(word, known)} `print_policy(model)` lists the blocks."
        )
    return found


def _tied_to_frozen(model: nn.Module, moving: set[str]) -> dict[str, str]:
    """Names of moving parameters that are the same tensor as one that does not move, and its name."""
    by_tensor: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_tensor.setdefault(id(parameter), []).append(name)
    held: dict[str, str] = {}
    for names in by_tensor.values():
        still = [name for name in names if name not in moving]
        held |= {name: still[0] for name in names if still and name in moving}
    return held


def _shown(names: set[str]) -> str:
    """Modules rather than parameters, a few of them."""
    modules = sorted({name.rpartition(".")[0] or name for name in names})
    return ", ".join(modules[:3]) + " …" * (len(modules) > 3)
