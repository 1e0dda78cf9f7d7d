"""Kinds of pre-training, masked words and masked images: which one a run is, and what it is measured by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModel, TrainingArguments

from ..data.encoder import MODALITY_NAMES, InputColumns, find_modality
from ..data.image_encoder import IMAGE
from ..data.label_space import column_names
from ..data.text_encoder import TextColumns
from ..models.pretrained import load_quietly
from ..reporting.pretraining_card import IMAGE_CARD, SENTENCE_CARD, TEXT_CARD, CardWords
from .pretraining_config import PretrainingConfig

# Settings of `PretrainingConfig` that are for images, and that are for both; all others of its own are for texts.
IMAGE_SETTINGS = ("image_mask_share", "image_mask_unit", "image_column", "image_size", "augment", "augment_flip")
SHARED_SETTINGS = (
    *("trainable", "freeze", "layer_decay", "head_lr_multiplier", "backbone_lr_multiplier"),
    *("held_out", "balance_domains", "merge_adapter", "overwrite_output_dir"),
)
LARGEST_LOSS = 700.0  # of which the exponential is a number


@dataclass(frozen=True)
class PretrainingKind:
    """Kind of pre-training, in what differs once rows and model are prepared.

    Attributes:
        modality: of the rows.
        inputs: what they are, in the plural.
        score: name of the number by which the model is measured on held-out rows.
        measures: what that number is, as a sentence begins with it.
        read: that number, from the mean loss at what was masked.
        digits: of it, behind the point.
        worse: what it means that it rose, and what to do.
        shown: settings that the model card names.
        card: its words.
    """

    modality: str
    inputs: str
    score: str
    measures: str
    read: Callable[[float], float]
    digits: int
    worse: str
    shown: tuple[str, ...]
    card: CardWords


def perplexity(loss: float) -> float:
    """Perplexity: the exponential of a mean loss; a loss that is not finite as it is."""
    return math.exp(min(loss, LARGEST_LOSS)) if math.isfinite(loss) else loss


_SHOWN = (
    *("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "warmup_steps", "seed"),
)
TEXTS = PretrainingKind(
    modality="text",
    inputs="texts",
    score="perplexity",
    measures="Perplexity at masked words",
    read=perplexity,
    digits=2,
    worse="the model knows the held-out texts less well than the one it started from. Lower the learning rate, or "
    "give more text.",
    shown=(
        *("mask_probability", "mask_hidden_share", "mask_random_share", "target_word_bias"),
        *("sentence_anchor", "sentence_contrast", "sentence_denoising", "new_words", "balance_domains"),
        *_SHOWN,
    ),
    card=TEXT_CARD,
)
SENTENCES = replace(
    TEXTS,
    score="loss",
    measures="Weighted sum of the losses",
    read=float,
    digits=4,
    shown=("sentence_anchor", "sentence_contrast", "sentence_denoising", "new_words", "balance_domains", *_SHOWN),
    card=SENTENCE_CARD,
)
IMAGES = PretrainingKind(
    modality="image",
    inputs="images",
    score="reconstruction_loss",
    measures="Reconstruction loss at masked patches",
    read=float,
    digits=4,
    worse="the model paints the held-out images less well than the one it started from. Lower the learning rate, or "
    "give more images.",
    shown=("image_mask_share", "image_mask_unit", "augment", "augment_flip", *_SHOWN),
    card=IMAGE_CARD,
)
KINDS = {kind.modality: kind for kind in (TEXTS, IMAGES)}


def find_kind(
    domains: Mapping[str, Any], args: PretrainingConfig, model: Any, model_kwargs: Mapping[str, Any] | None = None
) -> PretrainingKind:
    """Kind of a run, by the columns of its rows; by the model where rows have both texts and images.

    Args:
        domains: by their names in messages.
        args: the run's settings, which may name columns.
        model: a loaded one, or a name.
        model_kwargs: for `from_pretrained`.

    Raises:
        ValueError: domains of two kinds, images in a column of another name, or a setting of the other kind.
        ImportError: images without Pillow.
    """
    text = TextColumns(args.text_column or "text", args.text_pair_column, args.tokens_column)
    columns = InputColumns(text, args.image_column, bool(args.text_column or args.text_pair_column))
    kind = KINDS[find_modality(domains, columns)]
    has_texts = all({text.text, text.tokens} & set(column_names(rows)) for rows in domains.values())
    is_either = kind is IMAGES and has_texts and args.image_column == IMAGE  # and no column was named
    if is_either and not _reads_images(model, dict(model_kwargs or {})):
        kind = TEXTS
    _refuse_settings_of_others(kind, args, next(iter(domains)))
    return kind


def _reads_images(model: Any, options: dict[str, Any]) -> bool:
    """Whether a model's main input is pixels; the weights of one that is named are not loaded."""
    family: Any = type(model)
    if not isinstance(model, nn.Module):
        if not isinstance(model, (str, Path)):
            return False  # whoever loads it says so
        trusted = bool(options.get("trust_remote_code"))
        config = load_quietly(AutoConfig, str(model), options.get("revision"), trust_remote_code=trusted)
        family = AutoModel._model_mapping.get(type(config), None)
    return getattr(family, "main_input_name", None) == "pixel_values"


def _refuse_settings_of_others(kind: PretrainingKind, args: PretrainingConfig, title: str) -> None:
    """Check against settings of another kind than the run's; raises `ValueError`."""
    inherited = {f.name for f in fields(TrainingArguments)}
    for f in fields(args):
        if f.name in inherited or f.name in SHARED_SETTINGS or f.name.startswith("_"):
            continue
        other = IMAGES if f.name in IMAGE_SETTINGS else TEXTS
        default = f.default if f.default is not MISSING else None
        if other is not kind and getattr(args, f.name) != default:
            raise ValueError(
                f"{f.name}={getattr(args, f.name)!r} is for {MODALITY_NAMES[other.modality]}, and {title} holds "
                f"{MODALITY_NAMES[kind.modality]}. Leave it out, or say with `image_column` or `text_column` which "
                "column is meant."
            )
    metric = (args.metric_for_best_model or "loss").removeprefix("eval_")
    if metric not in ("loss", kind.score):
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r}: pre-training on {kind.inputs} measures loss and "
            f"{kind.score} on held-out rows. Leave it out, or name one of them."
        )
