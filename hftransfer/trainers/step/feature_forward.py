"""Feature forward: logits of the model on a batch, with features, compared layers and attention from hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ...models.feature_hook import FeatureHook, Head
from ...models.layer_hook import HEAD, LayerHook
from ..batch_rows import BatchRows


@dataclass(frozen=True)
class ForwardOutputs:
    """Outputs of a forward: tensors with rows first.

    Args:
        logits: (rows, classes) or (rows, tokens, classes).
        features: by feature layer, `"head"` among them; (rows, d), or (rows, tokens, d) in tagging.
        layers: (rows, positions, channels) of the layers that are compared with a teacher's, by index in the stack.
        attention: (rows, heads, tokens, tokens) of the last layer, if it is compared.
    """

    logits: torch.Tensor
    features: dict[str, torch.Tensor]
    layers: dict[int, torch.Tensor]
    attention: torch.Tensor | None = None

    @staticmethod
    def cat(outputs: Sequence[ForwardOutputs]) -> ForwardOutputs:
        """Concatenation of the rows of several forwards."""
        first = outputs[0]
        return ForwardOutputs(
            torch.cat([o.logits for o in outputs]),
            {layer: torch.cat([o.features[layer] for o in outputs]) for layer in first.features},
            {index: torch.cat([o.layers[index] for o in outputs]) for index in first.layers},
            None if first.attention is None else torch.cat([o.attention for o in outputs if o.attention is not None]),
        )

    def map(
        self, change: Callable[[torch.Tensor], torch.Tensor], change_attention: Callable[[torch.Tensor], torch.Tensor]
    ) -> ForwardOutputs:
        """Outputs with every tensor changed, attention in its own way."""
        return ForwardOutputs(
            change(self.logits),
            {layer: change(x) for layer, x in self.features.items()},
            {index: change(x) for index, x in self.layers.items()},
            None if self.attention is None else change_attention(self.attention),
        )


class Forward(Protocol):
    """Link of the chain that `build_forward` makes; most call the next one inside.

    The model comes with every call: wrappers may replace it, and a copy of the joint model has another.
    """

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs: ...


class FeatureForward:
    """Forward of the model, with what its hooks keep.

    Args:
        model: plain or PEFT-wrapped; it is hooked.
        head: from `find_head`.
        feature_layers: `"head"`, `"mean"`, `"hidden:<layer>"`.
        compared_layers: indices of layers that are compared with a teacher's.
        attention: whether the last layer's attention is compared.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        feature_layers: Iterable[str] = (),
        compared_layers: Iterable[int] = (),
        attention: bool = False,
    ):
        self.attention = attention
        self.feature_hook = FeatureHook(model, head)
        self.feature_layer_hooks = {layer: LayerHook(model, layer) for layer in {*feature_layers} - {HEAD}}
        self.compared_layer_hooks = {i: LayerHook(model, f"hidden:{i}") for i in compared_layers}

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        out = model(**inputs, **({"output_attentions": True} if self.attention else {}))
        features, layers = self.take(inputs)
        return ForwardOutputs(out.logits, features, layers, out.attentions[-1] if self.attention else None)

    def take(self, inputs: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[int, torch.Tensor]]:
        """Features and compared layers of the last forward, which ran on `inputs`; the hooks let go of them."""
        head = self.feature_hook.take(inputs)
        features = {layer: hook.take(inputs, head.ndim == 2) for layer, hook in self.feature_layer_hooks.items()}
        return {HEAD: head, **features}, {i: hook.take_map(inputs) for i, hook in self.compared_layer_hooks.items()}
