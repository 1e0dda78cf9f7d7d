"""Running statistics of batch norms: frozen, averaged over processes, or estimated on the target (AdaBN)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .module_mode import module_mode

# Both domains in one forward, each in one of its own, the running statistics as they are, or either by chance.
BatchNorm = Literal["joint", "separate", "frozen", "stochastic"]


def check_adabn(adabn: bool, fsdp: Any) -> None:
    """Check that AdaBN can run: a `ValueError` where the model is in shards.

    Args:
        adabn, fsdp: settings of the run.
    """
    if adabn and fsdp:
        raise ValueError("adabn=True does not work under FSDP, which shards the model: run it under DDP.")


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Batch norms that keep running statistics, by full name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def freeze_batch_norms(model: nn.Module, everywhere: bool = False) -> None:
    """Batch norms in eval mode, where running statistics are used and do not change.

    Call it after `model.train()`, which undoes it.

    Args:
        model: in training mode.
        everywhere: all of them; otherwise those whose own parameters are frozen, whose part of the model must not
            drift. Under an adapter these are all of the base model's, whose statistics an adapter does not save.
    """
    for module in batch_norms(model).values():
        if everywhere or has_frozen_parameters(module):
            module.eval()


def has_frozen_parameters(module: nn.Module) -> bool:
    """Whether a batch norm has parameters of its own and none of them trains."""
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(p.requires_grad for p in parameters)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Unchanged running statistics inside a `with` block. Batch norms use a batch's statistics as in any training."""
    recording = [m for m in batch_norms(model).values() if m.training and m.track_running_stats]
    for module in recording:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in recording:
            module.track_running_stats = True


@contextmanager
def batch_statistics_without_dropout(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside a `with` block, but for batch norms that train: these use the batch's statistics, and
    their running ones stay as they are."""
    training = [norm for norm in batch_norms(model).values() if norm.training]
    with module_mode(model):
        for norm in training:
            norm.train()
        with running_statistics_kept(model):
            yield


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Mean of the running statistics over all processes, each of which has seen its own rows only."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for module in batch_norms(model).values():
        for buffer in (module.running_mean, module.running_var):
            assert buffer is not None
            dist.all_reduce(buffer)
            buffer.div_(dist.get_world_size())


@torch.no_grad()
def adapt_batch_norm(model: Any, dataloader: Iterable[Mapping[str, Any]]) -> int:
    """AdaBN: running statistics of the target in place of the source's, estimated on unlabelled rows.

    Everything but batch norm runs in eval mode, without gradients; each batch is normalised by its own statistics, as
    in training. Mean and variance are those of all rows of all processes (cumulative, every row counts the same),
    so they do not depend on how batches are shared out. Modes and random state are left as they were.

    Args:
        model: changed in place.
        dataloader: batches of model inputs; columns `labels`, `domain` and `num_source`, if any, are not read. In a
            distributed run, each process brings its share.

    Returns:
        The rows seen, of all processes.

    Raises:
        ValueError: the model has no batch norm with running statistics, or there are no rows, or a channel was seen
            only once, so that it has no variance.

    Paper: Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", 2016 (arXiv:1603.04779).

    Example:
        >>> target_batches = [{"pixel_values": torch.rand(8, 3, 32, 32)} for _ in range(2)]  # a DataLoader, say
        >>> adapt_batch_norm(image_model, target_batches)
        16
    """
    norms = batch_norms(model)
    if not norms:
        raise ValueError(f"{type(model).__name__} has no batch norm with running statistics, so AdaBN has no effect.")
    moments = {name: _Moments(module) for name, module in norms.items()}
    hooks = [m.register_forward_pre_hook(partial(_add_input, moments[name])) for name, m in norms.items()]
    device = next(model.parameters()).device
    rows = 0
    try:
        with module_mode(model), torch.random.fork_rng(devices=[]):
            for module in norms.values():
                module.train()
            with running_statistics_kept(model):
                for batch in dataloader:
                    inputs = {k: v for k, v in batch.items() if k not in ("labels", "domain", "num_source")}
                    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
                    rows += next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
                    model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    total = torch.tensor(float(rows), device=device)
    _sum_over_processes(total)
    if not total:
        raise ValueError("AdaBN was given no target rows to estimate statistics on.")
    for name, moment in moments.items():
        moment.write(name)
    return int(total)


class _Moments:
    """Mean and sum of squared deviations of a batch norm's input, merged batch by batch (Chan et al. 1979)."""

    def __init__(self, module: _BatchNorm):
        assert module.running_mean is not None
        self.module = module
        self.count = torch.zeros((), device=module.running_mean.device)
        self.mean = torch.zeros_like(module.running_mean, dtype=torch.float)
        self.squares = torch.zeros_like(self.mean)

    def add(self, x: torch.Tensor) -> None:
        """Another batch of inputs, (rows, channels, …)."""
        flat = x.detach().float().transpose(0, 1).flatten(1)
        count = flat.shape[1]
        mean = flat.mean(1)
        self._merge(torch.full_like(self.count, count), mean, (flat - mean.unsqueeze(1)).square().sum(1))

    def _merge(self, count: torch.Tensor, mean: torch.Tensor, squares: torch.Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        self.mean += delta * count / total
        self.squares += squares + delta.square() * self.count * count / total
        self.count = total

    def write(self, name: str) -> None:
        """The estimate, written to the running statistics once all processes have agreed."""
        total, mean = self.count.clone(), self.mean * self.count
        _sum_over_processes(total)
        _sum_over_processes(mean)
        mean /= total.clamp_min(1)
        squares = self.squares + self.count * (self.mean - mean).square()
        _sum_over_processes(squares)
        if not total:  # a layer that the model does not run
            return
        if total < 2:
            raise ValueError(
                f"AdaBN: {name} saw one value a channel, which has no variance; give it more target rows."
            )
        self.module.running_mean.copy_(mean)  # type: ignore[union-attr]
        self.module.running_var.copy_(squares / (total - 1))  # type: ignore[union-attr]


def _add_input(moments: _Moments, _: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    moments.add(args[0])


def _sum_over_processes(x: torch.Tensor) -> None:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(x)
