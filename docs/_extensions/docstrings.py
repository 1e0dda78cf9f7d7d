r"""Docstrings as they are written here: `\(…\)` is a formula, a line that begins with `- ` starts a list."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

INLINE = re.compile(r"\\\((.+?)\\\)")
ITEM = re.compile(r"(\s*)- ")


def to_rst(lines: list[str]) -> list[str]:
    """The same docstring as reStructuredText wants it."""
    joined = INLINE.sub(lambda found: f":math:`{found[1]}`", "\n".join(lines))
    joined = re.sub(r"\\\[(.+?)\\\]", _block, joined, flags=re.S)
    out: list[str] = []
    for line in joined.split("\n"):
        item = ITEM.match(line)
        if item and out and out[-1].strip() and not _continues(out, len(item[1])):
            out.append("")
        out.append(line)
    return out


def _block(found: re.Match[str]) -> str:
    body = " ".join(part.strip() for part in found[1].strip().split("\n"))
    return f"\n\n.. math:: {body}\n\n"


def _continues(lines: list[str], depth: int) -> bool:
    """Whether an item of this depth goes on with a list that has begun."""
    for line in reversed(lines):
        if not line.strip():
            return False
        found = ITEM.match(line)
        if found:
            return len(found[1]) <= depth
    return False


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def escape_stars(line: str) -> str:
    """Stars outside code as themselves: in `pattern:*.attention.*` they are no emphasis."""
    return re.sub(r"\*(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\*", line)


def literal_stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Stars in a help text, as in a pattern, are themselves; `--help` shows the same text, so it holds no markup."""
    if dataclasses.is_dataclass(obj):
        lines[:] = [escape_stars(line) for line in lines]


def shorten(app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: Any) -> Any:
    """A signature of two hundred settings says nothing; they are explained below it, or on a page of their own."""
    if name in ("hftransfer.AdaptationConfig", "hftransfer.PretrainingConfig"):
        return "(output_dir=None, **settings)", returned
    return None


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", literal_stars, priority=90)
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
