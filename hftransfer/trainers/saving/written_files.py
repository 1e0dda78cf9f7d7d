"""Record of the files that hftransfer wrote to an output folder: only these are ever replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .checkpoint_files import checkpoints, digest, is_ours

RECORD = "_hftransfer.json"  # the underscore keeps it from being uploaded
CARD, RESULTS = "README.md", "results.json"
COMPARISON = "_source_only/results.json"  # of the model trained without the target, inside a run's folder
ROWS = ("adapted", "source-only")  # of results.json
MODEL_FILES = (
    "config.json",
    "adapter_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
)
# What a run may write besides its checkpoints. Tokenizers have more names; a trainer looks those up.
RUN_FILES = (
    *MODEL_FILES,
    "training_args.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    CARD,
    RECORD,
)
RECIPE_FILES = (RESULTS, COMPARISON)


def recorded_files(folder: Path) -> dict[str, str | None]:
    """Names of the files that hftransfer wrote to a folder, by its record; with a digest for README.md."""
    files = read_json(folder / RECORD).get("files")
    return dict(files) if isinstance(files, dict) else {}


def record_written(folder: Path, names: Iterable[str], aside: Path | None = None, anew: bool = False) -> None:
    """Names added to a folder's record, without files that are gone. The record is replaced by one rename.

    Args:
        folder: whose record it is.
        names: of files that hftransfer wrote.
        aside: a folder with files that are about to be moved there, to which the new record is written.
        anew: what was recorded before is about to be moved away.
    """
    record_folder = aside or folder
    recorded = {} if anew else recorded_files(folder)
    digests = {name: digest_then for name, digest_then in recorded.items() if (folder / name).exists()}
    for name in names:
        digests[name] = digest(record_folder / name) if name == CARD and (record_folder / name).is_file() else None
    write_whole(
        record_folder / RECORD, json.dumps({"made_by": "hftransfer", "files": dict(sorted(digests.items()))}, indent=1)
    )


def foreign_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Names of files in a folder that hftransfer did not write, out of `names` and in their order."""
    recorded, is_older_version = recorded_files(folder), _made_by_us(folder)
    return [
        name
        for name in names
        if os.path.lexists(folder / name) and not _is_ours(folder, name, recorded, is_older_version)
    ]


def is_edited_card(folder: Path) -> bool:
    """Whether a folder's README.md is somebody else's, or was changed after hftransfer wrote it."""
    path = folder / CARD
    if not path.exists():
        return False
    recorded_digest = recorded_files(folder).get(CARD)
    return digest(path) != recorded_digest if recorded_digest else bool(foreign_names(folder, [CARD]))


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if it is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_whole(path: Path, text: str) -> None:
    """Small file, written by one rename: a reader finds the old text or the new one, never a part."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _is_ours(folder: Path, name: str, recorded: dict[str, str | None], is_older_version: bool) -> bool:
    """Whether hftransfer wrote a file: by the record or, of versions without one, by its content."""
    path = folder / name
    if name in recorded or (name == RECORD and recorded):
        return True
    if path.is_dir():
        return is_ours(path) or is_older_version
    if name == CARD:
        return is_older_version and "hftransfer" in path.read_text(encoding="utf-8", errors="replace")
    if name in (RESULTS, COMPARISON):
        scores = read_json(path)
        return bool(scores) and (set(scores) <= set(ROWS) if name == RESULTS else _are_numbers(scores.values()))
    return is_older_version


def _made_by_us(folder: Path) -> bool:
    """Whether the model in a folder is one that hftransfer saved, by its config and arguments."""
    settings = read_json(folder / "training_args.json")
    return {"objectives", "target_ratio"} <= set(settings) or "hftransfer" in read_json(folder / "config.json")


def run_item_names(folder: Path, names: Iterable[str] = ()) -> list[str]:
    """Names of a run's files and checkpoints in a folder, as far as hftransfer made them.

    The model comes first, so that the folder never holds half of one.

    Args:
        folder: the output folder.
        names: of files that such a run writes besides the usual ones.
    """
    patterns = ("model*.safetensors*", "adapter_model*.safetensors")
    weights = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    saved = [path.name for path in checkpoints(folder)]
    candidates = [*MODEL_FILES[:2], *weights, *saved, *recorded_files(folder), *names, *RUN_FILES, *RECIPE_FILES]
    present = [name for name in dict.fromkeys(candidates) if os.path.lexists(folder / name)]
    foreign = set(foreign_names(folder, present)) | ({CARD} if is_edited_card(folder) else set())
    return [name for name in present if name not in foreign]


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)
