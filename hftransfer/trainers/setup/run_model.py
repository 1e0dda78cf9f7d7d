"""Model of a run with a head for its labels, and its tokenizer or image processor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from ...data.label_space import LabelSpace
from ...models import adapter_folders, pretrained, weight_checks
from ...models.from_scratch import model_from_scratch, processing_class_from_scratch
from ...models.parameter_sets import describe_choice, is_default_choice
from ...models.processing_class import fit_processing_class
from ...models.remote_code import drop_remote_code
from ..config import AdaptationConfig


def check_model_argument(model: Any) -> Any:
    """The `model` argument, a path as a string.

    Raises:
        TypeError: it is no name, folder, loaded model or dict of settings.
    """
    model = os.fspath(model) if isinstance(model, os.PathLike) else model
    kinds: Any = (str, nn.Module, Mapping)
    if not isinstance(model, kinds):
        raise TypeError(
            "model must be a Hub id, a folder or a loaded model, or a dict of settings to make one from scratch, not "
            f"{type(model).__name__}."
        )
    return model


def load_run_model(
    model: Any,
    args: AdaptationConfig,
    label_space: LabelSpace,
    modality: str,
    processing_class: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    peft_config: Any = None,
) -> tuple[Any, Any]:
    """A model with its head, loaded, made or checked, and the processing class that goes with it.

    Args:
        model: from `check_model_argument`.
        args: the run's settings.
        label_space: from `agree_on_labels`.
        modality: what the rows are made of.
        processing_class: a tokenizer or image processor, or the name of one; the checkpoint's own when absent.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        peft_config: the adapter that will be put on the model.

    Raises:
        ValueError, FileNotFoundError: a model, head or processing class that is not there or does not fit.
    """
    tagging = label_space.task == "token-classification"
    if isinstance(processing_class, (str, os.PathLike)):
        processing_class = pretrained.load_processing(os.fspath(processing_class), None, modality, tagging)
    if isinstance(model, Mapping):
        if peft_config is not None or not is_default_choice(args.trainable, args.freeze):
            setting = "an adapter" if peft_config is not None else describe_choice(args.trainable, args.freeze)
            raise ValueError(f"A model from scratch has no weights worth keeping: leave out {setting}.")
        settings = {k: v for k, v in model.items() if v is not None}
        processing = processing_class_from_scratch(settings, modality, processing_class, args.image_size)
        model = model_from_scratch(
            settings, label_space.task, label_space.names, modality, processing, args.image_size
        )
    elif isinstance(model, str):
        model, processing = _load_by_name(
            model, label_space, modality, processing_class, dict(model_kwargs or {}), peft_config
        )
    else:
        processing = _check_loaded(model, label_space, modality, processing_class)
    return model, fit_processing_class(processing, model, modality, tagging, args.image_size)


def _load_by_name(
    name: str, label_space: LabelSpace, modality: str, processing: Any, options: dict[str, Any], peft_config: Any
) -> tuple[Any, Any]:
    """A model by Hub id or folder, which may be an adapter's, and its processing class."""
    revision = options.get("revision")
    adapter = adapter_folders.read_adapter_config(name, revision)
    if adapter is None:
        model = pretrained.load_model(name, label_space.task, label_space.names, modality=modality, **options)
    elif peft_config is not None:
        raise ValueError(f"{name} is an adapter already: leave out peft_config to go on training it.")
    else:
        model = adapter_folders.load_trainable_adapter(
            name, adapter, label_space.task, label_space.names, modality=modality, **options
        )
        processing_name = adapter_folders.processing_class_name(name, adapter)
        revision = revision if processing_name == name else adapter.get("revision")
        name = processing_name
    if processing is None:
        tagging, trusted = label_space.task == "token-classification", bool(options.get("trust_remote_code"))
        processing = pretrained.load_processing(name, revision, modality, tagging, trusted)
    return model, processing


def _check_loaded(model: nn.Module, label_space: LabelSpace, modality: str, processing: Any) -> Any:
    """The processing class of a model that the user loaded, after the model was checked."""
    title = f"This {type(model).__name__}"
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            f"{title} carries an adapter that transformers put into it: its base would be trained and not saved. Pass "
            "the adapter's folder as `model`, or load it with `PeftModel.from_pretrained(base, folder, "
            "is_trainable=True)`."
        )
    pretrained.check_head(model, label_space.task, label_space.names, modality)
    weight_checks.check_finite(model, title)
    drop_remote_code(model, title)
    name = getattr(model.config, "name_or_path", None)
    if processing is None and not name:
        raise ValueError(
            "processing_class is missing: a model that was not loaded from anywhere says of no tokenizer or image "
            "processor. Pass the tokenizer or image processor that belongs to it."
        )
    if processing is None:
        processing = pretrained.load_processing(str(name), None, modality, label_space.task == "token-classification")
    return processing
