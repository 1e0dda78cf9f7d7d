"""Dual encoder: two frozen encoders and their projections as a plain transformers model."""

from __future__ import annotations

import copy
import math
import os
from typing import Any

import torch
from transformers import VisionTextDualEncoderConfig, VisionTextDualEncoderModel

from ...models.adapters import is_peft, merged_copy
from ...models.module_mode import module_mode
from .projections import Projections

ALIKE = 1e-4  # by how much embeddings of length 1 may differ


def dual_encoder(image_encoder: Any, text_encoder: Any, projections: Projections) -> VisionTextDualEncoderModel:
    """`VisionTextDualEncoderModel` of two encoders and trained projections. It loads without hftransfer.

    It projects the encoders' own pooled outputs (`pooler_output`), without a bias. SigLIP's bias is not part of it: a
    constant added to all logits ranks nothing.

    Args:
        image_encoder, text_encoder: loaded models without a head; they are copied, in single precision, to the CPU.
        projections: from their `pooler_output`.
    """
    vision, text = _copy(image_encoder), _copy(text_encoder)
    for model, linear in ((vision, projections.visual), (text, projections.text)):
        model.config.hidden_size = linear.in_features  # MobileNets and ConvNeXts have no such setting, and it is read
        if os.path.exists(model.config._name_or_path):
            model.config._name_or_path = ""  # a saved config has those of its parts: no path of this machine
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision.config,
        text.config,
        projection_dim=projections.width,
        logit_scale_init_value=math.log(float(projections.scale().detach())),
    )
    model = VisionTextDualEncoderModel(config, vision_model=vision, text_model=text)
    with torch.no_grad():
        model.visual_projection.weight.copy_(projections.visual.weight)
        model.text_projection.weight.copy_(projections.text.weight)
        model.logit_scale.copy_(projections.scale().log())
    return model.eval()


def check_dual_encoder(
    model: VisionTextDualEncoderModel,
    batch: dict[str, torch.Tensor],
    image_embeddings: torch.Tensor,
    text_embeddings: torch.Tensor,
) -> None:
    """Check that a dual encoder's embeddings are those of the projections.

    Args:
        model: to be checked.
        batch: inputs of both encoders, on the CPU.
        image_embeddings, text_embeddings: expected, (n, width) of length 1.

    Raises:
        ValueError: they are not, or the model cannot run: its encoders do not fit a dual encoder.
    """
    try:
        with module_mode(model), torch.no_grad():
            outputs = model(**batch)
    except (RuntimeError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{_names(model)} cannot be the two sides of a VisionTextDualEncoderModel ({_line(error)}): it needs "
            "pooled outputs of shape (rows, width), which ViT, MobileNet, ConvNeXt and Swin give for images, and "
            "BERT, RoBERTa and MPNet with a pooler for text."
        ) from error
    for name, found, expected in (
        ("image", outputs.image_embeds, image_embeddings),
        ("text", outputs.text_embeds, text_embeddings),
    ):
        if found.shape != expected.shape or float((found - expected).abs().max()) > ALIKE:
            raise ValueError(
                f"{_names(model)} as a VisionTextDualEncoderModel give other {name} embeddings than the ones that the "
                "projections were trained for."
            )


def _copy(model: Any) -> Any:
    source = merged_copy(model) if is_peft(model) else copy.deepcopy(model)
    return source.to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)


def _names(model: VisionTextDualEncoderModel) -> str:
    return f"{type(model.vision_model).__name__} and {type(model.text_model).__name__}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
