"""Masked image models: a pretrained vision encoder with a decoder of pixels and a mask token, which may be new."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedImageModeling
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES as FAMILIES

from ..data.block_masking import mask_unit
from ..models.module_mode import module_mode
from ..models.pretrained import load_image_processor
from ..models.processing_class import fit_processing_class
from .masked_model_loading import MaskedModelClass, load_masked_model

logger = logging.getLogger(__name__)
SUFFIX = "ForMaskedImageModeling"


def _refuse(name: str, family: str) -> str:
    """Message on a model of a family that has no class for masked images."""
    known = ", ".join(sorted(cls.removesuffix(SUFFIX) for cls in FAMILIES.values()))
    why = "; a masked autoencoder has no class for image classification to start from" if family == "ViTMAE" else ""
    return (
        f"{name} is a {family} model, for which transformers has no masked image modelling{why}. Name a model of one "
        f"of {known} (with --model)."
    )


PAINTERS = MaskedModelClass(AutoModelForMaskedImageModeling, SUFFIX, "decoder for masked images", _refuse)


def load_masked_image_model(
    model: Any,
    processing_class: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> tuple[Any, Any]:
    """A masked image model and its image processor.

    A checkpoint without a decoder of pixels (a plain encoder, a classifier) gets a new one, and a new mask token;
    `fresh_weights` of the model names what was drawn anew. The decoder paints what the encoder's last grid covers.

    Args:
        model: Hub id or folder, or a loaded `AutoModelForMaskedImageModeling`.
        processing_class: the image processor, or the Hub id or folder of one; the checkpoint's own when absent.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        image_size: height and width that the processor is to make, instead of its own.

    Raises:
        FileNotFoundError: there is no such checkpoint, or it has no image processor.
        TypeError: `model` is neither a name nor a model, or the processor is none of images.
        ValueError: a family without masked image modelling, an adapter, weights that are not finite, or image, patch
            and decoder sizes that do not fit.
    """
    options = dict(model_kwargs or {})
    loaded, name = load_masked_model(PAINTERS, model, options)
    if processing_class is None and not name:
        raise ValueError(
            "processing_class is missing: a model that was not loaded from anywhere says of no image processor. Pass "
            "the one that belongs to it."
        )
    if processing_class is None or isinstance(processing_class, (str, Path)):
        trusted = bool(options.get("trust_remote_code"))
        revision = options.get("revision") if processing_class is None else None
        processing_class = load_image_processor(str(processing_class or name), revision, trusted)
    processor = fit_processing_class(processing_class, loaded, "image", image_size=image_size)
    side, _ = image_sides(loaded)
    painted = _painted_side(loaded, side)
    if painted != side:
        stride = int(loaded.config.encoder_stride)
        is_new = any(key.startswith("decoder.") for key in loaded.fresh_weights)
        if isinstance(model, nn.Module) or not is_new or "encoder_stride" in options or stride * side % painted:
            raise ValueError(
                f"encoder_stride={stride} of {name or type(loaded).__name__} paints {painted} x {painted} pixels, and "
                f"its images have {side} x {side}: its encoder_stride must be the pixels of a side that one place of "
                f"the last grid stands for, {stride * side / painted:g} here."
            )
        loaded, _ = load_masked_model(PAINTERS, model, options | {"encoder_stride": stride * side // painted})
    if loaded.fresh_weights and not isinstance(model, nn.Module):
        logger.warning(
            "%s has no decoder for masked images; what is new is trained from scratch: %s. The reconstruction loss "
            "before training is that of a random decoder.",
            name,
            ", ".join(loaded.fresh_weights),
        )
    return loaded, processor


def image_sides(model: Any) -> tuple[int, int]:
    """Side of a model's images and of its patches, in pixels.

    Raises:
        ValueError: they are no squares, or images are not cut into whole patches.
    """
    sides = []
    for setting in ("image_size", "patch_size"):
        value = getattr(model.config, setting)
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if len(set(values)) != 1:
            raise ValueError(
                f"{setting}={list(values)} of {type(model).__name__}: masked image modelling in transformers takes "
                "squares. Take a model of square images and patches."
            )
        sides.append(int(values[0]))
    mask_unit(*sides)
    return sides[0], sides[1]


def _painted_side(model: Any, side: int) -> int:
    """Side of the pictures that a model paints of images of its size, in pixels."""
    parameter = next(model.parameters())
    channels = int(getattr(model.config, "num_channels", 3))
    with module_mode(model), torch.no_grad():
        blank = torch.zeros(1, channels, side, side, device=parameter.device, dtype=parameter.dtype)
        return int(model(pixel_values=blank).reconstruction.shape[-1])
