"""Gradual unfreezing, and a head that is trained before everything else (LP-FT)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import Trainer

from ...messages import nearest
from ...models.parameter_blocks import Block, layer_name, num_layers, unwrapped_name
from ...models.parameter_sets import describe_choice
from ...settings import read_setting

UNITS = ("epoch", "step")


@dataclass(frozen=True)
class Unfreeze:
    """Pace of gradual unfreezing: one more layer every `every` epochs or steps (optimizer updates)."""

    by: str
    every: float


def parse_unfreeze(value: Any) -> Unfreeze | None:
    """The setting `unfreeze` as read: `{"by": "epoch", "every": 1}`, a map, JSON or YAML; `None` for nothing.

    Raises:
        ValueError: it is neither, or names anything else.
    """
    if not value:
        return None
    settings = read_setting("unfreeze", value)
    if not isinstance(settings, dict):
        raise ValueError(f'unfreeze must be a map such as {{"by": "epoch", "every": 1}}, not {value!r}.')
    for name in settings:
        if name not in ("by", "every"):
            raise ValueError(f"unfreeze has no {name!r}; it has by and every.{nearest(name, ('by', 'every'))}")
    by, every = settings.get("by", "epoch"), settings.get("every", 1)
    if by not in UNITS:
        raise ValueError(f"unfreeze: by={by!r} must be 'epoch' or 'step'.{nearest(by, UNITS)}")
    counts_steps = by == "step"
    if (
        isinstance(every, bool)
        or not isinstance(every, int if counts_steps else (int, float))
        or not 0 < every < math.inf
    ):
        raise ValueError(f"unfreeze: every={every!r} must be a {'whole ' * counts_steps}number above 0.")
    return Unfreeze(by, every)


def check_phases(args: Any) -> None:
    """Check of `unfreeze` and `lp_epochs` against each other and the epochs; raises `ValueError`."""
    spec = parse_unfreeze(args.unfreeze)
    if spec is not None and args.lp_epochs:
        raise ValueError("unfreeze starts with the head alone, so lp_epochs has no place beside it: set one of them.")
    if args.lp_epochs and args.max_steps <= 0 and args.lp_epochs >= args.num_train_epochs:
        raise ValueError(
            f"lp_epochs={args.lp_epochs:g} leaves none of the {args.num_train_epochs:g} epochs for the rest of the "
            "model. For a head alone use trainable='head'."
        )


class Phases:
    """Growing sets of parameters, each of which trains from some update on.

    What trains is a function of the number of updates alone, so there is nothing to save, and a resumed run goes on
    where it was. Parameters are switched by `requires_grad`: those that do not train yet get no gradient, so they are
    no part of the gradient's norm, their moments in the optimizer start when they do, and nothing is computed for
    them. A rate of 0 would do none of this. When optimizer, DDP or FSDP2 first see the model, all of it trains.

    Args:
        added: names of the parameters that each stage adds, by the blocks' names.
        by: `"epoch"` or `"step"`.
        every: epochs or updates from one stage to the next.
    """

    def __init__(self, added: Sequence[tuple[str, frozenset[str]]], by: str, every: float):
        self.added, self.by, self.every = tuple(added), by, every
        self.stage: int | None = None

    def updates(self, updates_per_epoch: int | None) -> int:
        """Length of a stage in updates.

        Raises:
            ValueError: epochs that cannot be counted.
        """
        if self.by == "step":
            return int(self.every)
        if updates_per_epoch is None:
            raise ValueError("unfreeze and lp_epochs count epochs, which this run has not: unfreeze by step.")
        return max(1, round(self.every * updates_per_epoch))

    def stage_at(self, update: int, updates_per_epoch: int | None = None) -> int:
        """Number of the stage in which an update, counted from 0, is made."""
        return min(update // self.updates(updates_per_epoch), len(self.added) - 1)

    def trainable(self, stage: int) -> frozenset[str]:
        """Names of the parameters that train in a stage."""
        return _union(names for _, names in self.added[: stage + 1])

    def set_stage(self, joint_model: nn.Module, stage: int) -> None:
        """Stage of the user's model in a `JointModel`, set; parameters that never train are left alone."""
        if stage == self.stage:
            return
        self.stage = stage
        everything, trainable = self.trainable(len(self.added)), self.trainable(stage)
        for name, parameter in joint_model.model.named_parameters():  # type: ignore[union-attr]
            if (plain := unwrapped_name(name)) in everything:
                parameter.requires_grad_(plain in trainable)

    def thaw(self, joint_model: nn.Module) -> None:
        """All stages at once: everything that will ever train requires gradients."""
        self.set_stage(joint_model, len(self.added) - 1)
        self.stage = None

    def starts(self, block: Block) -> str:
        """Start of a block's training, in words; nothing for one that never trains."""
        for stage, (_, names) in enumerate(self.added):
            if names & {unwrapped_name(name) for name in block.parameters}:
                return "start" if not stage else f"{self.by} {stage * self.every:g}"
        return ""

    def __str__(self) -> str:
        first_name, *later_names = (name for name, _ in self.added)
        pace = f"every {self.every:g} {self.by}{'s' * (self.every != 1)}" if len(later_names) > 1 else ""
        pace = pace or f"after {self.every:g} {self.by}{'s' * (self.every != 1)}"
        return f"{first_name} first, then {pace} {', '.join(later_names)}"


