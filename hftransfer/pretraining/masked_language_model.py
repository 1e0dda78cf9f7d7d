"""Masked language models: a pretrained encoder with its masked-language head, or with a new one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import AutoModelForMaskedLM

from ..models.weight_checks import modules_of_weights
from .fast_tokenizer import fast_tokenizer
from .masked_model_loading import MaskedModelClass, load_masked_model

logger = logging.getLogger(__name__)
ENCODERS = "Name an encoder with a mask token, such as BERT, RoBERTa, ModernBERT or a sentence encoder made from one"
LANGUAGE = MaskedModelClass(
    AutoModelForMaskedLM,
    "ForMaskedLM",
    "masked-language head",
    lambda name, family: (
        f"{name} is a {family} model, for which transformers has no masked-language head: it reads from left to "
        f"right, or no text. {ENCODERS}."
    ),
)


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
    loaded, name = load_masked_model(LANGUAGE, model, model_kwargs)
    if not isinstance(model, nn.Module) and loaded.fresh_weights:
        logger.warning(
            "%s has no masked-language head; a new one, tied to its word embeddings, is trained from scratch: %s. "
            "Perplexity before training is that of a random head.",
            name,
            modules_of_weights(loaded.fresh_weights),
        )
    tokenizer = fast_tokenizer(processing_class, loaded, name, model_kwargs or {}, words)
    if tokenizer.mask_token_id is None:
        raise ValueError(f"{type(tokenizer).__name__} has no mask token, so no word can be hidden. {ENCODERS}.")
    return loaded, tokenizer
