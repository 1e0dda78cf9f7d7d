"""Working folder of an adaptation: locked while it runs, begun or gone on with, and what it keeps when stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.disk_space import DiskFullError, enough_disk_space
from ..stages import stage
from ..trainers.saving.checkpoint_files import checkpoints
from ..trainers.saving.folder_lock import hold, release
from ..trainers.saving.output_folder import check_output_dir, check_resumed_dir
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.saving.written_files import RUN_FILES, read_json, write_whole
from .candidate_folder import DONE, STARTED, remove_candidate
from .candidate_list import RUN

if TYPE_CHECKING:
    from ..trainers.config import AdaptationConfig

CANDIDATES = "_candidates"  # the underscore keeps it from being uploaded
RESULT, REPORT = "adaptation.json", "report.html"


@contextmanager
def working_in(folder: Path, args: AdaptationConfig) -> Iterator[None]:
    """Output folder, locked; a run that ends before it has made anything leaves nothing there.

    Whatever stops a run in the block comes with what is kept and how to go on.

    Raises:
        FolderInUse: another run writes to it.
        FileExistsError, PermissionError: there can be no folder, or none that can be written to.
        DiskFullError: what is written in the block does not fit.
    """
    advice = partial(what_is_kept, folder)
    decided_by_first(lambda: hold(folder), args.world_size)
    try:
        with stage("adapting", if_stopped=advice, takes_over=True), enough_disk_space("this run", folder, 0):
            yield
    except DiskFullError as error:
        raise DiskFullError(f"{error} {advice()}") from error
    finally:
        if args.process_index == 0:
            candidates = folder / CANDIDATES
            if not holds_work(candidates) and (candidates / RUN).is_file():
                shutil.rmtree(candidates, ignore_errors=True)
            release(folder)


def _differing(earlier: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    """Names of what is not as in an earlier run, after ": "; nothing of a run that has no list of it."""
    before = earlier.get("parts")
    if not isinstance(before, dict):
        return ""
    names = [name for name in {**parts, **before} if parts.get(name) != before.get(name)]
    return f": {', '.join(names)} differ{'s' if len(names) == 1 else ''}"


def what_is_kept(folder: Path) -> str:
    """What is kept of a run that was stopped, and how it goes on.

    Args:
        folder: its output folder.

    Example:
        >>> what_is_kept(Path("runs/new"))
        'Nothing was saved yet.'
    """
    candidates = folder / CANDIDATES
    key = read_json(candidates / RUN).get("key")
    ours = [path for path in sorted(candidates.glob("*")) if run_of(path) == key]
    finished = [path.name for path in ours if (path / DONE).is_file()]
    begun = [path for path in ours if path.name not in finished]
    kept = [", ".join(finished)] * bool(finished)
    kept += [f"{saved[-1].name} of {path.name}" for path in begun if (saved := checkpoints(path))]
    if not kept:
        return "Nothing was saved yet."
    return f"Kept in {candidates}: {' and '.join(kept)}. The same call goes on from there."


def run_of(candidate: Path) -> str | None:
    """Key of the run that a candidate's folder was made in, as its records have it; `None` without."""
    key = read_json(candidate / DONE).get("run") or read_json(candidate / STARTED).get("run")
    return key if isinstance(key, str) else None


def remove_replaced(candidates: Path, key: str) -> None:
    """Removal of candidates that another run made, which this one has replaced."""
    for path in candidates.iterdir():
        if run_of(path) not in (None, key):
            remove_candidate(path)


def holds_run(folder: Path) -> bool:
    """Whether an output folder holds a result of `adapt`, or candidates that took some work."""
    return (folder / RESULT).is_file() or holds_work(folder / CANDIDATES)


def holds_work(candidates: Path) -> bool:
    """Whether a folder of candidates holds one that is finished, or a checkpoint of one."""
    return any(candidates.glob(f"*/{DONE}")) or any(candidates.glob("*/checkpoint-*"))


def start_run(
    folder: Path,
    key: str,
    parts: Mapping[str, str],
    args: AdaptationConfig,
    results: tuple[str, ...] = (RESULT, REPORT),
) -> None:
    """Output folder of this run: a new one, or one that the same run is in already.

    Args:
        folder: the output folder.
        key: of what all candidates are made from.
        parts: hashes of which it is made, by what they are of.
        args: whether another run may be replaced.
        results: names of the files that tell of the result, the facts first.

    Raises:
        FileExistsError: it holds another run, and `overwrite_output_dir` is off; or files of somebody else's under
            names of what will be written.
    """
    candidates = folder / CANDIDATES
    record = candidates / RUN
    earlier = read_json(record).get("key")
    names = (*RUN_FILES, *results)
    others = [path for path in candidates.iterdir() if not path.name.startswith(RUN)] if candidates.is_dir() else []
    ours = [path for path in others if (path / DONE).is_file() or (path / STARTED).is_file()]
    if earlier is None and len(ours) < len(others):
        raise FileExistsError(
            f"{candidates} was not made by `adapt`, which keeps candidates under that name. Move it elsewhere, or "
            "choose another output_dir."
        )
    if earlier == key:
        check_resumed_dir(folder, names)
    elif (
        (ours or earlier is not None)
        and not args.overwrite_output_dir
        and (holds_work(candidates) or (folder / results[0]).is_file())
    ):
        raise FileExistsError(
            f"{folder} holds an adaptation with other data or settings{_differing(read_json(record), parts)}. Choose "
            "another output_dir, or overwrite_output_dir=True to replace it."
        )
    else:
        check_output_dir(folder, args.overwrite_output_dir, names)
    candidates.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps({"made_by": "hftransfer", "key": key, "parts": dict(parts)}))
