"""Plain encoders: the model of a pre-training that predicts no masked words, without a head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from ..models.adapters import plain_model
from ..models.masked_language_head import find_backbone
from ..models.module_mode import module_mode
from .fast_tokenizer import fast_tokenizer
from .masked_model_loading import MaskedModelClass, load_masked_model

HEAD = re.compile(r"(For[A-Z]\w+|LMHeadModel)$")  # how transformers calls models with a head
ENCODERS = "Name an encoder, such as BERT, RoBERTa, ModernBERT or a sentence encoder made from one."
ENCODER = MaskedModelClass(AutoModel, "", "encoder", lambda name, family: f"{name} is a {family} model. {ENCODERS}")


def load_encoder(
    model: Any, processing_class: Any = None, model_kwargs: Mapping[str, Any] | None = None, words: bool = False
) -> tuple[Any, Any]:
    """An encoder without a head and its tokenizer.

    A pooler that the checkpoint lacks is left out: nothing here would train it, and whoever loads the saved model
    gets a new one where the task needs it.

    Args:
        model: Hub id or folder, or a loaded `AutoModel`.
        processing_class: the tokenizer, or the Hub id or folder of one; the checkpoint's own when absent.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        words: texts come as lists of words; byte-level tokenizers then need a leading space.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        TypeError: `model` is neither a name nor a model.
        ValueError: a model with a head, an adapter, weights that are missing or not finite, or a tokenizer that is
            not the model's or is slow.
    """
    if isinstance(model, nn.Module) and HEAD.search(type(model).__name__):
        raise ValueError(
            f"This {type(model).__name__} has a head, which nothing trains with mask_probability=0. Pass its encoder "
            "(`model.base_model`), its name or folder, or let it predict masked words (mask_probability=0.15)."
        )
    loaded, name = load_masked_model(ENCODER, model, model_kwargs)
    if not isinstance(model, nn.Module):
        _drop_new_parts(loaded)
    return loaded, fast_tokenizer(processing_class, loaded, name, model_kwargs or {}, words)


def encoder_of(model: Any) -> Any:
    """The encoder of a model: the backbone under its head, or the model itself where it has none; `None` where the
    family names no backbone.

    Args:
        model: plain or PEFT-wrapped.
    """
    inner, backbone = plain_model(model), find_backbone(model)
    return backbone if backbone is not None or HEAD.search(type(inner).__name__) else inner


def check_reads_both_ways(model: Any, tokens: Any, pad_id: int | None) -> None:
    """Check that an encoder's first token sees the last one.

    Args:
        model: plain.
        tokens: ids of two tokens or more.
        pad_id: of the tokenizer.

    Raises:
        ValueError: the model reads from left to right, or there is no token to pad with.
    """
    title = f"This {type(model).__name__}"
    if pad_id is None:
        raise ValueError(f"The tokenizer of {title[5:]} has no padding token. Set one (`tokenizer.pad_token = ...`).")
    first, second = int(tokens[0]), int(tokens[-1])
    ids = torch.tensor([[first, first, first], [first, first, second]], device=next(model.parameters()).device)
    try:
        with module_mode(model), torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{title} does not read text alone. {ENCODERS}") from error
    if torch.allclose(states[0, 0], states[1, 0], rtol=1e-5, atol=1e-6):
        raise ValueError(
            f"{title} reads from left to right: the vector of a token knows nothing of what follows it. {ENCODERS}"
        )


def _drop_new_parts(model: Any) -> None:
    """Parts of a loaded encoder that are all new, taken away."""
    fresh = set(model.fresh_weights)
    for part, module in list(model.named_children()):
        keys = {f"{part}.{key}" for key, _ in module.named_parameters()}
        if keys and keys <= fresh:
            setattr(model, part, None)
            fresh -= keys
    model.fresh_weights = tuple(sorted(fresh))
