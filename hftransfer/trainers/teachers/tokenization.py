"""Teacher tokenization: as the model's or, in text, by a tokenizer of the teacher's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig

from ...data.encoder import Encoder
from ...data.text_encoder import TextEncoder
from ...models import pretrained
from ...models.processing_class import fit_processing_class, max_input_length
from ..config import AdaptationConfig
from .inputs_from_teachers import teacher_fit_inputs, teacher_inputs

logger = logging.getLogger(__name__)
TOKEN_BY_TOKEN = {"attention_pairs", "layer_pairs"}  # inputs that compare the model and a teacher


def encoders_of_teachers(args: AdaptationConfig, encoder: Encoder) -> dict[int, TextEncoder]:
    """Encoders of the teachers that have another vocabulary than the model, by the teacher's number.

    Args:
        args: the run's config.
        encoder: the model's.

    Raises:
        FileNotFoundError: a teacher that is not there.
        ValueError: another image processor; another tokenizer where an objective compares token by token.
    """
    specs = [spec for spec in args.objective_specs() if spec.weight]
    encoders: dict[int, TextEncoder] = {}
    for i, name in enumerate(args.teacher_names() if teacher_inputs(specs) | teacher_fit_inputs(specs) else ()):
        own_encoder = _own_encoder(name, encoder, args.max_length)
        if own_encoder is None:
            continue
        tagging = own_encoder.space.task == "token-classification"
        names = [
            s.name for s in specs if teacher_inputs([s]) & TOKEN_BY_TOKEN or (tagging and teacher_fit_inputs([s]))
        ]
        if names:
            raise ValueError(
                f"teacher {name!r} and the model read other tokens, as their tokenizers differ, and {names[0]} "
                "compares them token by token. Give a teacher and a model with the same tokenizer, or distil logits "
                "or features."
            )
        encoders[i] = own_encoder
    return encoders


def _own_encoder(name: str, encoder: Any, max_length: int | None) -> TextEncoder | None:
    """Encoder with a teacher's own tokenizer; `None` if it reads what the model reads."""
    config = pretrained.load_quietly(AutoConfig, name, trust_remote_code=False)
    processing, modality, label_space = encoder.processing_class, encoder.modality, encoder.space
    is_tagging = label_space.task == "token-classification"
    try:
        teacher_processing = pretrained.load_processing(name, None, modality, is_tagging)
    except (FileNotFoundError, ValueError):
        logger.warning("teacher %s does not say how it reads inputs; it is taken to read the model's.", name)
        return None
    if modality != "text":
        keys = ("size", "crop_size", "image_mean", "image_std", "rescale_factor", "do_normalize")
        if any(
            _plain(getattr(teacher_processing, key, None)) != _plain(getattr(processing, key, None)) for key in keys
        ):
            raise ValueError(
                f"teacher {name!r} reads other inputs than the model: their image processors differ, and a batch of "
                "images is made once. Give a teacher and a model with the same image processor."
            )
        return None
    if teacher_processing.get_vocab() == processing.get_vocab():
        return None
    with torch.device("meta"):  # its shapes alone: the weights are loaded later
        shape = pretrained.head_class(label_space.task, modality).from_config(config)
    teacher_processing = fit_processing_class(teacher_processing, shape, modality, is_tagging)
    teacher_limit = max_input_length(teacher_processing, shape, modality, None)
    limits = [n for n in (teacher_limit, max_length) if n is not None]
    return TextEncoder(teacher_processing, label_space, encoder.columns, min(limits, default=None))


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [round(float(x), 6) for x in value]
    return dict(value) if isinstance(value, Mapping) else value
