"""Finite weights: check of parameters, buffers and optimizer state for NaN and infinite values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def broken_tensors(module: nn.Module) -> list[str]:
    """Names of the parameters and saved buffers with a NaN or infinite value. Waits for the device once.

    Example:
        >>> broken_tensors(nn.Linear(2, 2))
        []
    """
    checked = {name: tensor for name, tensor in _tensors(module).items() if _can_be_checked(tensor)}
    if not checked:
        return []
    device = next(iter(checked.values())).device
    flags = torch.stack([tensor.isfinite().all().to(device) for tensor in checked.values()]).tolist()
    return [name for name, is_finite in zip(checked, flags, strict=True) if not is_finite]


def is_finite_state(optimizer: Any) -> bool:
    """Whether all numbers that an optimizer remembers are finite; moments that are not give weights that are not, or
    that never move again.

    Args:
        optimizer: of torch, or anything with its `state`.

    Example:
        >>> is_finite_state(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
        True
    """
    states = getattr(optimizer, "state", None) or {}
    state_tensors = [
        _local_part(value) for state in states.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    checked = [tensor for tensor in state_tensors if _can_be_checked(tensor)]
    if not checked:
        return True
    device = checked[-1].device
    return bool(torch.stack([tensor.isfinite().all().to(device) for tensor in checked]).all())


def buffer_flags(module: nn.Module) -> dict[str, torch.Tensor]:
    """Whether each saved buffer is finite, by name, as tensors of one truth value: nothing waits for the device."""
    parameters = {name for name, _ in module.named_parameters()}
    buffers = {name: tensor for name, tensor in _tensors(module).items() if name not in parameters}
    return {name: tensor.isfinite().all() for name, tensor in buffers.items() if _can_be_checked(tensor)}


def first_broken(module: nn.Module, finite_before: Mapping[str, torch.Tensor] | None) -> str | None:
    """First name of `broken_tensors` that was finite before training.

    Args:
        module: what is to be saved.
        finite_before: `buffer_flags` before training, as some models' masks hold infinite values; `None` for any.
    """
    parameters = {name for name, _ in module.named_parameters()}
    for name in broken_tensors(module):
        if name in parameters or (finite_before is not None and bool(finite_before.get(name, True))):
            return name.removeprefix("module.").removeprefix("model.")
    return None


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of `state_dict`, as far as this process holds them."""
    return {
        name: _local_part(tensor) for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)
    }


def _local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Shard of a tensor on this process."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def _can_be_checked(tensor: torch.Tensor) -> bool:
    """Whether `isfinite` can read a tensor: real numbers wider than a byte, on a device."""
    return tensor.is_floating_point() and tensor.element_size() > 1 and tensor.device.type != "meta"
