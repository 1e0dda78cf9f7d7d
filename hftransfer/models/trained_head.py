"""Trained heads: task and class names of a fine-tuned model, read off the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .adapter_folders import adapter_labels, read_adapter_config
from .adapters import plain_model
from .label_maps import label_names

HEADS = {"ForTokenClassification": "token-classification"}  # of whose task the class alone tells
MULTI_LABEL, REGRESSION = "multi_label_classification", "regression"


def trained_task_and_labels(model: Any, options: Mapping[str, Any] | None = None) -> tuple[str, tuple[str, ...]]:
    """Task and class names of a model whose head is trained, in the order of its logits.

    Args:
        model: Hub id or folder, of a model or an adapter, or a loaded model.
        options: of `from_pretrained`: `revision`, `trust_remote_code`.

    Raises:
        ValueError: it has no trained head, or is settings of a model from scratch.
        FileNotFoundError: it is not there.

    Example:
        >>> trained_task_and_labels("runs/teacher")
        ('sequence-classification', ('down', 'up', 'flat'))
    """
    if isinstance(model, Mapping):
        raise ValueError(
            "A model from scratch has learned nothing, and there are no labelled source rows to teach it: pass a "
            "model that was fine-tuned on the source."
        )
    if isinstance(model, nn.Module):
        plain = plain_model(model)
        return _described(plain.config, type(plain).__name__, "The model")
    revision = (options or {}).get("revision")
    adapter = read_adapter_config(model, revision)
    if adapter is not None:
        names = adapter_labels(model)
        if names is None:
            raise ValueError(
                f"{model!r} is an adapter that does not name its classes: merge it into a plain model "
                "(`merge_adapter=True` where it was trained), or pass the loaded model."
            )
        tags = adapter.get("task_type") == "TOKEN_CLS"
        return ("token-classification" if tags else "sequence-classification"), names
    from transformers import AutoConfig

    from .pretrained import load_quietly

    chosen = {k: v for k, v in (options or {}).items() if k in ("revision", "trust_remote_code")}
    config = load_quietly(AutoConfig, model, **chosen)
    architectures = getattr(config, "architectures", None) or [""]
    return _described(config, str(architectures[0]), repr(model))


def _described(config: Any, architecture: str, title: str) -> tuple[str, tuple[str, ...]]:
    if not architecture.endswith("Classification"):
        raise ValueError(
            f"{title} has no trained classifier ({architecture or 'its config names no class'}): pass a model that "
            "was fine-tuned on the source, such as what `hftransfer finetune` saved."
        )
    names = label_names(config)
    tags = next((task for head, task in HEADS.items() if architecture.endswith(head)), None)
    problem = getattr(config, "problem_type", None)
    if tags is not None:
        return tags, names
    if problem == MULTI_LABEL:
        return "multi-label-classification", names
    if problem == REGRESSION or len(names) == 1:
        return "regression", ("score",)
    return "sequence-classification", names
