"""Lock of an output folder: one run writes to it at a time, and others are told which."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from ...models.atomic_folder import check_access
from .checkpoint_files import STATE_FILE, STEP
from .folder_replacement import finish_replacement
from .written_files import read_json

STAGING = "_writing"  # the underscore keeps it from being uploaded
LOCK = "run.json"  # in the staging folder, which it marks as ours
_held: dict[str, int] = {}  # how often this process holds each lock
_new_folders: set[str] = set()  # folders that were not there before they were locked
_guard = threading.RLock()


class FolderInUse(OSError):
    """Error of a lock: another run writes to the folder."""


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock of an output folder, held; one process may hold it several times.

    What a killed run left half done is finished or removed.

    Raises:
        FolderInUse: another process that lives, or may live, holds it.
        FileExistsError: the folder has a `_writing` that hftransfer did not make.

    Example:
        >>> with locked("runs/mine"):
        ...     trainer.train()
    """
    hold(folder)
    try:
        yield
    finally:
        release(folder)


def hold(folder: str | os.PathLike[str]) -> None:
    """Lock of a folder, taken; see `locked`."""
    root = Path(folder)
    with _guard:
        check_access(root)
        key = _key(root)
        if _held.get(key):
            _held[key] += 1
            return
        staging = root / STAGING
        _check_staging(staging)
        try:
            is_new = not root.is_dir()
            staging.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise FileExistsError(f"{staging} is a file, and a run writes aside under that name. Move it.") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise type(error)(f"{root} cannot be made: {reason}. Choose another output_dir.") from None
        try:
            take(staging / LOCK, root)
        except BaseException:
            with suppress(OSError):  # another run's lock keeps them
                staging.rmdir()
                if is_new:
                    root.rmdir()
            raise
        _held[key] = 1
        if is_new:
            _new_folders.add(key)
        finish_replacement(root, staging)
        clear(root)


def release(folder: str | os.PathLike[str]) -> None:
    """Lock of a folder, given back; the last time, the staging folder is removed with it."""
    root = Path(folder)
    with _guard:
        key = _key(root)
        if _held.get(key, 0) > 1:
            _held[key] -= 1
            return
        if not _held.pop(key, 0):
            return
        staging = root / STAGING
        try:
            finish_replacement(root, staging)
        finally:
            clear(root)
            drop(staging / LOCK)
            with suppress(OSError):
                staging.rmdir()
            if key in _new_folders:
                _new_folders.discard(key)
                with suppress(OSError):
                    root.rmdir()  # if there is nothing in it


def clear(folder: str | os.PathLike[str]) -> None:
    """Removal of what is in the staging folder, but not of the lock."""
    staging = Path(folder) / STAGING
    for item in staging.iterdir() if staging.is_dir() else ():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        elif item.name != LOCK:
            with suppress(OSError):
                item.unlink()


def take(lock: Path, folder: Path) -> None:
    """Lock file, written or taken over from a run that is gone.

    Args:
        lock: the file.
        folder: the folder that it is for, to be named in messages.

    Raises:
        FolderInUse: its run lives, or may live, on another machine.
    """
    for _ in range(20):
        if _create(lock):
            return
        holder = _read(lock)
        if holder is not None and _is_other_machine(holder):
            raise FolderInUse(
                f"{_in_use(folder, holder)}. Whether that run still goes on cannot be seen from here: if it is gone, "
                f"remove {lock}; otherwise wait until it ends, or choose another output_dir."
            )
        if holder is not None and _lives(holder):
            raise FolderInUse(f"{_in_use(folder, holder)}. Wait until it ends, or choose another output_dir.")
        _set_aside(lock, holder)
    raise FolderInUse(f"{folder} is being taken by several runs at once. Try again, or choose another output_dir.")


def drop(lock: Path) -> None:
    """Removal of a lock file if it is this process's."""
    holder = read_json(lock)
    if holder.get("pid") == os.getpid() and holder.get("host") == socket.gethostname():
        with suppress(OSError):
            lock.unlink()


# ---- whose it is


def _own_holder() -> dict[str, Any]:
    return {
        "made_by": "hftransfer",
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
        "started": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _machine() -> list[str]:
    """Identifiers of this machine since its start, and of this container; Linux only."""
    identifiers = []
    with suppress(OSError):
        identifiers.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        identifiers.append(os.readlink("/proc/self/ns/pid"))
    return identifiers


def _is_other_machine(holder: dict[str, Any]) -> bool:
    """Whether a lock is of another machine, or of another container, whose processes are not seen from here."""
    if holder.get("host") != socket.gethostname():
        return True
    this_machine, holder_machine = _machine(), holder.get("machine") or []
    return (
        len(this_machine) == len(holder_machine) == 2
        and this_machine[0] == holder_machine[0]
        and this_machine[1] != holder_machine[1]
    )


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a lock still lives."""
    this_machine, holder_machine = _machine(), holder.get("machine") or []
    if this_machine[:1] and holder_machine[:1] and this_machine[0] != holder_machine[0]:
        return False  # the machine was started anew since
    try:
        process = psutil.Process(int(holder.get("pid", -1)))
        same = abs(process.create_time() - float(holder.get("created", 0))) < 5  # the clock may have been set
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, TypeError):
        return False


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    return (
        f"{folder} is in use by another run: process {holder.get('pid')} on host {holder.get('host')}, started "
        f"{holder.get('started')}"
    )


# ---- files


def _create(lock: Path) -> bool:
    """Whether the lock file was made now; it was never seen half-written where the file system has links."""
    text = json.dumps(_own_holder())
    draft = lock.with_name(f".{lock.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    try:
        os.link(draft, lock)
        return True
    except FileExistsError:
        return False
    except OSError:  # no links here
        try:
            with open(lock, "x", encoding="utf-8") as file:
                file.write(text)
            return True
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)


def _read(lock: Path) -> dict[str, Any] | None:
    """Holder of a lock; `None` if the file is gone, or stays unreadable."""
    for _ in range(10):
        holder = read_json(lock)
        if holder:
            return holder
        if not lock.exists():
            return None
        time.sleep(0.1)  # it may be being written
    return None


def _set_aside(lock: Path, stale_holder: dict[str, Any] | None) -> None:
    """Removal of a stale lock file, unless another process has replaced it meanwhile."""
    aside = lock.with_name(f".{lock.name}.{os.getpid()}.stale")
    with suppress(FileNotFoundError):
        os.rename(lock, aside)
        if (read_json(aside) or None) != stale_holder:
            with suppress(OSError):
                os.link(aside, lock)
        aside.unlink()


def _check_staging(staging: Path) -> None:
    """Check that a staging folder is a run's; raises `FileExistsError`."""
    if not os.path.lexists(staging):
        return
    names = [entry.name for entry in staging.iterdir()] if staging.is_dir() else []
    is_current = not names or any(name.strip(".").startswith(LOCK) for name in names)
    is_older_version = all(STEP.fullmatch(name) or name == "replaced" for name in names) or any(
        name in names for name in (STATE_FILE, "training_args.json", "training_args.bin")
    )
    if not staging.is_dir() or not (is_current or is_older_version):
        raise FileExistsError(
            f"{staging} was not made by hftransfer, which writes aside under that name. Move it, or choose another "
            "output_dir."
        )


def _key(folder: Path) -> str:
    """Key of a folder in this process: a forked one holds none of its parent's locks."""
    return f"{os.getpid()} {folder.resolve()}"
