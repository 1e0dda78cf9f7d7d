"""Output folders: checked before a run, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .disk_space import enough_disk_space


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write to, beside `path`. It becomes `path` when the block ends, and is removed when the block fails.

    Raises:
        OSError: as `check_new_folder`.
        DiskFullError: there is not enough room.
    """
    final = Path(path).expanduser()
    check_new_folder(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        with enough_disk_space("the model", final.parent, 0):
            yield staging
        os.chmod(staging, 0o755)  # mkdtemp's own is for its maker's eyes only
        os.rename(staging, final)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def check_new_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be made, before there is anything to put into it.

    Args:
        path: the folder; `~` is the home folder.

    Raises:
        FileExistsError: there is something at `path` already.
        NotADirectoryError, PermissionError, OSError, ValueError: it cannot be made; as `check_access`.

    Example:
        >>> check_new_folder("runs/a")
        Traceback (most recent call last):
        FileExistsError: runs/a exists already; name an output folder that does not.
    """
    folder = Path(path).expanduser()
    if os.path.lexists(folder):
        raise FileExistsError(f"{path} exists already; name an output folder that does not.")
    check_access(folder)


def check_access(folder: Path) -> None:
    """Check that a folder can be written to or made: now, not when the first checkpoint is due.

    Raises:
        FileExistsError: it is a file.
        NotADirectoryError: it lies below a file.
        PermissionError: it cannot be written to.
        OSError, ValueError: no folder can have that name.
    """
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_symlink():
            target = os.readlink(folder)
            raise FileExistsError(
                f"{folder} is a link to {target}, which is not there. Make that folder, or choose another output_dir."
            ) from None
    except ValueError:  # of a NUL
        raise ValueError(f"output_dir={str(folder)!r} holds a character that no path can. Choose another.") from None
    except PermissionError:
        raise PermissionError(f"{folder} cannot be looked into. Choose another output_dir.") from None
    except OSError as error:  # a name that is too long, links in a ring
        raise OSError(f"{folder} cannot be made: {_reason(error)}. Choose another output_dir.") from None
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; output_dir must be a folder. Choose another.")
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{folder} cannot be made: {existing} is a file. Choose another output_dir.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing} cannot be written to. Choose another output_dir.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
