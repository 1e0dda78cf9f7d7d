"""Claim of an output folder by a recipe: checked and locked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .agreement import alike
from .folder_lock import hold, release
from .folder_marks import BY_RECIPE, WRITTEN
from .output_folder import check_output_dir, check_resumed_dir, find_checkpoint
from .resume import read_resume


@contextmanager
def claimed_folder(args: Any) -> Iterator[None]:
    """Holds the output folder of a run, so that whatever speaks against it is said first; on all processes alike.

    Args:
        args: an `AdaptationConfig`; its `resume_from_checkpoint` becomes the path that is meant.

    Raises:
        FileExistsError, PermissionError: as `check_output_dir`.
        FileNotFoundError, ValueError: as `find_checkpoint`.
        FolderInUse: another run writes to it.
    """
    folder, writes = Path(str(args.output_dir)), args.should_save
    held = False

    def claim() -> None:
        nonlocal held
        if writes:
            hold(folder)
            held = True
        args.resume_from_checkpoint = resumed(args, digests=writes)
        if not writes:
            return
        names = (*WRITTEN, *BY_RECIPE)
        found = args.resume_from_checkpoint
        if found is not None and Path(found).resolve().parent == folder.resolve():
            check_resumed_dir(folder, names)
        else:
            check_output_dir(folder, args.overwrite_output_dir, names)

    try:
        alike(claim, args.world_size)
        yield
    finally:
        if held:
            release(folder)


def resumed(args: Any, digests: bool = True) -> str | None:
    """The checkpoint that a run will go on from; see `find_checkpoint`."""
    if not read_resume(args.resume_from_checkpoint):
        return None
    return find_checkpoint(args.output_dir, args.resume_from_checkpoint, digests)
