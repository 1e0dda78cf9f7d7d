"""Checkpoint to resume from: the one that is asked for, or the last that is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .checkpoint_files import by_age, fault
from .resume_setting import check_is_checkpoint, read_resume


def find_checkpoint(path: str | os.PathLike[str], resume: Any, digests: bool = True) -> str:
    """Checkpoint to resume from: `resume` itself, or the last one of the output folder when it is `True`.

    Args:
        path: the output folder.
        resume: see `read_resume`.
        digests: read every file; otherwise names and sizes are looked at.

    Raises:
        FileNotFoundError: there is none, or it is a folder of another kind.
        TypeError: as `read_resume`.
        ValueError: it is not whole; names the file, and the last checkpoint that is.
    """
    choice = read_resume(resume)
    if isinstance(choice, str):
        check_is_checkpoint(choice, path)
        checkpoint = choice
    elif saved := by_age(path):
        checkpoint = str(saved[-1])
    else:
        raise FileNotFoundError(
            f"There is no checkpoint to resume from: {path} does not hold one. Start without resume_from_checkpoint."
        )
    found_fault = fault(Path(checkpoint), digests)
    if found_fault is not None:
        raise ValueError(not_resumable(checkpoint, found_fault, path))
    return checkpoint


def not_resumable(checkpoint: str, reason: str, path: str | os.PathLike[str]) -> str:
    """Message for a checkpoint that cannot be resumed, with one that can.

    Args:
        checkpoint: its folder.
        reason: with it, as `fault` says it.
        path: the output folder.
    """
    beside = Path(checkpoint).parent
    usable = last_good_checkpoint(beside, checkpoint, digests=True)
    if usable is None and beside.resolve() != Path(path).resolve():
        usable = last_good_checkpoint(path, digests=True)
    remedy = (
        f"The last whole checkpoint is {usable}: go on from it with resume_from_checkpoint={usable!r}."
        if usable
        else "There is no whole checkpoint beside it: start without resume_from_checkpoint, in another output_dir."
    )
    return f"{checkpoint} cannot be resumed: {reason}. {remedy}"


def last_good_checkpoint(
    path: str | os.PathLike[str], besides: str | os.PathLike[str] | None = None, digests: bool = False
) -> str | None:
    """Last checkpoint of a folder that training can resume from.

    Args:
        path: the folder.
        besides: a checkpoint that is not meant.
        digests: read every file; otherwise names and sizes are looked at.
    """
    avoided = Path(besides).name if besides else None
    saved = [checkpoint for checkpoint in by_age(path) if checkpoint.name != avoided]
    return next((str(c) for c in reversed(saved) if fault(c, digests) is None), None)
