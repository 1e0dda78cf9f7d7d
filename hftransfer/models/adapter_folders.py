"""Folders and repositories of PEFT adapters: the adapter over its base, ready to be trained further."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..hub_connection import hub_reachable
from .ingredients import ADAPTER
from .model_file_checks import check_adapter_files
from .pretrained import load_model
from .weight_checks import check_finite

LABELS_FILE = "labels.json"  # beside an adapter, whose own config has no place for the names of labels
PROCESSOR_FILES = ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


def read_adapter_config(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """An adapter's PEFT config; `None` where there is none, or where a whole model stands beside it.

    Args:
        name: folder or Hub id.
        revision: on the Hub.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        config_file: Any = folder / ADAPTER
        if not config_file.is_file() or (folder / "config.json").is_file():
            return None
    else:
        from transformers.utils import find_adapter_config_file

        if name.startswith((".", "/", "~")):
            return None
        try:
            config_file = find_adapter_config_file(name, revision=revision, local_files_only=not hub_reachable())
        except (OSError, ValueError):  # `load_model` says what is wrong with such a name
            return None
        if config_file is None or (Path(config_file).parent / "config.json").is_file():
            return None
    return json.loads(Path(config_file).read_text(encoding="utf-8"))


def adapter_labels(name: str) -> tuple[str, ...] | None:
    """Label names of an adapter in the order of its head, where its folder says them."""
    file = Path(name).expanduser() / LABELS_FILE
    if not file.is_file() or not (file.parent / ADAPTER).is_file():
        return None
    return tuple(str(label) for label in json.loads(file.read_text(encoding="utf-8")))


def write_adapter_labels(folder: Path, names: Sequence[str]) -> None:
    """File of label names beside an adapter."""
    (folder / LABELS_FILE).write_text(json.dumps(list(names), ensure_ascii=False), encoding="utf-8")


def processing_class_name(name: str, adapter: dict[str, Any]) -> str:
    """Folder or Hub id of an adapter's tokenizer or image processor: its own, or that of its base."""
    folder = Path(name).expanduser()
    beside_adapter = not folder.is_dir() or any((folder / file).is_file() for file in PROCESSOR_FILES)
    return name if beside_adapter else str(adapter["base_model_name_or_path"])


def load_trainable_adapter(
    name: str,
    adapter: dict[str, Any],
    task: str,
    names: Sequence[str],
    revision: str | None = None,
    modality: str = "text",
    **kwargs: Any,
) -> Any:
    """An adapter over its base, trainable.

    Args:
        name: folder or Hub id.
        adapter: from `read_adapter_config`.
        task, names, modality, **kwargs: as in `load_model`.
        revision: of the adapter.

    Returns:
        A `PeftModel` whose adapter, and head if it has one, can be trained.

    Raises:
        FileNotFoundError: the base is not where the adapter says.
        ValueError: the adapter names no base, or was trained for other labels.
    """
    from peft import PeftModel

    base = adapter.get("base_model_name_or_path")
    remedy = (
        f"Load the base yourself, put the adapter on it with `PeftModel.from_pretrained(base, {name!r}, "
        "is_trainable=True)`, and pass that with its processing_class"
    )
    if not base:
        raise ValueError(f"{name} is an adapter that does not say of which model (base_model_name_or_path). {remedy}.")
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_adapter_files(folder)
    try:
        model = load_model(base, task, names, adapter.get("revision"), modality, quiet=True, **kwargs)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is an adapter over {base!r}, and that base is not there: {error} {remedy}, or correct "
            f"base_model_name_or_path in its {ADAPTER}."
        ) from error
    try:
        options: dict[str, Any] = {} if revision is None else {"revision": revision}
        loaded = PeftModel.from_pretrained(model, name, is_trainable=True, **options)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        labels = adapter_labels(name)
        listed_labels = f" ({', '.join(labels)})" if labels else ""
        raise ValueError(
            f"{name} is an adapter that was trained for other labels{listed_labels} or over another model than "
            f"{base!r}; the "
            f"data have {len(names)} ({', '.join(names)}). Rename or filter the labels, or start from the base."
        ) from error
    check_finite(loaded, repr(name))
    return loaded
