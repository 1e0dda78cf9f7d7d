"""Features of the final layer: a hook on the input of the classifier, found without a table of architectures.

The final layer is the `nn.Linear` whose output tensor *is* `outputs.logits` in one probe forward. Decoder heads
(`score`) run over all tokens and select afterwards; there it is the linear whose rows contain the logits, and the
features are taken at the same token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from .module_mode import module_mode


@dataclass(frozen=True)
class Head:
    """The final linear layer of a model.

    Args:
        name: full name of the final linear; empty for an encoder without a head.
        in_features: width of the features.
        pooled_after: the linear sees every token and one token's logits are selected afterwards (decoder heads).
        idle: names of parameters that run without a say in the logits, such as CLIP's norm of a pooled output that
            its classifier does not read. Training cannot change them, and DDP waits for their gradients in vain.
        uncalled: names of modules whose weights count although they are not called, as the linears inside
            `nn.MultiheadAttention` and some of Mamba's: an adapter put around them would be passed by.
    """

    name: str
    in_features: int
    pooled_after: bool = False
    idle: frozenset[str] = frozenset()
    uncalled: frozenset[str] = frozenset()


def find_head(model: nn.Module, batch: dict[str, Any]) -> Head:
    """Head of a model: the final linear, found by one forward in eval mode that leaves random state and modes alone.

    Args:
        model: a model with a classification head, PEFT-wrapped or not.
        batch: model inputs, one row or more.

    Raises:
        ValueError: no linear produces the logits, or the head does not reproduce them from its input.

    Example:
        >>> find_head(model, batch).name
        'classifier'
    """
    linear_calls: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    called_modules: set[nn.Module] = set()

    def keep(module: nn.Module, args: Any, output: Any, name: str) -> None:
        called_modules.add(module)
        if isinstance(module, nn.Linear):
            linear_calls[name] = (args[0], output)

    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    with watched_forward(model, keep):
        logits = model(**inputs).logits
        idle, uncalled = idle_and_uncalled(model, logits, called_modules)

    for name, (x, out) in linear_calls.items():
        if out is logits and _reproduces(model, name, x, out):
            return Head(name, x.shape[-1], idle=idle, uncalled=uncalled)
    for name, (x, out) in linear_calls.items():
        if out.ndim == 3 and logits.ndim == 2 and out.shape[-1] == logits.shape[-1]:
            token = scored_token(model, inputs, out.shape[1])
            scored = out[torch.arange(len(out), device=out.device), token]
            if torch.equal(scored, logits) and _reproduces(model, name, x, out):
                return Head(name, x.shape[-1], pooled_after=True, idle=idle, uncalled=uncalled)
    raise ValueError(
        f"{type(model).__name__} has no linear layer whose output is its logits, so there is no feature to align. "
        "Use a model with a linear classification head."
    )


def find_encoder_output(model: nn.Module, batch: dict[str, Any]) -> Head:
    """What stands in place of a head where an encoder has none: an empty name, the width of its hidden states, and the
    parameters that have no say in them, such as a pooler's.

    Args:
        model: an encoder (`AutoModel`), PEFT-wrapped or not.
        batch: model inputs, one row or more.

    Raises:
        ValueError: its first output is not one vector for each token.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
        >>> head = find_encoder_output(BertModel(BertConfig(num_hidden_layers=1, **sizes)), batch)
        >>> head.name, head.in_features, sorted(head.idle)
        ('', 8, ['pooler.dense.bias', 'pooler.dense.weight'])
    """
    called_modules: set[nn.Module] = set()

    def keep(module: nn.Module, args: Any, output: Any, name: str) -> None:
        called_modules.add(module)

    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    with watched_forward(model, keep):
        hidden = model(**inputs)[0]
        idle, uncalled = idle_and_uncalled(model, hidden, called_modules)
    if hidden.ndim != 3 or hidden.shape[:2] != inputs["input_ids"].shape:
        raise ValueError(
            f"{type(model).__name__} gives an output of shape {tuple(hidden.shape)} for "
            f"{tuple(inputs['input_ids'].shape)} tokens, and an encoder of text gives a vector for each. Name one."
        )
    return Head("", hidden.shape[-1], idle=idle, uncalled=uncalled)


@contextmanager
def watched_forward(model: nn.Module, keep: Callable[..., None]) -> Iterator[None]:
    """One forward inside a `with` block that every module tells of, in evaluation mode and with a whole graph.

    Random state, modes and what requires a gradient are as before afterwards.

    Args:
        model: which runs inside the block.
        keep: called as `keep(module, args, output, name=name)` after each module.
    """
    hooks = [m.register_forward_hook(partial(keep, name=name)) for name, m in model.named_modules()]
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        # The graph says who has a say in the output.
        with module_mode(model), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in frozen:
            parameter.requires_grad_(False)


def idle_and_uncalled(
    model: nn.Module, logits: torch.Tensor, called_modules: set[nn.Module]
) -> tuple[frozenset[str], frozenset[str]]:
    """`Head.idle` and `Head.uncalled`, by what the graph of the logits leads to and which modules ran.

    A module that did not run and has no say may do so on another batch, as an expert that no token was sent to.
    """
    if logits.grad_fn is None:
        return frozenset(), frozenset()
    reached = reached_tensors(logits)
    read_modules = {
        module.out_proj for module in called_modules if isinstance(module, nn.MultiheadAttention)
    }  # read, not called
    idle, uncalled = set(), set()
    for name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in reached and module not in called_modules:
                uncalled.add(name)
            elif id(parameter) not in reached and module in called_modules | read_modules and parameter.requires_grad:
                idle.add(f"{name}.{parameter_name}" if name else parameter_name)
    return frozenset(idle), frozenset(uncalled)


def reached_tensors(output: torch.Tensor) -> set[int]:
    """Ids of the tensors that require gradients and have a part in an output, by its graph."""
    reached: set[int] = set()
    nodes, unvisited = {output.grad_fn}, [output.grad_fn]
    while unvisited:
        node: Any = unvisited.pop()
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        next_nodes = {following for following, _ in node.next_functions if following is not None} - nodes
        nodes |= next_nodes
        unvisited += next_nodes
    return reached


def _reproduces(model: nn.Module, name: str, x: torch.Tensor, out: torch.Tensor) -> bool:
    """Whether the logits are still what the linear made of its input (a model may change them in place)."""
    with torch.no_grad():
        return torch.allclose(model.get_submodule(name)(x), out, rtol=1e-3, atol=1e-5)


def scored_token(model: nn.Module, inputs: dict[str, Any], length: int) -> torch.Tensor:
    """(rows,) position whose logits a decoder's classification head selects: the last that is not padding."""
    config: Any = model.config
    pad = getattr(config, "pad_token_id", None)
    ids = inputs.get("input_ids")
    if pad is None or ids is None:
        rows = len(ids) if ids is not None else len(next(iter(inputs.values())))
        return torch.full((rows,), length - 1, device=next(model.parameters()).device)
    positions = torch.arange(length, device=ids.device)
    return (positions * (ids != pad)).argmax(-1)


class FeatureHook:
    """Hook that keeps the input of the final linear at each forward.

    Example:
        >>> hook = FeatureHook(model, find_head(model, batch))
        >>> logits = model(**batch).logits
        >>> hook.take(batch).shape  # (rows, width), or (rows, tokens, width) in tagging
        torch.Size([2, 32])
    """

    def __init__(self, model: nn.Module, head: Head):
        self.model, self.head = model, head
        self._features: torch.Tensor | None = None
        self._hook = model.get_submodule(head.name).register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self._features = args[0]

    def take(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Features of the last forward, which ran on `inputs`. The hook forgets them."""
        x, self._features = self._features, None
        if x is None:
            raise RuntimeError(f"{self.head.name} did not run in the last forward.")
        if self.head.pooled_after:
            x = x[torch.arange(len(x), device=x.device), scored_token(self.model, inputs, x.shape[1])]
        return x

    def __getstate__(self) -> dict[str, Any]:
        """State without the last forward's features: a copy of the model copies its hooks."""
        return {**self.__dict__, "_features": None}

    def remove(self) -> None:
        self._hook.remove()
