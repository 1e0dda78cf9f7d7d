"""Trainable and frozen parameters: `requires_grad`, set from `trainable` and `freeze`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .adapters import active_adapter_names, is_peft
from .feature_hook import Head
from .parameter_blocks import num_layers, split_into_blocks
from .parameter_sets import (
    ParameterSet,
    describe_choice,
    is_default_choice,
    parameters_of,
    parse_freeze,
    parse_trainable,
)

logger = logging.getLogger(__name__)
FEW, SOME = 1, 10  # labelled rows for a million parameters in the layers, see `choose_by_rows`


@dataclass(frozen=True)
class TrainableReport:
    """Report of what trains of a model: the choice in short, names of the parameters, the counts, and notes for the
    reader."""

    choice: str
    names: frozenset[str]
    num_trainable: int
    num_total: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = 100 * self.num_trainable / max(1, self.num_total)
        return f"{self.choice}: {self.num_trainable:,} of {self.num_total:,} parameters train ({share:.1f} %)"


def set_trainable(
    model: nn.Module, head: Head, trainable: Any = "all", freeze: Any = None, labelled_rows: int | None = None
) -> TrainableReport:
    """Trainable parameters of a model, set by `requires_grad`: what `trainable` names, without what `freeze` names.

    Args:
        model: the plain model (an adapter is attached afterwards and does its own freezing).
        head: from `find_head`.
        trainable: `all` — whatever the model's owner has not frozen; `head` — the head (a linear probe); `last_2` —
            the head, what stands between it and the layers, and the last two layers; `norms` — normalisation layers
            and the head; `biases` — biases and the head (BitFit, Ben Zaken et al. 2022); `block:encoder.layer.3` —
            that module (surgical fine-tuning, Lee et al. 2023), by its full name, the end of it, or a layer's number;
            `pattern:*.attention.*` and `regex:…` — the parameters that match, or that a matching module holds;
            `auto` — `choose_by_rows` decides. In a list, whatever one of them names.
        freeze: `embeddings`; `classifier` — the linear layer whose output is the logits, and nothing else of the
            head; `first_2` — the embeddings and the first two layers; `block:…`, `pattern:…` and
            `regex:…` as above. In a list, whatever one of them names. `None` freezes nothing.
        labelled_rows: for `auto`.

    Weights that the checkpoint lacked and `load_model` drew (a pooler, say) belong to the new head: they always train.
    A tensor that is shared by a part that trains and one that does not stays as it is.

    Raises:
        ValueError: an unknown value, a layer, module or pattern that the model lacks, or nothing is left to train.
    """
    chosen, frozen = parse_trainable(trainable), parse_freeze(freeze)
    if is_default_choice(trainable, freeze):
        return report_trainable(model, "all")
    label, notes = " + ".join(map(str, chosen)), []
    if chosen[0].kind == "auto":
        by_rows, reason = choose_by_rows(model, labelled_rows)
        chosen, label, notes = (by_rows,), f"auto: {by_rows}", [reason]
    if chosen[0].kind == "all":
        check_something_trains(model)
    blocks, final_layer = split_into_blocks(model, head), "" if head is None else head.name
    candidates = set().union(*(parameters_of(model, item, blocks) for item in chosen))
    trainable_names = candidates.difference(*(parameters_of(model, item, blocks, final_layer) for item in frozen))
    if not trainable_names:
        settings = (
            f"trainable={trainable!r} and freeze={freeze!r} leave" if frozen else f"trainable={trainable!r} leaves"
        )
        raise ValueError(
            f"{settings} nothing to train. Take what is to train out of freeze, or name more in trainable."
        )
    fresh_weights = {name for name, _ in model.named_parameters() if name in getattr(model, "fresh_weights", ())}
    if fresh_weights - trainable_names:
        notes.append(
            f"{_module_names(fresh_weights - trainable_names)}: new weights, which the checkpoint lacked, always "
            "train."
        )
    trainable_names |= fresh_weights
    tied = _tied_to_frozen(model, trainable_names)
    notes += [f"{name} and {other} are one tensor, which stays as it is." for name, other in tied.items()]
    trainable_names -= set(tied)
    if not trainable_names:
        raise ValueError(f"Nothing is left to train with {describe_choice(trainable, freeze)}. " + " ".join(notes))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name in trainable_names)
    of_head = {name for block in blocks if block.head for name in block.parameters}
    if of_head and not of_head & trainable_names and not any(item.kind == "classifier" for item in frozen):
        remedy = "freeze names it" if of_head & candidates else 'trainable=["head", …] trains it too'
        notes.append(f"The head stays as it is; {remedy}.")
    return report_trainable(model, " without ".join([label, *filter(None, [" + ".join(map(str, frozen))])]), notes)


def report_trainable(model: nn.Module, choice: str, notes: Iterable[str] = ()) -> TrainableReport:
    """Report of what trains of a model as it stands (after an adapter was attached, say)."""
    sizes = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    total = sum(p.numel() for p in model.parameters())
    return TrainableReport(choice, frozenset(sizes), sum(sizes.values()), total, tuple(notes))


def choose_by_rows(model: nn.Module, labelled_rows: int | None) -> tuple[ParameterSet, str]:
    """Choice of what trains by the number of labelled rows, and its reason: the rule behind `auto`.

    Rows are counted for each million parameters of the layers; embeddings are left out, since the size of a
    vocabulary says little of what can be overfitted. Fewer than 1: only the head trains. Fewer than 10: the head and
    the upper half of the layers. Else everything. A rule of thumb.

    Raises:
        ValueError: rows that cannot be counted, or a model without layers.
    """
    if labelled_rows is None:
        raise ValueError("trainable='auto' counts labelled rows, and a stream says of none: name what trains.")
    depth = num_layers(model)
    layer_parameters = {n for block in split_into_blocks(model) if 1 <= block.depth <= depth for n in block.parameters}
    millions = sum(p.numel() for n, p in model.named_parameters() if n in layer_parameters) / 1e6
    if not millions:
        raise ValueError(f"trainable='auto': {type(model).__name__} has no stack of layers; name what trains.")
    rows = labelled_rows / millions
    if rows < FEW:
        set_kind, argument, reason = "head", None, f"fewer than {FEW}, so only the head trains"
    elif rows < SOME:
        set_kind, argument = "last", (depth + 1) // 2
        reason = f"fewer than {SOME}, so the head and the upper half of the layers train"
    else:
        set_kind, argument, reason = "all", None, f"at least {SOME}, so everything trains"
    return ParameterSet("trainable", set_kind, argument), (
        f"{labelled_rows:,} labelled rows for {millions:.3g} million parameters in the layers are {rows:.3g} a "
        f"million: {reason}."
    )


def check_something_trains(model: nn.Module) -> None:
    """Check that a model has a parameter that trains.

    Raises:
        ValueError: it has none: a frozen adapter, or a model that was frozen as a whole.
    """
    if any(p.requires_grad for p in model.parameters()):
        return
    if is_peft(model):
        adapters = ", ".join(active_adapter_names(model))
        raise ValueError(
            f"Nothing of the model would train: its adapter ({adapters}) is frozen, as PEFT loads it for inference. "
            "Load it with `PeftModel.from_pretrained(base, folder, is_trainable=True)`, or pass the adapter's folder "
            "as `model`."
        )
    raise ValueError(
        f"Nothing of the model would train: every parameter of this {type(model).__name__} has requires_grad=False. "
        "Switch on what is to train (`model.requires_grad_(True)`), or name it in `trainable`."
    )


def freeze_idle(model: nn.Module, head: Head) -> int:
    """Frozen idle parameters: those without effect on the logits, for whose gradients DDP would wait.

    Returns:
        How many of them would have trained.
    """
    idle = [(n, p) for n, p in model.named_parameters() if n in head.idle and p.requires_grad]
    for _, parameter in idle:
        parameter.requires_grad_(False)
    if idle:
        logger.info(
            "%s: %d parameters have no say in the logits and are frozen (%s, …).",
            type(model).__name__,
            len(idle),
            idle[0][0],
        )
    return len(idle)


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The outermost modules that hold parameters of which none trains, their own and those of all modules inside.

    What does not train should not change in disguise either: in training, these run as in evaluation, without dropout
    and without updates of running statistics.
    """
    return _frozen_inside(model)[2]


