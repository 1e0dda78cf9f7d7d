"""Where a run goes on from: what `resume_from_checkpoint` may be, and the checkpoint that it means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

TRAINER_STATE = "trainer_state.json"


def read_resume(value: Any) -> str | bool:
    """What `resume_from_checkpoint` says: a path, `True` for the last checkpoint of the output folder, or `False`.

    A command line and a YAML file have no other way to say `True` than the word.

    Args:
        value: `None`, a bool, one of the words "true" and "false", or a path: a string or anything path-like.

    Raises:
        TypeError: it is anything else.
        ValueError: it is an empty string.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(
            f"resume_from_checkpoint={value!r} is of type {type(value).__name__}: give the folder of a checkpoint, or "
            "True for the last one of output_dir."
        )
    path = os.fspath(value)
    if isinstance(value, str) and path.strip().lower() in ("true", "false"):
        return path.strip().lower() == "true"
    if not path.strip():
        raise ValueError(
            "resume_from_checkpoint is an empty string: give the folder of a checkpoint, True for the last one of "
            "output_dir, or leave it out."
        )
    return str(Path(path).expanduser())


def find_checkpoint(path: str, resume: Any) -> str:
    """The checkpoint to go on from: `resume` itself, or the last one of the output folder when it is `True`.

    Args:
        path: the output folder.
        resume: see `read_resume`.

    Raises:
        FileNotFoundError: there is none, or the folder holds checkpoints and is none.
        TypeError, ValueError: as `read_resume`.
    """
    wanted = read_resume(resume)
    if isinstance(wanted, str):
        _check_is_checkpoint(wanted)
        return wanted
    found = get_last_checkpoint(path) if Path(path).is_dir() else None
    if found is None:
        raise FileNotFoundError(
            f"There is no checkpoint to resume from: {path} does not hold one. Start without resume_from_checkpoint."
        )
    return found


def _check_is_checkpoint(path: str) -> None:
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file, not the folder of a checkpoint" if folder.exists() else "does not exist"
        near = _those_in(folder.parent)
        remedy = f"{folder.parent} holds {near}." if near else "Start without resume_from_checkpoint."
        raise FileNotFoundError(f"There is no checkpoint to resume from: {path} {what}. {remedy}")
    if not (folder / TRAINER_STATE).is_file():
        inside = _those_in(folder)
        if inside:
            raise FileNotFoundError(
                f"{path} is the folder of a run, not a checkpoint; it holds {inside}. Name one of them, or give True "
                "for the last one of output_dir."
            )
        raise FileNotFoundError(
            f"{path} is no checkpoint to resume from: it has no {TRAINER_STATE}. A model that was saved at the end of "
            "a run has none; pass it as `model`, and start without resume_from_checkpoint."
        )


def _those_in(folder: Path) -> str:
    """The checkpoints of a folder, in words."""
    names = [Path(path).name for path in sort_checkpoints(str(folder))] if folder.is_dir() else []
    return ", ".join(names[-5:]) if names else ""
