"""Cache folder of features: where it is, what is in it, and its size limit."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .feature_store import RECIPE, SET

FOLDER, SIZE = "HFTRANSFER_CACHE", "HFTRANSFER_CACHE_SIZE"
DEFAULT_SIZE = "20 GB"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
ABANDONED = 24 * 3600.0  # seconds after which parts are taken for those of a pass that was killed


@dataclass(frozen=True)
class CacheEntry:
    """Set of features in the cache, or the parts of a pass that goes on or was killed.

    Attributes:
        folder: its own.
        model, kind: of what the features are.
        settings: pooling, layers and the rest, as text.
        rows: of features; `None` of parts.
        size: in bytes.
        used: seconds since 1970 when it was last read or written.
    """

    folder: Path
    model: str
    kind: str
    settings: str
    rows: int | None
    size: int
    used: float


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the cache: the given one, `$HFTRANSFER_CACHE`, or `hftransfer/features` in the Hub's cache.

    Raises:
        TypeError: no path.
        ValueError: an empty path.
        NotADirectoryError: a file.
    """
    name = "cache_dir"
    if folder is None:
        from huggingface_hub.constants import HF_HOME

        name, folder = FOLDER, os.environ.get(FOLDER) or Path(HF_HOME) / "hftransfer" / "features"
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"{name}={folder!r} must be the path of a folder, None or False.")
    if not os.fspath(folder):
        raise ValueError(f"{name} is an empty text: name a folder, or leave it out.")
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{name} {str(path)!r} is a file: name a folder.")
    return path


def cache_size(size: str | int | None = None) -> int:
    """Size limit in bytes: the given one, `$HFTRANSFER_CACHE_SIZE`, or 20 GB.

    Raises:
        ValueError: no size.

    Example:
        >>> cache_size("1.5 GB"), cache_size(1000)
        (1500000000, 1000)
    """
    given = size if size is not None else os.environ.get(SIZE) or DEFAULT_SIZE
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", str(given).upper())
    if match is None:
        raise ValueError(f"{given!r} is no size of a cache: write it as '20 GB', or as a number of bytes ({SIZE}).")
    return int(float(match[1]) * UNITS[match[2] if match[2] in UNITS else f"{match[2]}B"])


def cache_entries(folder: str | os.PathLike[str] | None = None) -> list[CacheEntry]:
    """What is in the cache, the least recently used first.

    Args:
        folder: of the cache; the usual one when `None`.
    """
    entries: list[CacheEntry] = []
    root = cache_folder(folder)
    for recipe_file in root.glob(f"*/{RECIPE}"):
        facts = _read(recipe_file)
        recipe, about = facts.get("recipe", {}), facts.get("about", {})
        settings = ", ".join(
            [
                "+".join(map(str, recipe.get("poolings", []))),
                "layer " + "+".join(map(str, recipe.get("layers", []))),
                str(recipe.get("dtype", "")),
                *([f"{recipe['max_length']} tokens"] if recipe.get("max_length") else []),
            ]
        )
        described = (str(about.get("model", "")), str(recipe.get("kind", "")), settings)
        for path in [*(recipe_file.parent / "sets").glob("*"), recipe_file.parent / "parts"]:
            files = [file.stat() for file in _files(path)]
            size = sum(status.st_size for status in files)
            if not size:
                continue
            stored = _read(path / SET)
            rows = sum(part[2] for part in stored["parts"]) if "parts" in stored else None
            used = max(status.st_mtime for status in files)
            entries.append(CacheEntry(path, *described, rows, size, used))
    return sorted(entries, key=lambda entry: entry.used)


def trim(folder: str | os.PathLike[str], limit: int, keep: Collection[Path] = ()) -> list[CacheEntry]:
    """Least recently used entries, removed until the cache is no larger than `limit`.

    Args:
        folder: of the cache.
        limit: bytes.
        keep: folders of sets that stay. So do parts that were written in the last day: a pass may go on.

    Returns:
        What was removed.
    """
    entries = cache_entries(folder)
    size, removed = sum(entry.size for entry in entries), []
    for entry in entries:
        in_use = entry.rows is None and time.time() - entry.used < ABANDONED
        if size <= limit:
            break
        if entry.folder not in keep and not in_use:
            remove(entry)
            removed.append(entry)
            size -= entry.size
    return removed


def remove(entry: CacheEntry) -> None:
    """Entry, removed; arrays that were opened from it stay readable where the system allows it."""
    shutil.rmtree(entry.folder, ignore_errors=True)
    recipe_folder = entry.folder.parent if entry.rows is None else entry.folder.parent.parent
    if not any(_files(recipe_folder / name) for name in ("sets", "parts")):
        with suppress(OSError):
            shutil.rmtree(recipe_folder)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
