"""Exchange of what an output folder holds for a new model with its report, at one stroke for a reader."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..models.disk_space import enough_disk_space
from ..trainers.saving.folder_lock import STAGING, clear
from ..trainers.saving.folder_replacement import flush_files, replace_items
from ..trainers.saving.written_files import (
    CARD,
    RECORD,
    foreign_names,
    is_edited_card,
    record_written,
    run_item_names,
)

logger = logging.getLogger(__name__)
MARKERS = ("config.json", "adapter_config.json")  # a folder without one of these is no model to anybody


@contextmanager
def replacing(output_dir: Path, needed: int = 0) -> Iterator[Path]:
    """Empty folder whose files take the place of the run in an output folder when the block ends.

    Until then, what was there stays as it is. Then it goes at once, model first; what is new comes with the model's
    config last, so that a reader finds a whole model or none. After a kill, the next `locked` finishes the exchange.

    Args:
        output_dir: the output folder, which this process has locked.
        needed: bytes.

    Raises:
        FileExistsError: the folder holds files of somebody else's under names of the new ones.
        DiskFullError: there is not enough room.
    """
    staging = output_dir / STAGING / "handing-over"
    with enough_disk_space("the model", output_dir, needed, lambda: "All candidates are kept."):
        clear(output_dir)
        try:
            staging.mkdir(parents=True)
            yield staging
            names = sorted((path.name for path in staging.iterdir()), key=lambda name: name in MARKERS)
            refuse_foreign(output_dir, names)
            old = run_item_names(output_dir, names)
            if is_edited_card(output_dir):
                logger.warning("%s is not as hftransfer wrote it and was kept.", output_dir / CARD)
                names = [name for name in names if name != CARD]
            record_written(output_dir, names, staging)
            flush_files(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        new = [(f"{staging.name}/{name}", name) for name in (RECORD, *names)]
        replace_items(output_dir, output_dir / STAGING, [name for name in old if name != RECORD], new)
        shutil.rmtree(staging, ignore_errors=True)


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that no file of somebody else's would be replaced; raises `FileExistsError`."""
    foreign = foreign_names(folder, names)
    if foreign:
        raise FileExistsError(
            f"{folder} holds {', '.join(foreign[:5])}, which hftransfer did not write and would replace. "
            "Choose another output_dir, or move them elsewhere."
        )
