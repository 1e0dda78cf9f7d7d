"""Hash of settings: with that of the data, the key by which a candidate is known again and not trained twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..trainers.saving.checkpoint_files import digest

MODEL_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model")
# Settings that change where a run writes, what it shows and how fast it is, not what it computes.
IRRELEVANT = {
    "output_dir",
    "overwrite_output_dir",
    "resume_from_checkpoint",
    "run_name",
    "project",
    "trackio_space_id",
    "report_to",
    "disable_tqdm",
    "local_rank",
    "debug",
    "per_device_eval_batch_size",
    "frozen_cache_gb",
    "trust_config_code",
}
IRRELEVANT_STARTS = ("logging_", "log_", "hub_", "push_", "save_", "dataloader_", "eval_", "include_")


def folder_hash(path: Any) -> str:
    """Hash of a model's files, if it is a folder: another model of the same name is another one."""
    if not isinstance(path, str) or not Path(path).is_dir():
        return ""
    files = [file for file in Path(path).iterdir() if file.suffix in MODEL_SUFFIXES and file.is_file()]
    return settings_hash(**{file.name: digest(file) for file in files if not file.name.startswith("_")})


def settings_hash(**settings: Any) -> str:
    """Hash of settings that JSON can hold, with objects by their name and arrays by their content."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode()).hexdigest()


def training_settings(config: Any) -> dict[str, Any]:
    """Settings of a config that decide what a training run computes, as far as they are not the defaults."""
    default = type(config)(output_dir=str(config.output_dir), use_cpu=config.use_cpu, report_to="none")
    return {
        field.name: value
        for field in fields(config)
        if field.init
        and field.name not in IRRELEVANT
        and not field.name.startswith(IRRELEVANT_STARTS)
        and (value := getattr(config, field.name)) != getattr(default, field.name)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return getattr(value, "__qualname__", type(value).__qualname__)