def build_phases(
    args: Any, model: nn.Module, blocks: Sequence[Block], trainable: frozenset[str], counts_epochs: bool
) -> Phases | None:
    """Stages of unfreezing in a config; `None` without any.

    Args:
        args: a config.
        model: the user's, after `set_trainable`, plain or PEFT-wrapped.
        blocks: of the model, from `split_into_blocks`.
        trainable: names of the parameters that train by the end.
        counts_epochs: whether the training data have a length.

    Raises:
        ValueError: nothing of the head trains, or there are no layers to go through, or no epochs to count.
    """
    spec = parse_unfreeze(args.unfreeze)
    if spec is None and not args.lp_epochs:
        return None
    setting = "lp_epochs" if spec is None else "unfreeze"
    if not counts_epochs and (spec is None or spec.by == "epoch"):
        raise ValueError(f"{setting} counts epochs, and a stream has none: use unfreeze={{'by': 'step', 'every': …}}.")
    by_block = [(block, frozenset(map(unwrapped_name, trainable & set(block.parameters)))) for block in blocks]
    head_names = _union(names for block, names in by_block if block.head)
    if not head_names:
        raise ValueError(
            f"{setting} starts with the head, which {describe_choice(args.trainable, args.freeze)} keeps as it is: "
            "add 'head' to trainable, and leave it out of freeze."
        )
    stages = [("the head", head_names)]
    if spec is None:
        stages.append(("everything", frozenset(map(unwrapped_name, trainable)) - head_names))
    else:
        depth = num_layers(model)
        if depth < 2:
            raise ValueError(
                f"unfreeze: {type(model).__name__} has {depth or 'no'} layer{'s' * (depth != 1)} (ALBERT shares one "
                "among all), so there is nothing to go through. lp_epochs trains the head first, then everything."
            )
        for level in range(1, depth + 2):
            levels = (0, 1) if level == 1 else (level,)  # what stands between the layers and the head joins the last
            inside = [(block.name, names) for block, names in by_block if not block.head and block.depth in levels]
            name = "the rest" if level > depth else layer_name(model, depth - level)
            stages.append((name, _union(names for _, names in inside)))
    stages = [(name, names) for name, names in stages if names]
    if len(stages) < 2:
        raise ValueError(
            f"{setting}: nothing but the head trains with {describe_choice(args.trainable, args.freeze)}, so nothing "
            "can follow it."
        )
    return Phases(stages, "epoch" if spec is None else spec.by, args.lp_epochs if spec is None else spec.every)


def check_wrapping(trainer: Trainer) -> None:
    """Check that parameters can be switched while the run goes on; raises `ValueError`."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if trainer.is_deepspeed_enabled or (plugin is not None and getattr(plugin, "fsdp_version", 1) == 1):
        wrapper = "DeepSpeed" if trainer.is_deepspeed_enabled else "FSDP1"
        raise ValueError(
            f"unfreeze and lp_epochs switch parameters on during the run, which {wrapper} lays down at its start. Use "
            "FSDP2 or DDP."
        )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)
