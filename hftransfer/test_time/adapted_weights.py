"""Weights that adapt at test time: chosen by structure, kept in single precision, and set back to their start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.adapters import active_adapter_names, is_peft
from .stream_settings import Parameters

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, _BatchNorm)


def find_parameters(model: nn.Module, kind: Parameters) -> dict[str, nn.Parameter]:
    """Parameters that adapt, by full name; shared ones once.

    Args:
        model: plain or PEFT-wrapped.
        kind: `"norms"`: of layers that are, or are called, a norm; `"lora"`: of the active adapter.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, nn.Parameter] = {}
    if kind == "lora":
        names = active_adapter_names(model) if is_peft(model) else []
        marks = tuple(f".{name}." for name in names)
        for name, parameter in model.named_parameters():
            if "lora_" in name and any(mark in f"{name}." for mark in marks):
                found[name] = parameter
        if not found:
            raise ValueError(
                f"parameters='lora': {type(model).__name__} has no active LoRA adapter. Wrap it with peft's "
                "`get_peft_model` first, or leave parameters at 'norms'."
            )
        return found
    for module_name, module in model.named_modules():
        if isinstance(module, NORMS) or "norm" in type(module).__name__.lower():
            for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
                if parameter.ndim == 1 and not any(parameter is other for other in found.values()):
                    found[name] = parameter
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no normalisation layer with weights to adapt. Adapt a LoRA adapter instead: "
            "parameters='lora'."
        )
    return found


class AdaptedWeights:
    """Weights that adapt, with a copy of their start.

    They are changed in single precision: in half precision a step would be lost to rounding.

    Args:
        parameters: of the model, by name.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]):
        self.parameters = parameters
        self.start = {name: p.detach().clone() for name, p in parameters.items()}
        self.values = {name: x.float().clone() for name, x in self.start.items()}
        self.first = {name: x.float() for name, x in self.start.items()}
        self.norm = _norm(self.first.values())

    @torch.no_grad()
    def write(self) -> None:
        """The values, written to the model."""
        for name, parameter in self.parameters.items():
            parameter.data.copy_(self.values[name])

    @torch.no_grad()
    def reset(self) -> None:
        """The start, bit for bit."""
        for name, parameter in self.parameters.items():
            self.values[name].copy_(self.first[name])
            parameter.data.copy_(self.start[name])

    @torch.no_grad()
    def keep_near(self, largest_drift: float) -> None:
        """Values at most `largest_drift` from the start, as a share of the start's norm."""
        drift = self.drift()
        if drift > largest_drift:
            for name, value in self.values.items():
                value.copy_(self.first[name] + (value - self.first[name]) * (largest_drift / drift))

    def drift(self) -> float:
        """Distance from the start, as a share of the start's norm."""
        return _norm([value - self.first[name] for name, value in self.values.items()]) / max(self.norm, 1e-12)

    @contextmanager
    def as_at_start(self) -> Iterator[None]:
        """The start weights inside a `with` block."""
        current = {name: p.data for name, p in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data = self.start[name]
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = current[name]

    @contextmanager
    def moved(self, shifts: dict[str, torch.Tensor]) -> Iterator[None]:
        """Weights moved by shifts inside a `with` block."""
        try:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(self.values[name] + shifts[name])
            yield
        finally:
            self.write()


@contextmanager
def only_these_train(model: nn.Module, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Gradients for these parameters alone inside a `with` block; each flag is as it was afterwards."""
    former = [(p, p.requires_grad) for p in model.parameters()]
    adapted = {id(p) for p in parameters.values()}
    try:
        for parameter, _ in former:
            parameter.requires_grad_(id(parameter) in adapted)
        yield
    finally:
        for parameter, flag in former:
            parameter.requires_grad_(flag)


def _norm(tensors: Any) -> float:
    return float(torch.stack([x.square().sum() for x in tensors]).sum().sqrt())
