"""Words that every room's error messages share, and what none of them may hold: tokens, control characters."""

from __future__ import annotations

import os
import re
import reprlib
import sys
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

HIDDEN = "***"
SECRET_VARIABLES = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|API_KEY|ACCESS_KEY)$")
LONGEST_VALUE = 60  # characters of a value that a message shows
SHORTEST = 6  # characters that a secret has at least: shorter ones would be found in any text
# What looks like a secret: a shape, and what is left of it.
SHAPES = [
    # A name such as hf_argparser or hf_reviews_2024.csv is none: those of the Hub are long, without underscores.
    (r"\b(hf_|api_org_)(?:[A-Za-z0-9]{20,}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,}(?![\w-]|\.\w))", rf"\1{HIDDEN}"),
    (r"\b(gh[pousr]_|github_pat_|glpat-|sk-|xox[abp]-)[A-Za-z0-9_-]{16,}", rf"\1{HIDDEN}"),
    (r"(https?://)[^\s/@'\"]+@", rf"\1{HIDDEN}@"),
    (r"(\w[\w+.-]*://)[^\s/@:'\"]*:[^\s/@'\"]+@", rf"\1{HIDDEN}@"),
    (r"(?i)([?&](?:[\w-]+[_-])?(?:token|key|password|secret|sig|signature|credential)=)[^&\s'\"]+", rf"\1{HIDDEN}"),
    (r"(?i)\b(bearer\s+)[\w.~+/-]{12,}=*", rf"\1{HIDDEN}"),
    (r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:\w+ )?)(?!\*)[\w.~+/-]{6,}=*", rf"\1{HIDDEN}"),
    (
        r"(?i)(\b(?:hub|hf|auth|access|api|push_to_hub)_?(?:token|key)['\"]?(?:\s*[:=]\s*|\s+)['\"]?)"
        r"(?!none\b|null\b|true\b|false\b|is\b|\*)(?=[^\s'\",;)}]*\d)[^\s'\",;)}]{6,}",
        rf"\1{HIDDEN}",
    ),
]
_SHAPES = [(re.compile(shape), left) for shape, left in SHAPES]
_ESCAPES = re.compile(
    r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[PX^_][^\x1b]*(?:\x1b\\)?|[@-Z\\-_])"
)
_told: set[str] = set()


def nearest(word: object, known: Iterable[object]) -> str:
    """`" Did you mean 'x'?"` for the nearest known word, or an empty string: the tail of many messages."""
    words = [str(k) for k in known]
    match = [w for w in words if w.casefold() == str(word).casefold()] or get_close_matches(
        str(word), words, n=1, cutoff=0.5
    )
    return f" Did you mean {match[0]!r}?" if match else ""


def shown(value: object, longest: int = LONGEST_VALUE) -> str:
    """A value as a message shows it: its repr without tokens, cut to about 60 characters, long texts with their
    length; cheap for values of any size.

    Example:
        >>> shown("up"), shown("x" * 900, 5), shown(list(range(900)))
        ("'up'", "'xxxxx…' (900 characters)", '[0, 1, 2, 3, 4, 5, ...]')
    """
    if isinstance(value, (str, bytes, bytearray)) and len(value) > longest:
        start = redacted(f"{value[:longest]!r}")
        kind = "characters" if isinstance(value, str) else "bytes"
        return f"{start[:-1]}…{start[-1]} ({len(value):,} {kind})"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = max(longest, 10)
    text = redacted(short.repr(value))
    return text if len(text) <= 2 * longest else f"{text[: longest - 1]}…"


def keep_secret(value: str | None) -> None:
    """Has `redacted` hide a value wherever it turns up, whatever it looks like: a token that somebody passed."""
    if value and len(value) >= SHORTEST:
        _told.add(str(value))


def redacted(text: object) -> str:
    """A text without tokens: what looks like one, and those that this process knows by value.

    Known are those told to `keep_secret`, of environment variables such as HF_TOKEN, and that of the user who is
    logged in.

    Example:
        >>> redacted("401 for https://me:secret@host/api with hf_AbCdEf0123456789")
        '401 for https://***@host/api with hf_***'
    """
    out = str(text)
    for value in sorted(_known_secrets(), key=len, reverse=True):
        out = out.replace(value, HIDDEN)
    for shape, left in _SHAPES:
        out = shape.sub(left, out)
    return out


def redacted_values(value: Any) -> Any:
    """Maps and lists with every text in them `redacted`, such as settings on their way to a file."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: redacted_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item) for item in value]
    return value


def printable(text: object) -> str:
    """A text that a terminal shows and does not obey: escape sequences are cut out, other control characters (those
    that turn the direction of writing among them) are written as `\\x07`. Line ends and tabs stay.

    Example:
        >>> printable("a\\x1b[31mred\\x07")
        'ared\\\\x07'
    """
    plain = _ESCAPES.sub("", str(text))
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_spelled(c) for c in plain)


def _spelled(c: str) -> str:
    joins = c in "\n\t\u200c\u200d"  # joiners are part of words and of emoji
    odd = unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return c.encode("unicode_escape").decode("ascii") if odd and not joins else c


def _known_secrets() -> set[str]:
    found = {value for name, value in os.environ.items() if SECRET_VARIABLES.search(name.upper())} | _told
    hub = sys.modules.get("huggingface_hub")
    if hub is not None:
        try:
            found.add(hub.get_token() or "")
        except Exception:  # a token file that cannot be read holds nothing that we could print
            pass
    return {value for value in found if len(value) >= SHORTEST}
