"""Replacement of a folder's content by what is in its staging folder; finished at the next start if killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .written_files import read_json, write_whole

JOURNAL = "replacing.json"  # in the staging folder, while a replacement is under way
OLD = "old"


def replace_items(folder: Path, staging: Path, old: Sequence[str], new: Sequence[tuple[str, str]]) -> None:
    """Replacement of `old` in a folder by `new`, each in its order.

    What is to be done is written down first, so that a kill at any moment leaves the old, or what
    `finish_replacement` makes the new of.

    Args:
        folder: where both stand.
        staging: a folder inside it, with what was written aside.
        old: names in the folder.
        new: names in the staging folder, each with its name in the folder.
    """
    write_whole(staging / JOURNAL, json.dumps({"old": list(old), "new": [list(pair) for pair in new]}))
    finish_replacement(folder, staging)


def flush_files(folder: Path) -> None:
    """Flush of a folder's files, so that a rename does not reach the disk before their content."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def finish_replacement(folder: Path, staging: Path) -> None:
    """Rest of a replacement that was begun; nothing without one."""
    journal = staging / JOURNAL
    if not journal.is_file():
        return
    todo = read_json(journal)
    old, new = todo.get("old", []), todo.get("new", [])
    for name in old:
        if os.path.lexists(folder / name):
            aside = staging / OLD / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / name, aside)
    if old:  # from here on, what stands under these names is new
        write_whole(journal, json.dumps({"old": [], "new": new}))
    for aside_name, name in new:
        if os.path.lexists(staging / aside_name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            move = os.rename if (staging / aside_name).is_dir() else os.replace
            move(staging / aside_name, folder / name)
    journal.unlink()
    shutil.rmtree(staging / OLD, ignore_errors=True)
