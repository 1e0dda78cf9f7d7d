"""Masked words of the target: checks of the model and its tokenizer, and the head that its checkpoint holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from transformers import AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from ...models.adapters import plain_model
from ...models.masked_language_head import TOLERANCE, find_backbone
from ...models.module_mode import module_mode
from ...models.pretrained import load_quietly
from ...objectives.base import VocabularyFacts
from ...objectives.self_training.masked_lm import MaskedLM
from ..config import AdaptationConfig
from ..step.masked_forward import SHARDED, WordHiding, last_hidden_states
from ..teachers.objective_fitting import probe_rows

logger = logging.getLogger(__name__)
ENCODERS = "Take an encoder such as BERT, RoBERTa or ModernBERT, or leave masked_lm out."


def build_word_hiding(prepared: Any, args: AdaptationConfig, specs: Sequence[Any]) -> WordHiding | None:
    """What masks words of target rows; `None` where no objective asks for it.

    Raises:
        ValueError: the run cannot predict masked words: it is sharded, or its model reads images, is a decoder or has
            no mask token.
    """
    if not any(spec.weight and "masked_target_forward" in spec.reads().values() for spec in specs):
        return None
    flags = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    if args.fsdp or args.deepspeed or any(parse_flag_from_env(flag) for flag in flags):
        raise ValueError(SHARDED)
    model = plain_model(prepared.model)
    title = type(model).__name__
    if prepared.encoder.modality == "image":
        raise ValueError(f"masked_lm predicts words, and {title} reads images: leave it out.")
    if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"masked_lm predicts a word from both sides, and {title} is no such model. {ENCODERS}")
    tokenizer = prepared.processing_class
    if tokenizer.mask_token_id is None:
        raise ValueError(f"masked_lm hides words, and {type(tokenizer).__name__} has no mask token. {ENCODERS}")
    embeddings = prepared.model.get_input_embeddings()
    if find_backbone(model) is None or not isinstance(getattr(embeddings, "weight", None), torch.Tensor):
        raise ValueError(f"masked_lm reads the backbone and the word embeddings, and {title} names none. {ENCODERS}")
    probe = {name: values.to(embeddings.weight.device) for name, values in probe_rows(prepared).items()}
    with module_mode(prepared.model), torch.no_grad():
        last_hidden_states(prepared.model, probe)
    return WordHiding(tokenizer)


def vocabulary_facts(model: Any) -> VocabularyFacts:
    """Sizes of a model's vocabulary, embeddings and states."""
    size, width = model.get_input_embeddings().weight.shape
    return VocabularyFacts(size, width, plain_model(model).config.hidden_size)


def fill_heads(model: Any, objectives: Iterable[nn.Module]) -> None:
    """Start of masked-language heads from the model's checkpoint, where it holds one of their form."""
    heads = [objective for objective in objectives if isinstance(objective, MaskedLM)]
    if not heads:
        return
    config = plain_model(model).config
    name = str(getattr(config, "name_or_path", "") or "")
    masked_model = _load(name, getattr(config, "_commit_hash", None)) if name else None
    for head in heads:
        if masked_model is None or not _fill(head, masked_model):
            logger.warning(
                "masked_lm: %s holds no masked-language head that fits; a new one, tied to the word embeddings, is "
                "trained from scratch.",
                name or "the model",
            )


def _load(name: str, commit: str | None) -> Any:
    """The checkpoint with its masked-language head; `None` where it has none, or is not there any more."""
    try:
        model, info = load_quietly(
            AutoModelForMaskedLM, name, None if Path(name).is_dir() else commit, output_loading_info=True
        )
    except (OSError, ValueError):
        return None
    backbone = f"{model.base_model_prefix}."
    return None if any(not key.startswith(backbone) for key in info["missing_keys"]) else model.eval()


def _fill(head: MaskedLM, masked_model: Any) -> bool:
    """Weights of a masked language model's head, copied if the head then gives the same logits."""
    backbone, decoder = find_backbone(masked_model), masked_model.get_output_embeddings()
    if backbone is None or decoder is None:
        return False
    inner = {*map(id, backbone.modules()), id(decoder)}
    own = [module for module in masked_model.modules() if id(module) not in inner]
    linears = [module for module in own if isinstance(module, nn.Linear)]
    norms = [module for module in own if isinstance(module, nn.LayerNorm)]
    if len(linears) != 1 or len(norms) != 1:
        return False
    found = {
        "dense.weight": linears[0].weight,
        "dense.bias": linears[0].bias,
        "norm.weight": norms[0].weight,
        "norm.bias": norms[0].bias,
        "bias": decoder.bias,
    }
    before = {key: value.detach().clone() for key, value in head.named_parameters()}
    given = {key: torch.zeros_like(before[key]) if value is None else value for key, value in found.items()}
    if any(given[key].shape != before[key].shape for key in before):
        return False
    eps, head.norm.eps = head.norm.eps, norms[0].eps
    _copy(head, given)
    if _agrees(head, masked_model, backbone):
        return True
    head.norm.eps = eps
    _copy(head, before)
    return False


def _copy(head: MaskedLM, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.copy_(values[name])


def _agrees(head: MaskedLM, masked_model: Any, backbone: nn.Module) -> bool:
    """Whether a head gives the logits of the masked language model for a few tokens."""
    ids = torch.arange(8, device=head.bias.device).clamp_max(len(head.bias) - 1).unsqueeze(0)
    masked_model = masked_model.to(ids.device).float()
    kept: list[torch.Tensor] = []
    hook = backbone.register_forward_hook(lambda module, args, output: kept.append(output[0]))
    try:
        with torch.no_grad():
            expected = masked_model(input_ids=ids).logits[0]
            found = head.float().logits(kept[-1][0], masked_model.get_input_embeddings().weight)
    finally:
        hook.remove()
    return found.shape == expected.shape and bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE))
