"""Decoder of sentence denoising: tied to the encoder, or a small one of its own; it sees one vector of a text."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel

from ..models.model_structure import layer_stack
from ..models.module_mode import module_mode
from .plain_encoder import encoder_of

OWN = "Set denoising_layers to 1 or more for a decoder of its own"


def make_decoder(model: Any, layers: int, longest: int, pad_id: int, tokens: Any) -> Any:
    """Decoder that reads a vector of a text and predicts its tokens from left to right.

    Args:
        model: what is pre-trained, plain, with a head or without one, before an adapter is put on it.
        layers: 0 for the encoder's own layers, as in the paper: all weights are the encoder's but those that attend to
            the vector, and the head where the model has none. Otherwise so many layers of BERT's kind, of the
            encoder's width, with weights of their own and the encoder's word embeddings.
        longest: tokens of a text.
        pad_id: fills up texts.
        tokens: ids of two tokens or more, to try it on.

    Raises:
        ValueError: transformers has no such decoder of the encoder's kind.
    """
    encoder, words = encoder_of(model), model.get_input_embeddings().weight
    if encoder is None:
        raise ValueError(
            "sentence_denoising needs a model whose head stands apart from its backbone, which "
            f"{type(model).__name__} does not say. Leave it out."
        )
    if layers:
        decoder: Any = BertLMHeadModel(_small_config(encoder, words, layers, longest, pad_id))
        old = decoder.get_input_embeddings().weight
        if old.shape == words.shape:
            _replace(decoder, {id(old): words})
    else:
        decoder = _tied(model, encoder)
    decoder.to(device=words.device, dtype=words.dtype)
    _check_decodes(decoder, encoder, tokens)
    return decoder


def _small_config(encoder: Any, words: torch.Tensor, layers: int, longest: int, pad_id: int) -> BertConfig:
    """Settings of a decoder of its own."""
    config = encoder.config
    width = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    dropout = getattr(config, "hidden_dropout_prob", 0.1)
    return BertConfig(
        vocab_size=words.shape[0],
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads if width % heads == 0 else 1,
        intermediate_size=4 * width,
        max_position_embeddings=longest,
        pad_token_id=pad_id,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=getattr(config, "attention_probs_dropout_prob", dropout),
        is_decoder=True,
        add_cross_attention=True,
        use_cache=False,
    )


def _tied(model: Any, encoder: Any) -> Any:
    """A decoder whose weights are the model's wherever it has one of that name and shape."""
    config = copy.deepcopy(encoder.config)
    config.is_decoder, config.add_cross_attention, config.use_cache = True, True, False
    kind = type(encoder).__name__
    try:
        decoder = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise ValueError(
            f"sentence_denoising ties its decoder to the encoder, and transformers has no decoder made like a {kind}. "
            f"{OWN}."
        ) from error
    prefix = "" if encoder is not model else f"{decoder.base_model_prefix}."
    old = dict(decoder.named_parameters(remove_duplicate=False))
    new = {f"{prefix}{name}": p for name, p in model.named_parameters(remove_duplicate=False)}
    shared = {name for name, p in new.items() if name in old and old[name].shape == p.shape}
    _replace(decoder, {id(old[name]): new[name] for name in shared})
    stack = f"{prefix}{layer_stack(model)[0]}."
    lacking = sorted(name for name in new if name.startswith(stack) and name not in shared)
    if lacking:
        raise ValueError(
            f"sentence_denoising ties its decoder to the encoder, and {type(decoder).__name__} has no weight like "
            f"{lacking[0]!r} of {kind}. {OWN}."
        )
    return decoder


def _replace(decoder: nn.Module, by_identity: dict[int, nn.Parameter]) -> None:
    """Parameters of a decoder, replaced under each of their names."""
    for module in decoder.modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in by_identity:
                module._parameters[name] = by_identity[id(parameter)]


def _check_decodes(decoder: Any, encoder: Any, tokens: Any) -> None:
    """Check that a decoder reads the vector, and no token before its turn; raises `ValueError`."""
    first, second = int(tokens[0]), int(tokens[-1])
    device = next(decoder.parameters()).device
    ids = torch.tensor([[first, first], [first, second], [first, first]], device=device)
    vectors = torch.zeros(3, 1, int(encoder.config.hidden_size), device=device, dtype=next(encoder.parameters()).dtype)
    vectors[2] = torch.linspace(-1, 1, vectors.shape[-1])
    with module_mode(decoder), torch.no_grad():
        logits = decoder(input_ids=ids, attention_mask=torch.ones_like(ids), encoder_hidden_states=vectors).logits
    close = partial(torch.allclose, rtol=1e-5, atol=1e-6)
    if not close(logits[0, 0], logits[1, 0]) or close(logits[0], logits[2]):
        raise ValueError(
            f"sentence_denoising: {type(decoder).__name__} is no decoder that reads from left to right and attends to "
            f"a vector. {OWN}."
        )
