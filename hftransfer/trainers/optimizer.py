"""Optimizer of a run: named parameter groups with their own learning rates, and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..models.layerwise_rates import LayerwiseRates, slanted_triangular
from ..models.parameter_blocks import Block, unwrapped_name
from ..models.parameter_sets import norm_parameters
from .setup.learning_rate_check import ONE_RATE, rates_of
from .setup.optimizer_check import check_covers
from .setup.unfreezing import Phases
from .trainer_access import joint_model_of

if TYPE_CHECKING:
    from transformers import Trainer


class Group(NamedTuple):
    """Parameters of one rate: `part` is head, backbone or objectives; `multiplier` is of the base rate."""

    part: str
    multiplier: float
    name: str


class OptimizerBuilder:
    """Parameter groups, schedule and logged rates of a trainer whose model is a `JointModel`.

    Args:
        trainer: an `AdaptationTrainer`.
        blocks: of the model, from `split_into_blocks`.
        phases: what moves from when on, if not everything does all the time.
    """

    def __init__(self, trainer: Trainer, blocks: Sequence[Block], phases: Phases | None):
        self.trainer, self.blocks, self.phases = trainer, blocks, phases
        self._rates: dict[str, float] = {}  # of the last step, by part

    def create(self, model: torch.nn.Module | None, create: Callable[..., Optimizer]) -> Optimizer:
        """The optimizer, with a named group for each part and rate: head, then backbone, then objectives.

        All parameters that will ever train are in it, and wrappers see them as trainable.

        Args:
            model: as `Trainer.create_optimizer` takes it.
            create: how `Trainer` makes one.
        """
        joint = self._model if model is None else model
        if self.phases is not None:
            self.phases.thaw(self._model)
        is_passed = self.trainer.optimizer is not None
        optimizer = create(model)
        if is_passed:
            self.check()
        elif hasattr(optimizer, "add_param_group"):
            _regroup(optimizer, self._groups(joint))
        return optimizer

    def check(self) -> None:
        """Raises a `ValueError` as `check_covers`, where parameters are still those that the model was made with."""
        trainer = self.trainer
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        has_one_rate = any(name in str(getattr(trainer.args.optim, "value", trainer.args.optim)) for name in ONE_RATE)
        if trainer.optimizer is not None and not sharded and not has_one_rate:
            check_covers(trainer.optimizer, joint_model_of(trainer))

    def slanted_schedule(self, steps: int, optimizer: Optimizer | None) -> LambdaLR:
        """The schedule `slanted_triangular`, which transformers does not know."""
        settings: Any = self.trainer.args.lr_scheduler_kwargs or {}
        scheduled_optimizer: Any = self.trainer.optimizer if optimizer is None else optimizer
        return LambdaLR(scheduled_optimizer, partial(slanted_triangular, total=steps, **settings))

    def keep_rates(self) -> None:
        """Rates of the last step, kept for the log."""
        rates: dict[str, float] = {}
        optimizer: Any = self.trainer.optimizer
        for group in optimizer.param_groups:
            part = group.get("part")
            if part is not None:
                moves = any(p.requires_grad for p in group["params"])
                rates[part] = max(rates.get(part, 0.0), float(group["lr"]) if moves else 0.0)
        self._rates = rates

    def logged_rates(self) -> dict[str, float]:
        """Learning rates of head and backbone, if the config sets them apart: the highest of each, 0 if frozen."""
        if self.phases is None and rates_of(self.trainer.args) == LayerwiseRates():
            return {}
        return {f"{part}_learning_rate": r for part, r in self._rates.items() if part in ("head", "backbone")}

    @property
    def _model(self) -> Any:
        return self.trainer.model

    def _groups(self, model: torch.nn.Module) -> dict[int, Group]:
        """Group of every parameter, by its identity."""
        args: Any = self.trainer.args
        rates = rates_of(args)
        groups: dict[str, Group] = {}
        for block in self.blocks:
            part = "head" if block.head else "backbone"
            name = part if rates.layer_decay == 1 or block.head else f"backbone: {block.name}"
            groups |= {f"model.{unwrapped_name(n)}": Group(part, rates.of(block), name) for n in block.parameters}
        objectives = Group("objectives", args.objective_lr_multiplier, "objectives")
        return {id(p): groups.get(unwrapped_name(n), objectives) for n, p in model.named_parameters()}


def without_norms(names: Sequence[str], model: torch.nn.Module) -> list[str]:
    """Names of parameters with weight decay, without norms.

    Batch norms, and norms of convolutional networks and discriminators, have names that the stock rule does not know.
    """
    norms = norm_parameters(model)
    return [name for name in names if name not in norms]


def _regroup(optimizer: Optimizer, groups: Mapping[int, Group]) -> None:
    """Parameter groups of an optimizer, split by part and rate; before, they differ in weight decay alone."""
    order = {part: i for i, part in enumerate(("head", "backbone", "objectives"))}
    cut: dict[tuple[Group, int], dict[str, Any]] = {}
    for i, stock in enumerate(optimizer.param_groups):
        for p in stock["params"]:
            group = groups[id(p)]
            if (group, i) not in cut:
                options = {k: v for k, v in stock.items() if k != "params"}
                decays = "" if stock.get("weight_decay") else ", no weight decay"
                options |= {"lr": stock["lr"] * group.multiplier, "part": group.part, "params": []}
                options["name"] = f"{group.name}{decays}"
                cut[group, i] = options
            cut[group, i]["params"].append(p)
    ordered = sorted(cut.items(), key=lambda item: (order[item[0][0].part], -item[0][0].multiplier, item[0][1]))
    optimizer.param_groups.clear()
    for _, options in ordered:
        optimizer.add_param_group(options)
