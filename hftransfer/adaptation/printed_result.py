"""Result of an adaptation in the terminal: the verdict, where the model is, how to load and to push it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..reporting.adaptation_console import print_outcome
from ..reporting.console import print_lines
from ..trainers.hub.push import upload_command
from .report_facts import load_lines

if TYPE_CHECKING:
    from .adapt import Adaptation


def print_adaptation(result: Adaptation, push_hint: bool = True) -> None:
    """Result of `adapt`, printed.

    Args:
        result: what `adapt` returned.
        push_hint: show the command that pushes the model.

    Example:
        >>> print_adaptation(adapt("runs/teacher", news, medical, effort="quick", validation_fraction=0.2))
    """
    folder = str(result.model)
    print_outcome(result.facts)
    print_lines("", f"The model is in {folder}, the report in {result.report}.")
    print_lines("Load it anywhere, without hftransfer:", "")
    print_lines(*(f"  {line}".rstrip() for line in load_lines(result.verdicts.chosen.outcome, folder)), "")
    if push_hint:
        print_lines("Push it:", "", f"  {upload_command(f'your-name/{result.model.absolute().name}', folder)}", "")
