"""Features of an inner layer: a hook on one layer of the stack, and means over its tokens or over cells of a map."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .model_structure import layer_stack
from .module_mode import module_mode

HEAD, MEAN = "head", "mean"
SIDE = 4  # of the grid that a feature map is averaged over
MOST_OTHERS = 5  # positions before an image's patches: a class token and up to four registers


class LayerHook:
    """Hook that keeps the output of one layer at each forward.

    Args:
        model: plain or PEFT-wrapped, with a stack of layers.
        feature_layer: `"mean"` for the last layer, `"hidden:i"` for layer i of the stack, from its end if negative.

    Raises:
        ValueError: the stack has no such layer.

    Example:
        >>> hook = LayerHook(model, "hidden:-3")
        >>> logits = model(**batch).logits
        >>> hook.take(batch, pool=True).shape  # (rows, width)
        torch.Size([2, 32])
    """

    def __init__(self, model: nn.Module, feature_layer: str):
        name, stack = layer_stack(model)
        index = -1 if feature_layer == MEAN else int(feature_layer.split(":")[1])
        if not -len(stack) <= index < len(stack):
            raise ValueError(f"features={feature_layer!r}: the stack {name!r} has {len(stack)} layers only.")
        self._output: torch.Tensor | None = None
        self._width = output_width(stack[index])
        self._hook = stack[index].register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, args: Any, output: Any) -> None:
        self._output = output[0] if isinstance(output, tuple) else output

    def take(self, inputs: dict[str, Any], pool: bool) -> torch.Tensor:
        """Output of the hooked layer in the last forward, which ran on `inputs`. The hook forgets it.

        (rows, tokens, width), or with `pool` (rows, width): the mean over the tokens that are not padding, or over
        the positions of a feature map, whichever way round it is.
        """
        x = self._taken()
        return self._pooled(x, inputs) if pool else x

    def _taken(self) -> torch.Tensor:
        x, self._output = self._output, None
        if x is None:
            raise RuntimeError("The hooked layer did not run in the last forward.")
        return x

    def _pooled(self, x: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        if x.ndim == 4:
            return x.mean((1, 2) if self._channels_last(x) else (2, 3))
        mask = inputs.get("attention_mask")
        if mask is None or mask.shape != x.shape[:2]:
            return x.mean(1)
        weight = mask.unsqueeze(-1).to(x.dtype)
        return (x * weight).sum(1) / weight.sum(1).clamp_min(1)

    def take_map(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Output of the hooked layer without a mean: (rows, positions, width), whether positions are tokens or patches
        of an image."""
        x = self.take(inputs, pool=False)
        if x.ndim == 4:
            return x.flatten(1, 2) if self._channels_last(x) else x.flatten(2).transpose(1, 2)
        return x

    def take_grid(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Output of the hooked layer with a coarse sense of place: (rows, 16 · width) means over the cells of a 4 x 4
        grid, of a feature map or of an image's patches. Of a text, (rows, width): the mean over its tokens.

        An early layer says what is where, and a mean over the whole image forgets it.
        """
        x = self._taken()
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2) if self._channels_last(x) else x
        else:
            side = math.isqrt(x.shape[1]) if "pixel_values" in inputs else 0
            if not side or x.shape[1] - side**2 > MOST_OTHERS:
                return self._pooled(x, inputs)
            x = x[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
        return nn.functional.adaptive_avg_pool2d(x.float(), SIDE).flatten(1)

    def _channels_last(self, x: torch.Tensor) -> bool:
        return x.shape[-1] == self._width != x.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        """State without the last forward's output: a copy of the model copies its hooks."""
        return {**self.__dict__, "_output": None}

    def remove(self) -> None:
        self._hook.remove()


def output_width(layer: nn.Module) -> int | None:
    """Number of channels of a layer's output, as the last of its modules that has a width says."""
    width = None
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            width = module.normalized_shape[-1]
        for name in ("out_features", "out_channels", "num_features", "num_channels"):
            value = getattr(module, name, None)
            width = value if isinstance(value, int) else width
    return width


def layer_widths(model: nn.Module, feature_layers: Iterable[str], batch: dict[str, Any]) -> dict[str, int]:
    """Width of the features of each layer but the head, by one forward in eval mode.

    Raises:
        ValueError: as `LayerHook`.
    """
    hooks = {layer: LayerHook(model, layer) for layer in feature_layers if layer != HEAD}
    if not hooks:
        return {}
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    try:
        with module_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(**inputs)
        return {layer: hook.take(inputs, pool=True).shape[-1] for layer, hook in hooks.items()}
    finally:
        for hook in hooks.values():
            hook.remove()
