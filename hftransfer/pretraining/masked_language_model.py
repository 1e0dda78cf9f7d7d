"""Masked language models: a pretrained encoder with its masked-language head, or with a new one."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM

from ..models.adapter_folders import read_adapter_config
from ..models.adapters import is_peft
from ..models.model_file_checks import CONFIG, check_model_files
from ..models.pretrained import load_quietly, load_tokenizer
from ..models.processing_class import fit_processing_class
from ..models.remote_code import drop_remote_code
from ..models.weight_checks import check_finite, check_only_head_is_new, modules_of_weights

logger = logging.getLogger(__name__)
HEAD = "ForMaskedLM"
ENCODERS = "Name an encoder with a mask token, such as BERT, RoBERTa, ModernBERT or a sentence encoder made from one"


def load_masked_language_model(
    model: Any, processing_class: Any = None, model_kwargs: Mapping[str, Any] | None = None, words: bool = False
) -> tuple[Any, Any]:
    """A masked language model and its tokenizer.

    A checkpoint without a masked-language head (a sentence encoder) gets a new one, whose projection onto the
    vocabulary is tied to the word embeddings; `fresh_weights` of the model names what was drawn anew. What the
    checkpoint holds and a masked language model does not read, such as a pooler, stays with the model as it is, for
    the models that are made from it later.

    Args:
        model: Hub id or folder, or a loaded `AutoModelForMaskedLM`.
        processing_class: the tokenizer, or the Hub id or folder of one; the checkpoint's own when absent.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        words: texts come as lists of words; byte-level tokenizers then need a leading space.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        TypeError: `model` is neither a name nor a model.
        ValueError: a model without a masked-language head that cannot get one (a decoder, an image model), an adapter,
            weights that are not finite, or a tokenizer that is not the model's, is slow or has no mask token.
    """
    options = dict(model_kwargs or {})
    if isinstance(model, nn.Module):
        _check_loaded(model, options)
        loaded, name = model, str(getattr(getattr(model, "config", None), "name_or_path", "") or "")
    elif isinstance(model, (str, Path)):
        name = str(model)
        loaded = _load(name, dict(options))
    else:
        raise TypeError(
            f"model must be a Hub id, a folder or a loaded AutoModelForMaskedLM, not {type(model).__name__}."
        )
    if processing_class is None and not name:
        raise ValueError(
            "processing_class is missing: a model that was not loaded from anywhere says of no tokenizer. Pass the "
            "tokenizer that belongs to it."
        )
    if processing_class is None or isinstance(processing_class, (str, Path)):
        trusted = bool(options.get("trust_remote_code"))
        revision = options.get("revision") if processing_class is None else None
        processing_class = load_tokenizer(str(processing_class or name), revision, words, trusted)
    tokenizer = fit_processing_class(processing_class, loaded, "text")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer, and whole words are masked by what a fast one says of "
            "them. Load it with `AutoTokenizer.from_pretrained(...)`."
        )
    if tokenizer.mask_token_id is None:
        raise ValueError(f"{type(tokenizer).__name__} has no mask token, so no word can be hidden. {ENCODERS}.")
    return loaded, tokenizer


def _check_loaded(model: Any, options: Mapping[str, Any]) -> None:
    """Check of a model that the user loaded; raises `ValueError`."""
    if options:
        raise ValueError(
            f"model_kwargs ({', '.join(options)}) says how a model is loaded, and this one is. Leave it out."
        )
    title = f"This {type(model).__name__}"
    if is_peft(model) or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(f"{title} carries an adapter already: pass the plain model, and peft_config for a new one.")
    if not type(model).__name__.endswith(HEAD):
        raise ValueError(
            f"{title} has no masked-language head. Pass the checkpoint's name or folder instead of a model, or load "
            "it with `AutoModelForMaskedLM`."
        )
    check_finite(model, title)
    drop_remote_code(model, title)
    if not hasattr(model, "fresh_weights"):
        model.fresh_weights = ()


def _load(name: str, options: dict[str, Any]) -> Any:
    """A model by Hub id or folder, with a head that may be new."""
    folder, revision = Path(name).expanduser(), options.pop("revision", None)
    options.setdefault("trust_remote_code", False)
    if read_adapter_config(name, revision) is not None:
        raise ValueError(
            f"{name} is an adapter. Merge it into its model first (`merge_and_unload()`), and pass the merged model."
        )
    if (folder / CONFIG).is_file():
        check_model_files(folder, options["trust_remote_code"])
    try:
        model, info = load_quietly(AutoModelForMaskedLM, name, revision, output_loading_info=True, **options)
    except ValueError as error:
        kind = re.search(r"configuration class <class '[\w.]*\.(\w+?)(Config)?'>", str(error))
        if kind is None:
            raise
        raise ValueError(
            f"{name!r} is a {kind[1]} model, for which transformers has no masked-language head: it reads from left "
            f"to right, or no text. {ENCODERS}."
        ) from error
    if not folder.is_dir():  # it may have come from a copy: cards say the Hub id
        model.name_or_path = model.config.name_or_path = name
    model.fresh_weights = check_only_head_is_new(model, info, repr(name))
    _keep_unread_modules(model, info["unexpected_keys"], name, revision, options)
    if model.fresh_weights:
        logger.warning(
            "%s has no masked-language head; a new one, tied to its word embeddings, is trained from scratch: %s. "
            "Perplexity before training is that of a random head.",
            name,
            modules_of_weights(model.fresh_weights),
        )
    return model


def _keep_unread_modules(model: Any, unread: Any, name: str, revision: str | None, options: Mapping[str, Any]) -> None:
    """Parts of the backbone that a masked language model is made without (a pooler), put back as they were."""
    backbone = getattr(model, "base_model", None)
    if backbone is None or backbone is model:
        return
    prefix = f"{model.base_model_prefix}."
    parts = {key.removeprefix(prefix).split(".")[0] for key in unread}
    parts = {part for part in parts if part in vars(backbone) | backbone._modules and getattr(backbone, part) is None}
    if not parts:
        return
    whole = load_quietly(AutoModel, name, revision, **options)
    for part in sorted(parts):
        module = getattr(whole, part, None)
        if isinstance(module, nn.Module):
            setattr(backbone, part, module.requires_grad_(False))
