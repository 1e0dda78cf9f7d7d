"""Preparation of a pre-training: which kind it is, and its rows, model and masking, checked before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .prepared_images import prepare_images
from .prepared_texts import prepare_texts
from .pretraining_config import PretrainingConfig
from .pretraining_kind import IMAGES, find_kind
from .pretraining_run import PreparedPretraining
from .unlabelled_domains import checked_validation, domain_title, unlabelled_domains


def prepare_pretraining(
    model: Any,
    args: PretrainingConfig,
    target: Any = None,
    source: Any = None,
    validation: Any = None,
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> PreparedPretraining:
    """Rows, model and masking of a run, all checked.

    Args:
        model: Hub id or folder of an encoder, or a loaded model that predicts what is masked.
        args: the run's settings.
        target: unlabelled texts or images of the target; labels in it are not read.
        source: those of a source, or a dict of several by name.
        validation: target rows to measure on, instead of held-out ones.
        processing_class: the tokenizer or image processor, or the Hub id or folder of one; the checkpoint's own when
            absent.
        peft_config: an adapter that is trained instead of the model.
        model_kwargs: for `from_pretrained`, when `model` is a name.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model or settings.

    Example:
        >>> settings = PretrainingConfig("runs/medical-bert", use_cpu=True)
        >>> prepared = prepare_pretraining("runs/teacher", settings, target=medical)
        >>> len(prepared.train), prepared.held_out_rows, prepared.notes[0]
        (23, 1, 'Batches: packed (sdpa attention with a mask of pairs).')
    """
    domains = unlabelled_domains(target, source)
    measured = checked_validation(validation, args)
    kind = find_kind({domain_title(name): rows for name, rows in domains.items()}, args, model, model_kwargs)
    torch.manual_seed(args.seed)  # a new head is drawn with the model, the same on every process
    prepare = prepare_images if kind is IMAGES else prepare_texts
    return prepare(model, args, domains, measured, processing_class, peft_config, model_kwargs)
