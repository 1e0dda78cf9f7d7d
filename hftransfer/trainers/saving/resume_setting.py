"""The setting `resume_from_checkpoint`: a checkpoint's path, or the last one, read and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .checkpoint_files import TRAINER_STATE, checkpoints, is_ours


def read_resume(value: Any) -> str | bool:
    """Value of `resume_from_checkpoint`: a path, `True` for the last checkpoint of the output folder, or `False`.

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


def check_is_checkpoint(path: str, output_dir: str | os.PathLike[str]) -> None:
    """Check that a path is a checkpoint; a `FileNotFoundError` says what it is instead.

    Args:
        path: of the checkpoint.
        output_dir: of the run, which may hold the one that is meant.
    """
    folder = Path(path)
    if not folder.is_dir():
        problem = "is a file, not the folder of a checkpoint" if folder.exists() else "does not exist"
        run_folder = next((candidate for candidate in (folder.parent, Path(output_dir)) if _those_in(candidate)), None)
        remedy = "Start without resume_from_checkpoint."
        if run_folder is not None:
            remedy = (
                f"{run_folder} holds {_those_in(run_folder)}. Give the path of one, or True for the last one of "
                "output_dir."
            )
        raise FileNotFoundError(f"There is no checkpoint to resume from: {path} {problem}. {remedy}")
    if not is_ours(folder) and not (folder / TRAINER_STATE).is_file():
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
    """Names of a folder's last checkpoints, for a message."""
    return ", ".join(path.name for path in checkpoints(folder)[-5:])
