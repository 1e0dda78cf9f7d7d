"""Console that tables, lines and progress share; text of others on it is shown as it is, not obeyed."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from ..messages import printable, redacted


class PipeSafeConsole(Console):
    """Console whose reader may go away (`| head`) without ending the run."""

    def on_broken_pipe(self) -> None:
        """Silence from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout_console(**options: Any) -> PipeSafeConsole:
    """Console on the stdout of the moment; files and pipes have 80 columns, or COLUMNS, no control characters. Of
    several processes, the first prints."""
    return PipeSafeConsole(highlight=False, quiet=os.environ.get("RANK", "0") != "0", **options)


def literal(text: object, style: str = "") -> Text:
    """Literal text: `[red]` is no colour, control characters are spelled out, tokens hidden."""
    return Text(printable(redacted(text)), style=style)


def print_lines(*lines: object, console: Console | None = None) -> None:
    """Lines printed as they are: what looks like markup is text, tokens are hidden, and a reader that goes away
    (`| head`) does not end the run. Long lines are left to the terminal; of several processes, the first prints.

    Args:
        *lines: an empty one, when there are none.
        console: of rich; stdout when `None`.

    Example:
        >>> print_lines("Training with the target:")
    """
    console = console or stdout_console()
    for line in lines or ("",):
        console.print(literal(line), soft_wrap=True)
