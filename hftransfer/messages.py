"""Parts of error messages: nearest names, shortened values, and text without tokens or control characters."""

from __future__ import annotations

import functools
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
SHORTEST_SECRET = 6  # characters that a secret has at least: shorter ones would be found in any text
# What looks like a secret: a shape, and what is left of it.
SECRET_PATTERNS = [
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
_COMPILED_PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in SECRET_PATTERNS]
_ESCAPE_SEQUENCES = re.compile(
    r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[PX^_][^\x1b]*(?:\x1b\\)?|[@-Z\\-_])"
)
_registered_secrets: set[str] = set()


def nearest(word: object, known: Iterable[object]) -> str:
    """Hint `" Did you mean 'x'?"` with the nearest known word, or an empty string: the tail of many messages."""
    words = [str(k) for k in known]
    match = [w for w in words if w.casefold() == str(word).casefold()] or get_close_matches(
        str(word), words, n=1, cutoff=0.5
    )
    return f" Did you mean {match[0]!r}?" if match else ""


def shown(value: object, longest: int = LONGEST_VALUE) -> str:
    """Value as a message shows it: its repr without tokens, cut to about 60 characters.

    Long texts come with their length. It is cheap for values of any size.

    Example:
        >>> shown("up"), shown("x" * 900, 5), shown(list(range(900)))
        ("'up'", "'xxxxx…' (900 characters)", '[0, 1, 2, 3, 4, 5, ...]')
    """
    if isinstance(value, (str, bytes, bytearray)) and len(value) > longest:
        start = redacted(f"{value[:longest]!r}")
        kind = "characters" if isinstance(value, str) else "bytes"
        return f"{start[:-1]}…{start[-1]} ({len(value):,} {kind})"
    limited_repr = reprlib.Repr()
    limited_repr.maxstring = limited_repr.maxother = limited_repr.maxlong = max(longest, 10)
    text = redacted(limited_repr.repr(value))
    return text if len(text) <= 2 * longest else f"{text[: longest - 1]}…"


def first_line(error: BaseException) -> str:
    """First line of an error's message without its full stop; the error's kind where it has no message.

    Example:
        >>> first_line(ValueError("It broke.\\nSee below."))
        'It broke'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def keep_secret(value: str | None) -> None:
    """Registration of a secret, such as a token that somebody passed: `redacted` hides it wherever it turns up."""
    if value and len(value) >= SHORTEST_SECRET:
        _registered_secrets.add(str(value))


def redacted(text: object) -> str:
    """Text without tokens: what looks like one, and those that this process knows by value.

    Known are those told to `keep_secret`, of environment variables such as HF_TOKEN, and that of the user who is
    logged in.

    Example:
        >>> redacted("401 for https://me:secret@host/api with hf_AbCdEf0123456789")
        '401 for https://***@host/api with hf_***'
    """
    return _without(_known_secrets(), str(text))


def redacted_values(value: Any) -> Any:
    """Maps and lists with every text in them `redacted`, such as settings on their way to a file."""
    secrets = _known_secrets()  # once: they are read from the environment and from a file

    def redact(item: Any) -> Any:
        if isinstance(item, str):
            return _without(secrets, item)
        if isinstance(item, dict):
            return {key: redact(inner) for key, inner in item.items()}
        if isinstance(item, (list, tuple)):
            return [redact(inner) for inner in item]
        return item

    return redact(value)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _COMPILED_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def printable(text: object) -> str:
    """Text that a terminal shows and does not obey.

    Escape sequences are cut out, other control characters (those that turn the direction of writing among them) are
    written as `\\x07`. Line ends and tabs stay.

    Example:
        >>> printable("a\\x1b[31mred\\x07")
        'ared\\\\x07'
    """
    plain = _ESCAPE_SEQUENCES.sub("", str(text))
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_spelled_out(character) for character in plain)


def _spelled_out(character: str) -> str:
    is_joiner = character in "\n\t\u200c\u200d"  # joiners are part of words and of emoji
    is_control = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode("ascii") if is_control and not is_joiner else character


@functools.cache
def _names_a_secret(variable: str) -> bool:
    return SECRET_VARIABLES.search(variable.upper()) is not None


def _known_secrets() -> list[str]:
    """The longest first, since one may be a part of another."""
    secrets = {os.environ.get(name, "") for name in os.environ if _names_a_secret(name)} | _registered_secrets
    hub_module = sys.modules.get("huggingface_hub")
    if hub_module is not None:
        try:
            secrets.add(hub_module.get_token() or "")
        except Exception:  # a token file that cannot be read holds nothing that we could print
            pass
    return sorted((value for value in secrets if len(value) >= SHORTEST_SECRET), key=len, reverse=True)
