"""Output folder of a trainer: checked before training, locked while written to, at a fixed path."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.adapter_folders import LABELS_FILE
from ...models.adapters import is_peft
from ..trainer_access import config_of, joint_model_of
from .adapter_merge import merges_adapter
from .checkpoint_choice import find_checkpoint
from .folder_lock import STAGING, hold, release
from .output_folder import check_output_dir, check_resumed_dir, keeps_old_run
from .process_agreement import raise_together
from .resume_setting import read_resume
from .run_settings import check_same_run, describe_run
from .written_files import RUN_FILES, run_item_names

if TYPE_CHECKING:
    from transformers import Trainer

    from ..setup.preparation import Prepared


class RunFolder:
    """The output folder of a trainer.

    It is locked while a run writes to it. Of what it holds, only what hftransfer wrote is replaced, and not before
    there is something to put in its place.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.

    Attributes:
        keeps_old_run: the run that the folder held before is still there, and will be replaced.
        file_names: of the files that the run may write to it.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.keeps_old_run = False
        self.file_names: Sequence[str] = ()
        self._is_ours = False  # this trainer has trained there
        self._pinned: tuple[str, str] | None = None  # the path as it was passed, and absolute

    @property
    def path(self) -> Path:
        return Path(str(self.trainer.args.output_dir))

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Lock of a folder, held by the process that writes; all processes raise if it cannot be had."""
        args = self.trainer.args
        should_write, absolute = args.should_save, folder.absolute()  # the working directory may be changed meanwhile
        raise_together(lambda: hold(folder) if should_write else None, args.world_size)
        try:
            yield
        finally:
            if should_write:
                release(absolute)

    def pin(self) -> None:
        """Path of the output folder, fixed: a relative one stays valid when the working directory changes."""
        path = str(self.trainer.args.output_dir)
        if self._pinned is None or self._pinned[0] != path:
            self._pinned = (path, os.path.abspath(path))
        elif os.path.abspath(path) != self._pinned[1]:
            self.trainer.args.output_dir = self._pinned[1]

    @contextmanager
    def training(self, resume: str | os.PathLike[str] | bool | None = None) -> Iterator[str | None]:
        """The folder, checked and locked for training; yields the checkpoint to resume from.

        Raises:
            FileExistsError, PermissionError: as `check_output_dir`.
            FileNotFoundError, ValueError: as `find_checkpoint`.
            FolderInUse: another run writes to it.
        """
        self.pin()
        with self.locked(self.path):
            checkpoint = self.check(resume)
            self._is_ours = True
            yield checkpoint

    def check(self, resume: str | os.PathLike[str] | bool | None = None) -> str | None:
        """Check that training could write to the folder without a loss. Nothing is changed.

        Args:
            resume: a checkpoint to go on from, or `True` for the last one.

        Returns:
            The checkpoint to go on from.

        Raises:
            FileExistsError: it holds another run, or files of somebody else's that would be replaced.
            PermissionError: it cannot be written to.
            FileNotFoundError, ValueError: there is no checkpoint to go on from, or it is not whole.
        """
        return raise_together(lambda: self._check(resume), self.trainer.args.world_size)

    def _check(self, resume: str | os.PathLike[str] | bool | None) -> str | None:
        args, folder = config_of(self.trainer), self.path
        should_write = args.should_save
        checkpoint = find_checkpoint(folder, resume, digests=should_write) if read_resume(resume) else None
        if checkpoint is not None:
            check_same_run(checkpoint, self.describe_run())
        if not should_write or (self._is_ours and checkpoint is None):
            return checkpoint
        names = [*RUN_FILES, *self._processing_files(folder)]
        if is_peft(joint_model_of(self.trainer).model) and not merges_adapter(self.trainer, self.prepared):
            names.append(LABELS_FILE)
        inside = checkpoint is not None and Path(checkpoint).resolve().parent == folder.resolve()
        if inside:
            check_resumed_dir(folder, names)
        else:
            check_output_dir(folder, args.overwrite_output_dir, names)
        self.file_names = names
        self.keeps_old_run = not inside and folder.is_dir() and bool(run_item_names(folder, names))
        keeps_old_run(folder, self.keeps_old_run)
        return checkpoint

    def describe_run(self) -> dict[str, Any]:
        """Settings that must be the same when the run goes on from a checkpoint, as plain JSON."""
        return describe_run(self.trainer, self.prepared)

    def replaced(self) -> None:
        """Old run of the folder, noted as gone."""
        self.keeps_old_run = False
        keeps_old_run(self.path, False)

    def _processing_files(self, folder: Path) -> list[str]:
        """Names of the files that the tokenizer or image processor is saved as; none for an empty folder."""
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        processing = self.trainer.processing_class
        if processing is None or not names - {STAGING}:
            return []
        with (
            tempfile.TemporaryDirectory() as aside,
            suppress(Exception),
        ):  # what is wrong with it shows when it is saved
            processing.save_pretrained(aside)
            return sorted(path.name for path in Path(aside).iterdir())
        return []
