"""Words that every room's error messages share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: object, known: Iterable[object]) -> str:
    """`" Did you mean 'x'?"` for the nearest known word, or an empty string: the tail of many messages."""
    match = get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