def _frozen_inside(module: nn.Module) -> tuple[bool, bool, list[nn.Module]]:
    """Whether a module holds parameters, whether one of them trains, and the frozen modules in it."""
    parameters = [p for p in module._parameters.values() if p is not None]
    has_parameters, trains = bool(parameters), any(p.requires_grad for p in parameters)
    frozen: list[nn.Module] = []
    for child in module.children():
        child_has_parameters, child_trains, child_frozen = _frozen_inside(child)
        has_parameters, trains = has_parameters or child_has_parameters, trains or child_trains
        frozen += child_frozen
    return (True, False, [module]) if has_parameters and not trains else (has_parameters, trains, frozen)


def _tied_to_frozen(model: nn.Module, trainable: set[str]) -> dict[str, str]:
    """Names of trainable parameters that share a tensor with one that does not train, and its name."""
    by_tensor: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_tensor.setdefault(id(parameter), []).append(name)
    tied: dict[str, str] = {}
    for names in by_tensor.values():
        frozen = [name for name in names if name not in trainable]
        tied |= {name: frozen[0] for name in names if frozen and name in trainable}
    return tied


def _module_names(names: set[str]) -> str:
    """Names of the modules of parameters, a few of them."""
    modules = sorted({name.rpartition(".")[0] or name for name in names})
    return ", ".join(modules[:3]) + " …" * (len(modules) > 3)
