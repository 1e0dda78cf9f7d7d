"""Frozen layers at the start of a model: which they are, what they give, and a forward that begins above them.

A layer counts as frozen if no parameter that trains has a part in what it gives: the graph of one forward says so, not
a table of architectures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .content_identity import hash_of, model_settings
from .feature_hook import reached_tensors
from .model_structure import layer_stack
from .module_mode import module_mode


class NoFrozenLayers(ValueError):
    """Error of a model whose first layers are not frozen, or whose outputs cannot be stored; the message says why."""


class _Reached(Exception):
    """Signal that the last frozen layer has run."""


@dataclass(frozen=True)
class FrozenLayers:
    """Frozen layers at the start of a model.

    Args:
        stack: full name of the list of layers.
        count: how many of them are frozen, from the first on; 1 or more.
        total: how many there are.
        tuple_lengths: by frozen layer, the length of the tuple that it gives, whose other entries are `None`; 0 where
            it gives its hidden states alone.
        parameters: names of the parameters that have a part in the last one's hidden states.
        modules: names of the modules that run before the first layer that trains.

    Example:
        >>> for part in (model.bert.embeddings, model.bert.encoder.layer[:4]):
        ...     _ = part.requires_grad_(False)
        >>> frozen = find_frozen_layers(model, batch)
        >>> frozen.count, frozen.total
        (4, 6)
        >>> states = frozen.states(model, batch)  # (rows, tokens, width)
        >>> with frozen.replaced(model, states):
        ...     logits = model(**batch).logits  # the frozen layers do not run
    """

    stack: str
    count: int
    total: int
    tuple_lengths: tuple[int, ...]
    parameters: tuple[str, ...]
    modules: tuple[str, ...]

    def states(self, model: nn.Module, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Hidden states that the last frozen layer gives, (rows, positions, width) or as the model lays them out.

        Nothing above that layer runs. Mode and precision are the caller's.
        """
        kept: list[torch.Tensor] = []

        def stop(_: nn.Module, args: Any, output: Any) -> None:
            kept.append(_hidden_states(output, self.stack))
            raise _Reached

        handle = self._layers(model)[self.count - 1].register_forward_hook(stop)
        try:
            model(**inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        return kept[0]

    @contextmanager
    def replaced(self, model: nn.Module, states: torch.Tensor) -> Iterator[None]:
        """Forwards inside a `with` block in which the last frozen layer gives `states`, and those below do nothing.

        What stands before the layers still runs: masks and positions are made of it.

        Args:
            model: plain or PEFT-wrapped.
            states: of the rows that the model runs on.
        """
        layers = self._layers(model)
        former = [layer.__dict__.get("forward") for layer in layers]
        for number, (layer, length) in enumerate(zip(layers, self.tuple_lengths, strict=True)):
            layer.forward = _Stand(states if number == self.count - 1 else None, length)
        try:
            yield
        finally:
            for layer, own_forward in zip(layers, former, strict=True):
                if own_forward is None:
                    del layer.forward
                else:
                    layer.forward = own_forward

    def identity(self, model: nn.Module) -> dict[str, str]:
        """Hash of all that decides what the frozen layers give: weights, buffers, settings and structure."""
        state = hashlib.blake2b(digest_size=16)
        buffers = {f"{name}.{key}": b for name, m in self._modules(model) for key, b in m.named_buffers(recurse=False)}
        parameters = {name: p for name, p in model.named_parameters() if name in set(self.parameters)}
        for name, tensor in [*parameters.items(), *buffers.items()]:
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        leaves = {name: repr(m) for name, m in self._modules(model) if not any(True for _ in m.children())}
        config: Any = getattr(model, "config", None)
        facts = {
            "class": type(model).__qualname__,
            "settings": model_settings(model),
            "attention": str(getattr(config, "_attn_implementation", None)),
            "modules": {name: type(m).__qualname__ for name, m in self._modules(model)},
            "leaves": leaves,
        }
        return {"weights": state.hexdigest(), "structure": hash_of(facts)}

    def random_modules(self, model: nn.Module) -> list[str]:
        """Names of modules below that give something else each time, or for other batches, as they stand: dropout and
        batch norm in training mode."""
        kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
        return [
            name
            for name, module in self._modules(model)
            if module.training and isinstance(module, kinds) and getattr(module, "p", 1) > 0
        ]

    def _modules(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        return [(name, model.get_submodule(name)) for name in self.modules]

    def _layers(self, model: nn.Module) -> list[nn.Module]:
        stack: Any = model.get_submodule(self.stack)
        return list(stack)[: self.count]


def find_frozen_layers(model: nn.Module, batch: Mapping[str, Any]) -> FrozenLayers:
    """Frozen layers of a model, by one forward in evaluation mode; modes and random state are left alone.

    Args:
        model: plain or PEFT-wrapped; whatever will train requires gradients.
        batch: model inputs.

    Raises:
        NoFrozenLayers: the first layer is not frozen, there are no layers, or they hand on more than hidden states.
    """
    try:
        stack_name, stack = layer_stack(model)
    except ValueError as error:
        raise NoFrozenLayers(str(error).rstrip(".")) from error
    names = {module: name for name, module in model.named_modules()}
    called: dict[str, None] = {}
    outputs: list[Any] = []
    called_by_layer: list[int] = []

    def note(module: nn.Module, args: Any) -> None:
        called[names[module]] = None

    def keep(_: nn.Module, args: Any, output: Any) -> None:
        outputs.append(output)
        called_by_layer.append(len(called))

    hooks = [module.register_forward_pre_hook(note) for module in names if module is not model]
    hooks += [layer.register_forward_hook(keep) for layer in stack]
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    with module_mode(model), _random_state_kept(device):
        try:
            with torch.enable_grad():
                model(**inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if len(outputs) != len(stack):
            raise NoFrozenLayers(f"{type(model).__name__} does not run each of its layers once")
        trainable = [_reached_names(model, _hidden_states(output, stack_name)) for output in outputs]
        count = next((number for number, reached in enumerate(trainable) if reached), len(stack))
        if not count:
            raise NoFrozenLayers(f"{trainable[0][0]} trains, and the first layer depends on it")
        lengths = tuple(len(output) if isinstance(output, tuple) else 0 for output in outputs[:count])
        modules = tuple(called)[: called_by_layer[count - 1]]
        layers = FrozenLayers(stack_name, count, len(stack), lengths, (), modules)
        return FrozenLayers(stack_name, count, len(stack), lengths, _parameters_of(layers, model, inputs), modules)


class _Stand:
    """Stand-in for the forward of a frozen layer: it gives `states`, or its own input."""

    def __init__(self, states: torch.Tensor | None, length: int):
        self.states, self.length = states, length

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hidden = self.states
        if hidden is None:
            hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *[None] * (self.length - 1)) if self.length else hidden


def _hidden_states(output: Any, stack: str) -> torch.Tensor:
    """Hidden states among what a layer gives, which must be all that it gives."""
    first, *others = output if isinstance(output, tuple) and output else (output,)
    if not isinstance(first, torch.Tensor) or not first.is_floating_point() or any(x is not None for x in others):
        raise NoFrozenLayers(f"the layers of {stack} hand on more than hidden states")
    return first


def _parameters_of(layers: FrozenLayers, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the parameters that have a part in the hidden states, and of those that cannot be asked."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            reached = _reached_names(model, layers.states(model, inputs))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return (*reached, *(name for name, p in model.named_parameters() if not p.is_floating_point()))


def _reached_names(model: nn.Module, output: torch.Tensor) -> list[str]:
    if output.grad_fn is None:
        return []
    reached = reached_tensors(output)
    return [name for name, parameter in model.named_parameters() if id(parameter) in reached]


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
