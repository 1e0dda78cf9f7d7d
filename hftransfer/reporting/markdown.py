"""Markdown of tables and lists that shows text of others, such as names of classes and models, as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..messages import printable, redacted

_MARKUP = re.compile(r"([\\`*|\[\]~$])|(?<![^\W_])(_)|(_)(?![^\W_])")  # `_` inside a word is a letter
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Markup(str):
    """Text that is meant as Markdown and is not escaped."""

    __slots__ = ()


def escaped(value: Any) -> Any:
    """Escaped text for one line or cell: markup is shown, line ends are spaces, tokens hidden. `Markup`, numbers and
    the like pass.

    Example:
        >>> escaped("<b>a|b</b>")
        '&lt;b&gt;a\\\\|b&lt;/b&gt;'
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    line = " ".join(printable(redacted(value)).split())
    line = _MARKUP.sub(lambda match: f"\\{match[0]}", line)
    line = re.sub("[&<>]", lambda match: _ENTITIES[match[0]], line)
    return Markup(f"\\{line}" if line.startswith("#") else line)


def joined(values: Iterable[Any], separator: str = ", ") -> Markup:
    """Joined values, each `escaped`, with a separator that is markup between them."""
    texts = (value if isinstance(value, Markup) else escaped(str(value)) for value in values)
    return Markup(separator.join(texts))


def table_row(values: Iterable[Any]) -> Markup:
    """Row of a table, `| a | b |`, of cells."""
    return Markup(f"| {joined(values, ' | ')} |")


def table_rule(columns: int) -> Markup:
    """Rule under a table's header."""
    return Markup("|" + "---|" * columns)
