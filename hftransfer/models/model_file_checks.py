"""Checks of a model's files before anything is loaded: config and weights are there and readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from ..messages import nearest, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
POINTER = b"version https://git-lfs"  # what git leaves of a large file where its extension is not installed
OTHERS = {
    "pytorch_model.bin": "a pickle, which can run code and is never loaded",
    "pytorch_model.bin.index.json": "pickles, which can run code and are never loaded",
    "tf_model.h5": "TensorFlow's",
    "flax_model.msgpack": "Flax's",
}
CONVERT = (
    "Convert it once, where you trust it: `AutoModel.from_pretrained(folder).save_pretrained(new_folder)` writes "
    f"{WEIGHTS}."
)


def check_model_files(folder: Path, trusted: bool = False) -> None:
    """Check that a folder has a config that transformers knows and weights in safetensors.

    Args:
        folder: with a config.json.
        trusted: the model's own code may be run.

    Raises:
        FileNotFoundError: no weights, a shard that is missing, or a pointer in place of a file.
        ValueError: a config that is no JSON or of an unknown kind of model; weights in another format.
    """
    config = _read_config(folder)
    model_type, custom_code = config.get("model_type"), config.get("auto_map")
    if model_type not in CONFIG_MAPPING_NAMES and not (trusted and custom_code):
        code_note = ""
        if custom_code:
            code_note = (
                " It comes with code of its own: read that, and run it with `trust_remote_code` if you trust it."
            )
        problem = (
            "has no model_type"
            if model_type is None
            else f"says model_type={shown(model_type)}, no kind that transformers has"
        )
        raise ValueError(
            f"{folder / CONFIG} {problem}.{nearest(model_type, CONFIG_MAPPING_NAMES) if model_type else ''}{code_note}"
        )
    if (folder / WEIGHTS).is_file():
        _check_file(folder / WEIGHTS)
    elif (folder / INDEX).is_file():
        _check_shards(folder)
    else:
        foreign_file = next((name for name in OTHERS if (folder / name).is_file()), None)
        if foreign_file is not None:
            raise ValueError(f"{str(folder)!r} holds its weights in {foreign_file}, {OTHERS[foreign_file]}. {CONVERT}")
        raise FileNotFoundError(
            f"{str(folder)!r} has a config.json and no weights ({WEIGHTS}). Copy them into it; a model from scratch "
            "is a dict of settings (in the recipe, `model_config`)."
        )


def check_adapter_files(folder: Path) -> None:
    """Check that an adapter's folder holds its weights in safetensors.

    Raises:
        FileNotFoundError: no weights, or a pointer in place of them.
        ValueError: a pickle.
    """
    if (folder / ADAPTER_WEIGHTS).is_file():
        _check_file(folder / ADAPTER_WEIGHTS)
    elif (folder / "adapter_model.bin").is_file():
        raise ValueError(
            f"{str(folder)!r} holds its adapter in adapter_model.bin, a pickle, which can run code and is never "
            "loaded. Convert it once, where you trust it: `PeftModel.from_pretrained(base, folder)` and its "
            f"`save_pretrained(new_folder)` write {ADAPTER_WEIGHTS}."
        )
    else:
        raise FileNotFoundError(
            f"{str(folder)!r} has an adapter_config.json and no weights ({ADAPTER_WEIGHTS}). Copy them into it."
        )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is no JSON ({error}). Copy it anew.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} holds a {type(config).__name__}, no config of a model. Copy it anew.")
    return config


def _check_file(path: Path) -> None:
    with open(path, "rb") as file:
        first_bytes = file.read(len(POINTER))
    if first_bytes == POINTER:
        raise FileNotFoundError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in the folder, or download it with "
            "`hf download`."
        )


def _check_shards(folder: Path) -> None:
    try:
        shard_files = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is no index of weights ({error}). Copy it anew.") from error
    missing_files = [name for name in shard_files if not (folder / name).is_file()]
    if missing_files:
        raise FileNotFoundError(
            f"{str(folder)!r} lacks {missing_files[0]}, one of the {len(shard_files)} files of its weights. Copy or "
            "download it."
        )
    for name in shard_files:
        _check_file(folder / name)
