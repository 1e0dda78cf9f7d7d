"""Image decoder of a masked image model: the layer that paints pixels, and the loss at masked patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .feature_hook import Head, idle_and_uncalled, watched_forward
from .masked_language_head import find_backbone


def find_decoder(model: Any, pixel_values: torch.Tensor, masked: torch.Tensor) -> Head:
    """Decoder of a masked image model: the last layer with weights behind the backbone, by one forward.

    Args:
        model: an `AutoModelForMaskedImageModeling`, PEFT-wrapped or not.
        pixel_values: (rows, channels, side, side), one row or more.
        masked: (rows, patches) whether each patch is; some are, so that the mask token has a say.

    Raises:
        ValueError: no layer with weights stands behind the backbone.

    Example:
        >>> from transformers import ViTConfig, ViTForMaskedImageModeling
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> painter = ViTForMaskedImageModeling(ViTConfig(image_size=8, patch_size=4, encoder_stride=4, **sizes))
        >>> find_decoder(painter, torch.zeros(1, 3, 8, 8), torch.tensor([[True, False, False, True]])).name
        'decoder.0'
    """
    backbone = find_backbone(model)
    inside = set() if backbone is None else set(backbone.modules())
    called: set[nn.Module] = set()
    layers: list[tuple[str, torch.Tensor]] = []

    def keep(module: nn.Module, _: Any, output: Any, name: str) -> None:
        called.add(module)
        weight = getattr(module, "weight", None)
        if module not in inside and isinstance(weight, torch.Tensor):
            layers.append((name, weight))

    parameter = next(model.parameters())
    with watched_forward(model, keep):
        inputs = {"pixel_values": pixel_values.to(parameter.dtype), "bool_masked_pos": masked}
        painted = model(**{k: v.to(parameter.device) for k, v in inputs.items()}).reconstruction
        idle, uncalled = idle_and_uncalled(model, painted, called)
    if backbone is None or not layers:
        raise ValueError(f"{type(model).__name__} has no layer behind its backbone that paints pixels.")
    name, weight = layers[-1]
    return Head(name, weight.shape[1], idle=idle, uncalled=uncalled)


def reconstruction_loss(pixels: torch.Tensor, painted: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    r"""Reconstruction loss of masked patches, summed over them: \(\sum_{i \in M} \frac1{|i|} \sum_{p \in i} |x_p -
    \hat x_p|\), where \(|i|\) counts a patch's pixels in all channels. Shapes: (rows, channels, side, side) twice,
    (rows, patches) -> ().

    Divided by the number of masked patches, it is the mean absolute error at masked pixels of SimMIM (Xie et al.,
    CVPR 2022), in the units of the image processor: one is a standard deviation where it normalises.

    Args:
        pixels: as the image processor gives them.
        painted: by the decoder.
        masked: whether each patch was, row by row of the image.

    Example:
        >>> masked = torch.tensor([[True, False, False, True]])
        >>> reconstruction_loss(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5), masked).item()
        1.0
    """
    rows, channels, height, width = pixels.shape
    side = round(masked.shape[1] ** 0.5)
    errors = (pixels.float() - painted.float()).abs()
    by_patch = errors.reshape(rows, channels, side, height // side, side, width // side).mean((1, 3, 5))
    return (by_patch.flatten(1) * masked).sum()
