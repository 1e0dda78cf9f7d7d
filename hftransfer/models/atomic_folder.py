"""Atomic output folders: written whole or not at all."""

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
        FileExistsError: there is something at `path` already.
        DiskFullError: there is not enough room.
    """
    final = Path(path).expanduser()
    if final.exists():
        raise FileExistsError(f"{final} exists already; name an output folder that does not.")
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
