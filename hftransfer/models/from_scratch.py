"""Models from scratch: a config in, random weights and a processing class that fits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from ..messages import nearest, shown
from .pretrained import head_class, label_settings, missing_head_error
from .processing_class import check_channels

EXAMPLE = '{"model_type": "resnet", "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}'


def processing_class_from_scratch(
    settings: Mapping[str, Any], modality: str, processing_class: Any, image_size: int | None
) -> Any:
    """Processing class of a model from scratch: the user's, or for images one that makes squares of `image_size`
    pixels with values in -1 … 1.

    Raises:
        ValueError: text without a tokenizer, images without a size.
    """
    if processing_class is not None:
        return processing_class
    if modality == "text":
        raise ValueError(
            "A text model from scratch has no tokenizer of its own: pass one as processing_class; in the recipe, "
            "--processor with the Hub id or folder of one."
        )
    image_size = image_size or settings.get("image_size")
    if image_size is None:
        raise ValueError("image_size is missing: a model from scratch says nothing of it. Set it, e.g. image_size=32.")
    processor = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    half = [0.5, 0.5, 0.5]
    return processor(size={"height": image_size, "width": image_size}, image_mean=half, image_std=half)


def model_from_scratch(
    settings: Mapping[str, Any],
    task: str,
    names: Sequence[str],
    modality: str = "text",
    processing_class: Any = None,
    image_size: int | None = None,
) -> PreTrainedModel:
    """A native transformers model with random weights.

    Args:
        settings: `model_type` and whatever else its config takes.
        task: one of `hftransfer.data.label_space.TASKS`.
        names: label names in the order of the logits.
        modality: `"text"` or `"image"`.
        processing_class: a tokenizer's size and padding go to the config, unless it says otherwise.
        image_size: goes to the config, if it has a place for it.

    Raises:
        ValueError: no `model_type`, or an unknown one; a key that its config does not have, or a value that it
            refuses; a kind of model that has no such head.
    """
    settings = dict(settings)
    model_type = settings.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING_NAMES:
        raise ValueError(
            f"model_config: model_type={shown(model_type)} is no kind of model that transformers has."
            f"{nearest(model_type, CONFIG_MAPPING_NAMES)} An example: {EXAMPLE}."
        )
    cls = CONFIG_MAPPING[model_type]
    config_keys = set(cls().to_dict()) | set(cls.attribute_map)
    labels = label_settings(task, names)
    for key in settings:
        if key in labels:
            raise ValueError(f"model_config: {key!r} follows from the data. Leave it out.")
        if key not in config_keys:
            raise ValueError(f"model_config: {cls.__name__} has no setting {key!r}.{nearest(key, config_keys)}")
    if modality == "image":
        check_channels(settings.get("num_channels", 3))
        if image_size is not None and "image_size" in config_keys:
            settings.setdefault("image_size", image_size)
    else:
        settings.setdefault("vocab_size", len(processing_class))
        settings.setdefault("pad_token_id", processing_class.pad_token_id)
    try:
        config = AutoConfig.for_model(model_type, **settings, **labels)
        return head_class(task, modality).from_config(config)
    except Exception as error:  # configs check themselves, each in its own way
        if isinstance(error, ValueError):
            plain = missing_head_error(error, f"model_config: {model_type!r}", task, modality)
            if plain is not error:
                raise plain from error
        reason = " ".join(str(error).split())
        raise ValueError(f"model_config: {model_type!r} cannot be built of these settings: {reason}") from error
