"""Output folder of a run: what it holds, and what a run may replace."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...models.atomic_folder import check_access
from .checkpoint_choice import last_good_checkpoint
from .checkpoint_files import STEP, checkpoints
from .resume_advice import resume_advice
from .written_files import MODEL_FILES, RUN_FILES, foreign_names

_old_run_folders: set[str] = set()  # folders whose run this process will replace, and has not yet


def check_output_dir(path: str | os.PathLike[str], overwrite: bool, names: Iterable[str] = RUN_FILES) -> None:
    """Check of an output folder before a new run: nothing in it would be lost. Nothing is changed.

    Args:
        path: the folder.
        overwrite: the run that it holds will be replaced, once there is something to put in its place.
        names: names of what will be written, which must be free or hftransfer's own.

    Raises:
        FileExistsError: it holds a run and `overwrite` is off, or it holds files of somebody else's under names that
            the run would write, or it is a file.
        PermissionError: it cannot be written to.

    Example:
        >>> Path("runs/mine/checkpoint-9").mkdir(parents=True)
        >>> check_output_dir("runs/mine", overwrite=False)
        Traceback (most recent call last):
        FileExistsError: runs/mine already holds a run (checkpoint-9). Choose another output_dir, ...
    """
    folder = Path(path)
    check_access(folder)
    if not folder.is_dir():
        return
    saved = checkpoints(folder)
    models = [name for name in MODEL_FILES[:3] if (folder / name).exists()]
    steps = [entry.name for entry in folder.iterdir() if STEP.fullmatch(entry.name)]
    foreign = foreign_names(folder, [*sorted(steps), *names])
    if (saved or models) and not overwrite:
        first_name = saved[0].name if saved else models[0]
        if first_name in foreign and not saved:
            raise FileExistsError(
                f"{path} already holds a run ({first_name}), which hftransfer did not make. Choose another "
                "output_dir; overwrite_output_dir=True replaces only what hftransfer made."
            )
        last = last_good_checkpoint(folder) or (str(saved[-1]) if saved else None)
        resume = f", resume_from_checkpoint={last!r} to go on with it" if last else ""
        raise FileExistsError(
            f"{path} already holds a run ({first_name}). Choose another output_dir{resume}, or "
            "overwrite_output_dir=True to replace it."
        )
    _refuse(folder, foreign)


def check_resumed_dir(path: str | os.PathLike[str], names: Iterable[str] = RUN_FILES) -> None:
    """Check of the output folder of a resumed run: no foreign file would be replaced.

    Raises:
        FileExistsError: it holds files of somebody else's under names that the run would write.
        PermissionError: it cannot be written to.
    """
    check_access(Path(path))
    _refuse(Path(path), foreign_names(Path(path), names))


def resume_hint(output_dir: str | os.PathLike[str]) -> str:
    """Hint for a run that was stopped: what is saved, and how to resume, in one line.

    Example:
        >>> resume_hint("runs/new")
        'Nothing was saved yet.'
    """
    folder = Path(output_dir)
    if str(folder.absolute()) in _old_run_folders:
        return f"Nothing was saved yet; the run that {output_dir} held before is as it was."
    last = last_good_checkpoint(output_dir)
    resume = f"The last checkpoint is {last}; {resume_advice(last)}" if last else ""
    has_model = any((folder / name).is_file() for name in MODEL_FILES[:2]) and not foreign_names(folder, MODEL_FILES)
    model = f"The model is saved in {output_dir}." if has_model else ""
    return " ".join(sentence for sentence in (model, resume) if sentence) or "Nothing was saved yet."


def keeps_old_run(path: str | os.PathLike[str], is_kept: bool) -> None:
    """Old run of a folder, noted as still there and to be replaced, or as gone."""
    (_old_run_folders.add if is_kept else _old_run_folders.discard)(str(Path(path).absolute()))


def _refuse(folder: Path, foreign: list[str]) -> None:
    if foreign:
        listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise FileExistsError(
            f"{folder} holds {listed}, which hftransfer did not write and would replace. Choose another output_dir, "
            f"or move {'it' if len(foreign) == 1 else 'them'} elsewhere."
        )
