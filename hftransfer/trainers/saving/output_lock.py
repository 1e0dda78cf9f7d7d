"""Lock on the output folder of a recipe, which is checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...stages import stage
from ..config import AdaptationConfig
from .checkpoint_choice import find_checkpoint
from .folder_lock import hold, release
from .output_folder import check_output_dir, check_resumed_dir, resume_hint
from .process_agreement import raise_together
from .resume_setting import read_resume
from .written_files import RECIPE_FILES, RUN_FILES


@contextmanager
def lock_output_dir(args: AdaptationConfig, dry_run: bool = False) -> Iterator[None]:
    """Lock and check of a run's output folder, before anything is loaded; all processes raise if one does.

    If the run is stopped in the block, its last words say what is saved and how to go on.

    Args:
        args: an `AdaptationConfig`; its `resume_from_checkpoint` becomes the path that is meant.
        dry_run: nothing will be written: only the checkpoint is looked up.

    Raises:
        FileExistsError, PermissionError: it holds another run, or files of somebody else's that would be replaced, or
            cannot be written to.
        FileNotFoundError, ValueError: there is no checkpoint to go on from, or it is not whole.
        FolderInUse: another run writes to it.

    Example:
        >>> args = AdaptationConfig(output_dir="out")
        >>> with lock_output_dir(args):
        ...     trainer = AdaptationTrainer("sentence-transformers/all-MiniLM-L6-v2", args, news)
    """
    folder, should_write = Path(str(args.output_dir)), args.should_save
    locked = False

    def lock() -> None:
        nonlocal locked
        if should_write:
            hold(folder)
            locked = True
        args.resume_from_checkpoint = _checkpoint(args, digests=should_write)
        if not should_write:
            return
        names = (*RUN_FILES, *RECIPE_FILES)
        checkpoint = args.resume_from_checkpoint
        if checkpoint is not None and Path(checkpoint).resolve().parent == folder.resolve():
            check_resumed_dir(folder, names)
        else:
            check_output_dir(folder, args.overwrite_output_dir, names)

    with stage("checking the settings", if_stopped=lambda: resume_hint(str(args.output_dir))):
        try:
            if dry_run:
                args.resume_from_checkpoint = _checkpoint(args)
            else:
                raise_together(lock, args.world_size)
            yield
        finally:
            if locked:
                release(folder)


def _checkpoint(args: AdaptationConfig, digests: bool = True) -> str | None:
    """Checkpoint that a run will resume from; see `find_checkpoint`."""
    if not read_resume(args.resume_from_checkpoint):
        return None
    return find_checkpoint(str(args.output_dir), args.resume_from_checkpoint, digests)
