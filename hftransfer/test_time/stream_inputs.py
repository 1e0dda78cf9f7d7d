"""Model and batches of a stream, checked: what adapts, and what a batch may hold. Labels are left out unread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..messages import shown
from ..models.adapter_folders import adapter_labels
from ..models.adapters import plain_model
from ..models.ingredients import adapter_config, is_adapter_folder, load_with_head, plain_class
from ..models.pretrained import load_quietly
from ..models.weight_checks import check_finite

NEVER_READ = ("labels", "label", "domain", "num_source")


def load_stream_model(model: Any) -> nn.Module:
    """Model to adapt: a loaded one as it is, or a saved classifier; an adapter's folder stays an adapter.

    Raises:
        FileNotFoundError: there is no such folder.
        TypeError, ValueError: it is no classifier, predicts no classes, or holds weights that are no numbers.
    """
    path = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    if path is not None:
        if isinstance(model, Path) and not model.is_dir():
            raise FileNotFoundError(f"There is no folder {path!r}. Give the folder of a saved classifier.")
        cls: Any = plain_class(path)
        if is_adapter_folder(path):
            from peft import PeftModel

            base = adapter_config(path).get("base_model_name_or_path")
            if not base:
                raise ValueError(
                    f"{path} is an adapter that does not say of which model: load it with peft, and pass that model."
                )
            plain = load_with_head(base, cls, adapter_labels(path) or _stock_names(base))[0]
            model = PeftModel.from_pretrained(plain, path)
        else:
            model = load_quietly(cls, path)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={shown(model)} must be a loaded model, or the folder or Hub id of a saved classifier.")
    config = getattr(plain_model(model), "config", None)
    kind = getattr(config, "problem_type", None)
    if kind in ("regression", "multi_label_classification") or getattr(config, "num_labels", 2) == 1:
        raise ValueError(
            f"{type(plain_model(model)).__name__} is made for {kind or 'a single output'}: adaptation at test time "
            "reads the entropy of one class a row. Use adapt_batch_norm, which reads no prediction."
        )
    check_finite(model, repr(path) if path else "The model")
    return model


def _stock_names(base: str) -> list[str]:
    from transformers import AutoConfig

    return list(load_quietly(AutoConfig, base).id2label.values())


def stream_inputs(model: nn.Module, batch: Any, device: torch.device) -> tuple[dict[str, Any], int]:
    """Inputs of a batch on the model's device, and the number of rows.

    Args:
        model: whose main input a bare tensor is.
        batch: a map of tensors, as a tokenizer or image processor makes it, or one tensor.
        device: of the model.

    Raises:
        TypeError: no map and no tensor, or a value that is none.
        ValueError: no inputs, no rows, or a mask of other rows.
    """
    if isinstance(batch, torch.Tensor):
        batch = {getattr(plain_model(model), "main_input_name", "pixel_values"): batch}
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"batch={shown(batch)} must be a map of tensors, such as `tokenizer(texts, padding=True, "
            'return_tensors="pt")`, or one tensor.'
        )
    inputs: dict[str, Any] = {}
    rows = None
    for name, value in batch.items():
        if name in NEVER_READ or value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"batch[{name!r}]={shown(value)} must be a tensor: let the tokenizer or the image processor return "
                'them, return_tensors="pt".'
            )
        rows = len(value) if rows is None and value.ndim else rows
        with torch.inference_mode(False):  # what the caller's inference mode makes has no place in a step
            value = value.to(device)
            inputs[name] = value.clone() if value.is_inference() else value
    if not inputs or rows is None:
        raise ValueError(f"batch holds no model input: it has {', '.join(map(str, batch)) or 'nothing'}.")
    ids = inputs.get("input_ids")
    for name in ("attention_mask", "token_type_ids"):  # a model may take one of another shape for another row's
        if ids is not None and name in inputs and inputs[name].shape != ids.shape:
            raise ValueError(
                f"batch[{name!r}] has the shape {tuple(inputs[name].shape)}, and input_ids {tuple(ids.shape)}: give "
                "both as one call of the tokenizer makes them."
            )
    if not rows:
        raise ValueError("batch has no rows: skip it, or give one row or more.")
    return inputs, rows


def read_logits(outputs: Any) -> torch.Tensor:
    """(n, K) logits of a model's output, in single precision.

    Raises:
        TypeError: the output holds none.
        ValueError: they are not one prediction a row, or there is one class.
    """
    logits = outputs if isinstance(outputs, torch.Tensor) else getattr(outputs, "logits", None)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"The model returned {type(outputs).__name__} without logits: give a classifier.")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"The model's logits have the shape {tuple(logits.shape)}, where (rows, classes) with 2 classes or more "
            "is needed: words of a sentence (token classification) are not adapted at test time."
        )
    return logits.float()
