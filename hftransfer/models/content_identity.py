"""Identity of a model and its processor by their content: what must be equal for features to be equal."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from .adapters import is_peft
from .model_file_checks import CONFIG
from .pretrained import load_quietly, local_folder

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
ADAPTER = "adapter_config.json"
BLOCK = 1 << 24  # bytes that are read at once
# Settings that say where a model comes from, not what it computes.
IRRELEVANT = ("_name_or_path", "name_or_path", "transformers_version", "_commit_hash", "hftransfer")
_file_hashes: dict[tuple[Any, ...], str] = {}  # by path, size and times, so that a process reads a file once


def checkpoint_identity(name: str, revision: str | None = None) -> dict[str, str]:
    """Identity of a checkpoint without loading it.

    Args:
        name: Hub id or folder.
        revision: branch, tag or commit on the Hub.

    Returns:
        `{"commit": …}` of the Hub, or `{"files": …}` of a folder: the hash of its config and weights.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is an adapter.
    """
    local = local_folder(name, revision)
    if local is None:
        return {"commit": str(load_quietly(AutoConfig, name, revision)._commit_hash)}
    folder = Path(local)
    if (folder / ADAPTER).is_file():
        raise ValueError(
            f"{name!r} is an adapter: load it onto its model with `peft.AutoPeftModelFor…`, and pass that model."
        )
    paths = [folder / CONFIG, *sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})]
    return {"files": hash_of({path.name: _file_hash(path) for path in paths if path.is_file()})}


def model_identity(model: torch.nn.Module) -> dict[str, str]:
    """Identity of a loaded model: the hash of its weights, its settings and its structure.

    Args:
        model: plain or PEFT-wrapped; which adapters are active counts as well.

    Example:
        >>> before = model_identity(model)
        >>> with torch.no_grad():
        ...     _ = next(model.parameters()).add_(1e-3)
        >>> before == model_identity(model)
        False
    """
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.detach()
        for part in flat.split(BLOCK):
            state.update(part.cpu().numpy().tobytes())
    settings = model_settings(model)
    adapters = (
        [
            (name, str(getattr(module, attribute)))
            for name, module in model.named_modules()
            for attribute in ("active_adapters", "disable_adapters", "merged_adapters", "scaling")
            if hasattr(module, "base_layer") and hasattr(module, attribute)
        ]
        if is_peft(model) or any(hasattr(module, "base_layer") for module in model.modules())
        else []
    )
    facts = {"class": type(model).__qualname__, "settings": settings, "structure": repr(model), "adapters": adapters}
    return {"weights": state.hexdigest(), "structure": hash_of(facts)}


def processing_identity(processing: Any) -> str:
    """Identity of a tokenizer or image processor: the hash of all that decides what it makes of an input."""
    if hasattr(processing, "get_vocab"):
        backend = getattr(processing, "backend_tokenizer", None)
        rules = json.loads(backend.to_str()) if backend is not None else sorted(processing.get_vocab().items())
        if isinstance(rules, dict):
            rules = {key: value for key, value in rules.items() if key not in ("truncation", "padding")}
        facts: dict[str, Any] = {
            "rules": rules,
            "inputs": list(processing.model_input_names),
            "special": {key: str(value) for key, value in processing.special_tokens_map.items()},
            "sides": (processing.padding_side, processing.truncation_side),
            "longest": processing.model_max_length,
        }
    else:
        facts = {key: value for key, value in processing.to_dict().items() if key not in IRRELEVANT}
    return hash_of({"class": type(processing).__qualname__, **facts})


def model_settings(model: Any) -> dict[str, Any]:
    """Settings of a model, but for those that say where it comes from."""
    config: Any = getattr(model, "config", None)
    settings = dict(config.to_dict()) if hasattr(config, "to_dict") else {}
    return {key: value for key, value in settings.items() if key not in IRRELEVANT}


def _file_hash(path: Path) -> str:
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    if key not in _file_hashes:
        _file_hashes[key] = _hash_bytes(_blocks(path))
    return _file_hashes[key]


def _blocks(path: os.PathLike[str]) -> Iterable[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def _hash_bytes(blocks: Iterable[bytes]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def hash_of(facts: Any) -> str:
    """Hash of facts that JSON can hold; others count by their text."""
    return _hash_bytes([json.dumps(facts, sort_keys=True, default=str).encode()])
