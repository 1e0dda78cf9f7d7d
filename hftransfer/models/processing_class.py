"""Processing class of a run: a tokenizer or image processor checked against the data and the model, and resized."""

from __future__ import annotations

from typing import Any

import torch

from .remote_code import drop_remote_code
from .tokenizer_checks import check_tokenizer


def fit_processing_class(
    processing: Any, model: Any, modality: str, words: bool = False, image_size: int | None = None
) -> Any:
    """The processing class that a run uses and saves.

    Args:
        processing: a tokenizer, an image processor, or a processor that holds one.
        model: which it belongs to.
        modality: what the data is.
        words: inputs are pre-split words.
        image_size: height and width instead of the processor's own.

    Raises:
        TypeError: it is for other data.
        ValueError: a tokenizer that cannot pad, cannot tell words or has tokens that the model has not; a model of
            other than three channels.
    """
    processing = check_processing_class(processing, modality)
    if modality == "image":
        check_channels(getattr(model.config, "num_channels", 3))
        drop_remote_code(processing, f"This {type(processing).__name__}")
        return processing if image_size is None else resized_processor(processing, image_size)
    check_tokenizer(processing, model)
    drop_remote_code(processing, f"This {type(processing).__name__}")
    if words and not processing.is_fast:
        raise ValueError(
            f"{type(processing).__name__} is no fast tokenizer, and tagging needs one to know which sub-words make a "
            "word. Load it with `AutoTokenizer.from_pretrained(...)`."
        )
    return processing


def check_processing_class(processing: Any, modality: str) -> Any:
    """The tokenizer or image processor itself, of a processor that holds several.

    Args:
        processing: a tokenizer, an image processor, or a processor that holds one.
        modality: what the data is.

    Raises:
        TypeError: it is for other data.
    """
    is_image = modality == "image"
    processing = getattr(processing, "image_processor" if is_image else "tokenizer", processing)
    reads_images = "pixel_values" in getattr(processing, "model_input_names", ())
    if not (reads_images if is_image else hasattr(processing, "pad_token_id")):
        data, needed = ("images", "image processor") if is_image else ("text", "tokenizer")
        raise TypeError(
            f"processing_class is a {type(processing).__name__}, and the data is {data}: pass the {needed} that "
            "belongs to the model."
        )
    return processing


def check_channels(channels: int) -> None:
    """Check that a model takes RGB images. Raises a `ValueError`."""
    if channels != 3:
        raise ValueError(
            f"num_channels={channels}, but images come as RGB here and in transformers' pipeline: use a model of 3."
        )


def resized_processor(processor: Any, image_size: int) -> Any:
    """A copy of an image processor that makes squares of `image_size` pixels, without cropping."""
    square = {"height": image_size, "width": image_size}
    settings = processor.to_dict() | {"do_resize": True, "size": square}
    if settings.get("do_center_crop"):
        settings |= {"do_center_crop": False, "crop_size": square}
    settings.pop("image_processor_type", None)
    return type(processor)(**settings)


def max_input_length(processing: Any, model: Any, modality: str, max_length: int | None) -> int | None:
    """Largest number of tokens of a text: the user's, or the least of what tokenizer, config and positions allow;
    `None` when nothing limits it, and for images.

    Raises:
        ValueError: more than the model has positions for.
    """
    if modality != "text":
        return None
    positions = _position_count(model)
    if max_length is not None:
        if positions is not None and max_length > positions:
            raise ValueError(
                f"max_length={max_length}, but {type(model).__name__} has only {positions} positions. Leave it out "
                "to cut "
                "at the model's own limit."
            )
        return max_length
    limits = [processing.model_max_length, getattr(model.config, "max_position_embeddings", None), positions]
    return min((n for n in limits if isinstance(n, int) and 0 < n < 1_000_000), default=None)


def _position_count(model: torch.nn.Module) -> int | None:
    """Number of tokens that the table of absolute positions reaches, if the model has one (RoBERTa counts from pad +
    1)."""
    for name, module in model.named_modules():
        if name.endswith(("position_embeddings", "wpe")) and isinstance(module, torch.nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None
