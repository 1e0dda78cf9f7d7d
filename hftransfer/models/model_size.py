"""Size of a model: its number of parameters, from its config alone where it is not loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from .adapter_folders import read_adapter_config
from .pretrained import load_quietly


def count_parameters(model: Any, revision: str | None = None) -> int:
    """Number of parameters of a model without its head; nothing is downloaded but the config.

    Args:
        model: a loaded model, whose own head counts, a Hub id or a folder; of an adapter's, its base model's.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError, ValueError: there is no such model.

    Example:
        >>> count_parameters("runs/teacher")
        50304
    """
    if isinstance(model, nn.Module):
        return sum(p.numel() for p in model.parameters())
    adapter = read_adapter_config(model, revision)
    if adapter is not None:
        return count_parameters(str(adapter["base_model_name_or_path"]))
    config = load_quietly(AutoConfig, model, revision=revision)
    try:
        with torch.device("meta"):
            made = AutoModel.from_config(config)
    except (RuntimeError, NotImplementedError):  # its initialisation reads values, which nothing on "meta" has
        made = load_quietly(AutoModel, model, revision=revision)
    return sum(p.numel() for p in made.parameters())
