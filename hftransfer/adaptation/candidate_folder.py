"""Folder of a finished candidate: its record, and whether its files are those that were written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..trainers.saving.checkpoint_choice import last_good_checkpoint
from ..trainers.saving.checkpoint_files import digest
from ..trainers.saving.written_files import CARD, read_json, write_whole
from .stored_predictions import StoredPredictions

STARTED, DONE, PREDICTIONS = "started.json", "candidate.json", "predictions.npz"
WEIGHTS = ("model*.safetensors*", "adapter_model*.safetensors")
KEPT_BACK = (DONE, PREDICTIONS, STARTED, "training_args.json")  # are not handed over


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a candidate's saved model.

    Args:
        class_names: in the order of its logits.
        class_counts: labelled source rows (words in tagging) of each that were trained on.
        head: name of the final layer in the plain model.
        task: sequence-classification or token-classification.
        modality: text or image.
    """

    class_names: list[str]
    class_counts: list[int]
    head: str
    task: str
    modality: str


def write_record(folder: Path, predictions: StoredPredictions, record: Mapping[str, Any]) -> None:
    """Predictions and record of a finished candidate, the record last; its checkpoints, of no more use, removed."""
    predictions.save(folder / PREDICTIONS)
    write_model_record(folder, dict(record) | {"predictions": _facts(folder / PREDICTIONS)})


def write_model_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Record of a candidate whose model is saved; its checkpoints, of no more use, removed."""
    write_whole(folder / DONE, json.dumps(dict(record) | {"files": file_facts(folder)}, indent=1))
    remove_checkpoints(folder)


def begin_candidate(folder: Path, key: str, run: str) -> str | None:
    """Checkpoint that a candidate's training goes on from; `None` for the start, in a folder that is emptied.

    Args:
        folder: the candidate's.
        key: of what it is made from.
        run: key of the run that it belongs to.
    """
    (folder / DONE).unlink(missing_ok=True)
    if read_json(folder / STARTED).get("key") == key:
        return last_good_checkpoint(folder, digests=True)
    remove_candidate(folder)
    folder.mkdir(parents=True)
    write_whole(folder / STARTED, json.dumps({"key": key, "run": run}))
    return None


def read_record(folder: Path, key: str, digests: bool = True) -> tuple[dict[str, Any], str]:
    """Record of a candidate that was made to the end and whose model is whole; and what is wrong with it.

    Args:
        folder: the candidate's.
        key: of what it is made from; of another, there is no record here.
        digests: read every file; otherwise their sizes are enough.

    Returns:
        The record, empty without one, and a sentence where there was one that cannot be used.
    """
    if not (folder / DONE).is_file():
        return {}, ""
    record = read_json(folder / DONE)
    if not _is_valid(record):
        return {}, f"{folder / DONE} is damaged."
    if record["key"] != key:
        return {}, ""
    fault = next(file_faults(folder, record.get("files", {}), digests), "")
    if not fault and not any(path.is_file() for pattern in WEIGHTS for path in folder.glob(pattern)):
        fault = f"its weights are missing from {folder}."
    return ({}, fault) if fault else (record, "")


def read_predictions(folder: Path, record: Mapping[str, Any]) -> StoredPredictions:
    """Predictions that stand beside a record.

    Raises:
        ValueError: they are missing, or not those that were written.
    """
    written = record.get("predictions")
    fault = next(file_faults(folder, {PREDICTIONS: written} if written else {}, True), "")
    if fault:
        raise ValueError(fault)
    return StoredPredictions.load(folder / PREDICTIONS)


def model_files(folder: Path) -> list[Path]:
    """Files of a candidate's model that are handed over with it; the card may be edited and is none of them."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (*KEPT_BACK, CARD) and not path.name.startswith(("_", "."))
    ]


def remove_checkpoints(folder: Path) -> None:
    """Removal of a finished candidate's checkpoints."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def remove_candidate(folder: Path) -> None:
    """Removal of a candidate; first of the record by which it is known as whole."""
    (folder / DONE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def file_facts(folder: Path) -> dict[str, list[Any]]:
    """Size and digest of each file of a model, by which it is known as whole later."""
    return {path.name: _facts(path) for path in model_files(folder)}


def _facts(path: Path) -> list[Any]:
    return [path.stat().st_size, digest(path)]


def file_faults(folder: Path, files: Mapping[str, Any], digests: bool = True) -> Iterator[str]:
    """Sentences on files that are missing, or not those that were written."""
    for name, (size, written) in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing."
        elif path.stat().st_size != size or (digests and digest(path) != written):
            yield f"{path} is damaged: it is not what was written."


def _is_valid(record: Mapping[str, Any]) -> bool:
    """Whether a record has all that is read of it, each of its kind."""
    model, numbers = record.get("model"), (int, float)
    files = [*record.get("files", {}).items()] if isinstance(record.get("files", {}), Mapping) else [None]
    files += [(PREDICTIONS, record["predictions"])] if "predictions" in record else []
    weights = record.get("class_weights") or {}
    return (
        isinstance(record.get("key"), str)
        and isinstance(record.get("seconds"), numbers)
        and isinstance(record.get("findings", []), list)
        and isinstance(record.get("proxy_a_distance", 0.0), (*numbers, type(None)))
        and isinstance(weights, Mapping)
        and all(isinstance(weight, numbers) for weight in weights.values())
        and all(file is not None and isinstance(file[1], list) and len(file[1]) == 2 for file in files)
        and isinstance(model, Mapping)
        and set(model) == {field.name for field in fields(ModelFacts)}
        and all(isinstance(model[name], str) for name in ("head", "task", "modality"))
        and all(isinstance(model[name], list) for name in ("class_names", "class_counts"))
        and len(model["class_names"]) == len(model["class_counts"]) > 1
    )
