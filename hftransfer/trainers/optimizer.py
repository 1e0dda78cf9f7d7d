"""How fast what moves moves: named parameter groups with rates of their own, and the schedule of all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from ..models.blocks import Block, bare
from ..models.parameter_sets import norm_parameters
from ..models.rates import Rates, slanted_triangular
from .host import Host
from .setup.learning_rates import ONE_RATE, rates_of
from .setup.optimizer_check import check_covers
from .setup.schedule import SLANTED
from .setup.unfreezing import Phases

Key = tuple[str, float, str]  # part, multiplier of the base rate, name


class Optimizing(Host):
    """Creates the optimizer and the schedule for a `Trainer` whose model is a `JointModel`."""

    blocks: list[Block]
    phases: Phases | None
    _rates: dict[str, float]
    passed_optimizer: str | None = None  # the class of one that the user passed

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """As in `Trainer`, but no norm decays: batch norms, and those of convolutional networks and discriminators,
        carry names that the stock rule does not know."""
        norms = norm_parameters(model)
        return [name for name in super().get_decay_parameter_names(model) if name not in norms]

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As in `Trainer`, with a named group for each part and rate: the head first, then the backbone, then the
        objectives' own parameters. All parameters that will ever move are in it, and wrappers see them move."""
        if self.phases is not None:
            self.phases.thaw(self.model)
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and hasattr(optimizer, "add_param_group"):
            _regroup(optimizer, self._keys(model if model is not None else self.model))
        elif not fresh:
            self._check_optimizer()
        return optimizer

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`; whoever made the optimizer, everything that moves is in it."""
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._check_optimizer()
        return prepared

    def _check_optimizer(self) -> None:
        """Raises a `ValueError` as `check_covers`, where parameters are still those that the model was made with."""
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        whole = any(word in str(getattr(self.args.optim, "value", self.args.optim)) for word in ONE_RATE)
        if self.optimizer is not None and not sharded and not whole:
            check_covers(self.optimizer, self.accelerator.unwrap_model(self.model, keep_torch_compile=False))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As in `Trainer`, which does not know `slanted_triangular`."""
        if self.lr_scheduler is not None or self.args.lr_scheduler_type != SLANTED:
            return super().create_scheduler(num_training_steps, optimizer)
        settings = self.args.lr_scheduler_kwargs or {}
        share = partial(slanted_triangular, total=num_training_steps, **settings)  # type: ignore[arg-type]
        given: Any = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = LambdaLR(given, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_learning_rate(self) -> float:
        """As in `Trainer`, which asks after a step and before the schedule moves on: the rates of that step are kept
        for the log."""
        rates: dict[str, float] = {}
        optimizer: Any = self.optimizer
        for group in optimizer.param_groups:
            part = group.get("part")
            if part is not None:
                moves = any(p.requires_grad for p in group["params"])
                rates[part] = max(rates.get(part, 0.0), float(group["lr"]) if moves else 0.0)
        self._rates = rates
        return super()._get_learning_rate()

    def logged_rates(self) -> dict[str, float]:
        """The rates of head and backbone, where the config sets them apart: the highest of each, 0 for one that
        stands still."""
        if self.phases is None and rates_of(self.args) == Rates():
            return {}
        return {f"{part}_learning_rate": r for part, r in self._rates.items() if part in ("head", "backbone")}

    def _keys(self, model: torch.nn.Module) -> dict[int, Key]:
        """Part, multiplier and group name of every parameter, by identity."""
        rates = rates_of(self.args)
        keys: dict[str, Key] = {}
        for block in self.blocks:
            part = "head" if block.head else "backbone"
            name = part if rates.layer_decay == 1 or block.head else f"backbone: {block.name}"
            keys |= {f"model.{bare(n)}": (part, rates.of(block), name) for n in block.parameters}
        objectives: Key = ("objectives", self.args.objective_lr_multiplier, "objectives")
        return {id(p): keys.get(bare(n), objectives) for n, p in model.named_parameters()}


def _regroup(optimizer: torch.optim.Optimizer, keys: dict[int, Key]) -> None:
    """Cuts the groups (one that decays, one that does not) by part and rate."""
    order = {part: i for i, part in enumerate(("head", "backbone", "objectives"))}
    found: dict[tuple[Key, int], dict[str, Any]] = {}
    for i, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            key = keys[id(p)]
            if (key, i) not in found:
                part, multiplier, name = key
                options = {k: v for k, v in group.items() if k != "params"}
                decays = "" if group.get("weight_decay") else ", no weight decay"
                options |= {"lr": group["lr"] * multiplier, "part": part, "name": f"{name}{decays}", "params": []}
                found[key, i] = options
            found[key, i]["params"].append(p)
    ordered = sorted(found.items(), key=lambda item: (order[item[0][0][0]], -item[0][0][1], item[0][1]))
    optimizer.param_groups.clear()
    for _, options in ordered:
        optimizer.add_param_group(options)
