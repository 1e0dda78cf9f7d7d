"""Output of a choice between checkpoints or sources: tables in the terminal, a JSON file and a picture."""

from __future__ import annotations

import json
import os
from typing import Protocol

from ..models.atomic_folder import check_new_folder, new_folder
from ..reporting.choice_picture import require_matplotlib
from ..reporting.choice_table import ChoiceTable, print_choice_table

FACTS, PICTURE = "choice.json", "choice.svg"


class Choice(Protocol):
    """What `rank_checkpoints`, `choose_source` and `relate_domains` return."""

    def tables(self) -> tuple[ChoiceTable, ...]: ...

    def draw(self, path: str | os.PathLike[str]) -> None: ...


def print_choice(choice: Choice) -> None:
    """Tables of a choice in the terminal.

    Args:
        choice: from `rank_checkpoints`, `choose_source` or `relate_domains`.

    Example:
        >>> print_choice(rank_checkpoints(["runs/a", "runs/b"], news, resamples=100, cache_dir=False))
    """
    for table in choice.tables():
        print_choice_table(table)


def save_choice(choice: Choice, folder: str | os.PathLike[str]) -> None:
    """Facts and picture of a choice in a folder, `choice.json` and `choice.svg`: both are written, or nothing.

    Args:
        choice: from `rank_checkpoints`, `choose_source` or `relate_domains`.
        folder: it must not exist.

    Raises:
        FileExistsError: it does.
        ImportError: without matplotlib, the extra `plots`.

    Example:
        >>> save_choice(rank_checkpoints(["runs/a", "runs/b"], news, resamples=100, cache_dir=False), "choice")
        >>> sorted(path.name for path in Path("choice").iterdir())
        ['choice.json', 'choice.svg']
    """
    require_matplotlib()
    with new_folder(folder) as staging:
        facts = [table.as_json() for table in choice.tables()]
        (staging / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        choice.draw(staging / PICTURE)


def check_choice_folder(folder: str | os.PathLike[str]) -> None:
    """Check that `save_choice` can write, before anything is embedded.

    Raises:
        OSError, ValueError: there is something at `folder` already, or it cannot be made.
        ImportError: without matplotlib.

    Example:
        >>> check_choice_folder("runs/a")
        Traceback (most recent call last):
        FileExistsError: runs/a exists already; name an output folder that does not.
    """
    require_matplotlib()
    check_new_folder(folder)
