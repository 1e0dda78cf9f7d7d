"""Images of a pre-training: rows, model and masking of masked image modelling, all checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from ..data.block_masking import BlockMasking, mask_unit
from ..data.image_encoder import ImageEncoder
from ..data.image_keys import image_keys
from ..data.label_space import LabelSpace, require_column
from ..models.adapters import is_peft, merge_obstacle
from ..models.content_identity import model_identity
from ..models.feature_hook import Head
from ..models.freezing import TrainableReport, report_trainable, set_trainable
from ..models.image_decoder import find_decoder
from .held_out_rows import hold_out_rows
from .image_collator import HeldOutImages, ImageMaskingCollator
from .image_pretraining_model import ImagePretrainingModel
from .masked_image_model import image_sides, load_masked_image_model
from .pretraining_config import PretrainingConfig
from .pretraining_kind import IMAGES
from .pretraining_run import PreparedPretraining
from .trained_part import check_adapter, checked_part, put_adapter
from .unlabelled_domains import domain_title, training_rows

NO_LABELS = LabelSpace("sequence-classification", ())


def prepare_images(
    model: Any,
    args: PretrainingConfig,
    domains: dict[str, Any],
    validation: Any = None,
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> PreparedPretraining:
    """Images, model and masking of a run, all checked.

    Args:
        model, processing_class, model_kwargs: as `load_masked_image_model` takes them.
        args: the run's settings.
        domains: from `unlabelled_domains`.
        validation: from `checked_validation`.
        peft_config: an adapter that is trained instead of the model.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model or settings.
    """
    measured = next(iter(domains))  # the target, where there is one
    loaded, processor = load_masked_image_model(model, processing_class, model_kwargs, args.image_size)
    encoder = ImageEncoder(
        processor, NO_LABELS, args.image_column, args.augment or "weak", args.augment_flip, args.seed
    )
    side, patch = image_sides(loaded)
    unit = mask_unit(side, patch, args.image_mask_unit)
    masking = BlockMasking(side // patch, unit // patch, args.image_mask_share)
    collator = ImageMaskingCollator(encoder, masking, args.seed)
    for name, rows in domains.items():
        require_column(rows, args.image_column, domain_title(name), "image_column")
    held_out_images = validation
    if validation is None and args.held_out:
        others = {domain_title(name): rows for name, rows in domains.items() if name != measured}
        keys = partial(image_keys, column=args.image_column)
        domains[measured], held_out_images = hold_out_rows(
            domains[measured], args.held_out, args.seed, keys, domain_title(measured), others
        )
    encoded = {name: encoder.encode(rows, domain_title(name), None) for name, rows in domains.items()}
    _check_size(encoder, encoded[measured], loaded, side)
    start = model_identity(loaded)
    trained, head, report = _trained(loaded, args, peft_config, masking)
    held_out: HeldOutImages | tuple[()] = ()
    if held_out_images is not None:
        rows = encoder.encode(held_out_images, f"held-out rows of {domain_title(measured)}", None)
        held_out = HeldOutImages(rows, collator, args.per_device_eval_batch_size)
    return PreparedPretraining(
        kind=IMAGES,
        joint=ImagePretrainingModel(trained),
        head=head,
        processing_class=processor,
        train=training_rows(encoded, args),
        held_out=held_out,
        held_out_rows=0 if held_out_images is None else len(held_out_images),
        collator=collator,
        trainable=report,
        merge_on_save=is_peft(trained) and merge_obstacle(trained) is None,
        domain_names=tuple(domains),
        start=start,
        base_model=str(getattr(loaded.config, "name_or_path", "") or ""),
        notes=(_masking_note(masking, unit, side), f"Trains: {report}.", *report.notes),
        masking={"image_mask_share": args.image_mask_share, "image_mask_unit": unit},
    )


def _masking_note(masking: BlockMasking, unit: int, side: int) -> str:
    return (
        f"Masking: {masking.masked_units} of {masking.units} units of {unit} x {unit} pixels, in images of {side} x "
        f"{side}."
    )


def _check_size(encoder: ImageEncoder, encoded: Any, model: Any, side: int) -> None:
    """Check that the image processor makes what the model reads; raises `ValueError`."""
    row = encoded[0] if hasattr(encoded, "__len__") else next(iter(encoded))
    pixels = encoder.stack([row], [None])["pixel_values"]
    height, width = pixels.shape[-2:]
    if (height, width) != (side, side):
        raise ValueError(
            f"{type(encoder.processing_class).__name__} makes images of {width} x {height} pixels, and this "
            f"{type(model).__name__} is masked and painted at {side} x {side}: set image_size={side}."
        )


def _trained(
    loaded: Any, args: PretrainingConfig, peft_config: Any, masking: BlockMasking
) -> tuple[Any, Head, TrainableReport]:
    """The model, with an adapter if there is one, its decoder, and what trains."""
    side, _ = image_sides(loaded)
    blank = torch.zeros(1, int(getattr(loaded.config, "num_channels", 3)), side, side)
    masked = torch.from_numpy(masking(np.random.default_rng(0)))[None]
    head = find_decoder(loaded, blank, masked)
    if peft_config is None:
        report = set_trainable(loaded, head, args.trainable, args.freeze)
        return loaded, head, checked_part(loaded, head, report, args)
    check_adapter(peft_config, args)
    is_new = any(key.startswith(f"{head.name}.") for key in loaded.fresh_weights)
    trained = put_adapter(loaded, peft_config, head, [head.name] if is_new else [])
    head = find_decoder(trained, blank, masked)
    notes = [
        f"{key} is new and stays 0: an adapter does not train it."
        for key in loaded.fresh_weights
        if key.endswith("mask_token")
    ]
    report = report_trainable(trained, peft_config.peft_type.value.lower(), notes)
    return trained, head, checked_part(trained, head, report, args)
