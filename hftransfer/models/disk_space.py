"""Disk space: what a save needs, what is free, and one error when it is not enough."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Linux says no space, over quota, or beyond the limit of a file's size; libraries put the first into words.
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
WORDS = ("no space left", "os error 28", "os error 27", "os error 122", "disk quota", "file too large")
TORCH = ("PytorchStreamWriter failed", "inline_container.cc", "unexpected pos")  # which gives no reason
SMALL = 1 << 20  # settings, states of the trainer
ROOM = "Make room, or choose an output_dir on another disk."


class DiskFullError(OSError):
    """Error of a save that does not fit on the disk. What was there before is whole."""


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Free bytes of the disk where a folder is or will be."""
    existing_folder = Path(folder).absolute()
    while not existing_folder.exists():
        existing_folder = existing_folder.parent
    return shutil.disk_usage(existing_folder).free


def tensor_bytes(tensors: Iterable[Any]) -> int:
    """Bytes of tensors as they are written."""
    return sum(t.numel() * t.element_size() for t in tensors)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, a quota used up or a file too large."""
    message = str(error).lower()
    return (
        (isinstance(error, OSError) and error.errno in FULL)
        or any(word in message for word in WORDS)
        or any(word in str(error) for word in TORCH)
        or (error.__cause__ is not None and is_disk_full(error.__cause__))
    )


@contextmanager
def enough_disk_space(
    what: str, folder: str | os.PathLike[str], needed: int, advice: Callable[[], str] = str, remedy: str = ROOM
) -> Iterator[None]:
    """Guard of a save: it is refused where it does not fit, and a disk that fills up meanwhile becomes one message.

    Args:
        what: is saved, as the message calls it.
        folder: where to.
        needed: bytes.
        advice: what to say last; called only if something is wrong.
        remedy: how to make room; of what is not in an output folder, another one.

    Raises:
        DiskFullError: there is not enough room.

    Example:
        >>> with enough_disk_space("checkpoint-9", "runs", 3 * 10**18):
        ...     Path("runs/checkpoint-9").mkdir()
        Traceback (most recent call last):
        hftransfer.models.disk_space.DiskFullError: There is no room for checkpoint-9 in runs: it needs about ...
    """
    free = free_bytes(folder)
    if free < needed:
        raise DiskFullError(_disk_full_message(what, folder, needed, free, f"{remedy} {advice()}"))
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        message = _disk_full_message(what, folder, needed, free_bytes(folder), f"{remedy} {advice()}", error)
        raise DiskFullError(message) from error


def readable_size(size: int) -> str:
    """A size in kB, MB or GB.

    Example:
        >>> readable_size(93_000_000)
        '93.0 MB'
    """
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"


def _disk_full_message(
    what: str, folder: Any, needed: int, free: int, advice: str, error: BaseException | None = None
) -> str:
    """Message of a full disk: what was to be saved, how much it needs and how much is free."""
    reason = f" ({str(error).splitlines()[0]})" if error is not None and str(error) else ""
    needs = f"it needs about {readable_size(needed)}, and " if needed else ""
    return f"There is no room for {what} in {folder}{reason}: {needs}{readable_size(free)} are free. {advice}".rstrip()
