"""Text files: unpacked and decoded, with notes on their encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from typing import Any

from ..messages import nearest
from .file_signatures import refuse_other_format
from .row_origins import DataFile

# what a text file may be packed with
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SIGNATURE_BYTES = 64  # bytes that tell kinds of files apart
BYTE_ORDER_MARKS = {  # byte order marks, the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
COMMON_ENCODINGS = (
    "utf-8",
    "cp1252",
    "latin-1",
    "utf-16",
    "cp1250",
    "cp1251",
    "gb18030",
    "shift_jis",
    "euc-kr",
    "big5",
)


@dataclass(frozen=True)
class TextFile:
    """Content of a text file, known to decode without an error and to hold no NUL."""

    content: bytes
    encoding: str
    notes: tuple[str, ...]

    def lines(self, newline: str | None = None) -> TextIOWrapper:
        """Lines of the file, ends as in `open`: `None` makes all of them `"\\n"`, `""` leaves them."""
        return TextIOWrapper(BytesIO(self.content), self.encoding, newline=newline)

    def text(self) -> str:
        """Whole text of the file."""
        return self.content.decode(self.encoding)


def read_text_file(data_file: DataFile, suffix: str, encoding: str | None = None) -> TextFile:
    """Text file, unpacked and decoded.

    Without an encoding it is UTF-8, or what its byte order mark says; nothing is guessed.

    Args:
        data_file: of the file; one that ends in .gz, .bz2 or .xz is unpacked.
        suffix: its ending without that, such as `.csv`.
        encoding: of the file, where it is another.

    Raises:
        ValueError: the file is empty, damaged, in another encoding (the message names the first such line and what
            reads it), or holds NUL bytes; or there is no such encoding.
    """
    path, name = data_file.path, str(data_file)
    packing = path.suffix.lower()
    try:
        with OPENERS.get(packing, open)(path, "rb") as file:
            content = file.read()
    except PermissionError as error:
        raise ValueError(f"{name}: you may not read this file. Change its permissions (chmod u+r).") from error
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"{name} cannot be {'unpacked' if packing in OPENERS else 'read'} ({error})."
            + " Is it whole, and packed as its name says?" * (packing in OPENERS)
        ) from error
    refuse_other_format(content[:SIGNATURE_BYTES], data_file, suffix)
    if not content:
        raise ValueError(f"{name} is empty: it has no rows.")
    notes = []
    if packing in OPENERS:
        notes.append(f"unpacked ({packing[1:]})")
    marked_encoding = next((marked for mark, marked in BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)
    if encoding is None:
        used_encoding = marked_encoding or "utf-8"
    else:
        _check_known(encoding, name)
        if marked_encoding and codecs.lookup(encoding).name not in _matching_encodings(marked_encoding):
            raise ValueError(
                f"{name}: its byte order mark says {marked_encoding.removesuffix('-sig')}, encoding={encoding!r} says "
                "otherwise. Leave the encoding out."
            )
        used_encoding = marked_encoding or encoding
    if marked_encoding:
        notes.append(f"encoding {marked_encoding.removesuffix('-sig')}, by its byte order mark")
    elif encoding is not None:
        notes.append(f"encoding {used_encoding}")
    try:
        text = content.decode(used_encoding)
    except UnicodeError as error:
        raise ValueError(
            _decoding_problem(data_file, content, used_encoding, error, is_user_choice=encoding is not None)
        ) from error
    if not text.strip():
        raise ValueError(f"{name} is empty: it has no rows.")
    nul_position = text.find("\0")
    if nul_position >= 0:
        raise ValueError(f"{data_file.line(_line_number(text[:nul_position]))}: {_nul_remedy(content, text)}")
    return TextFile(content, used_encoding, tuple(notes))


def _check_known(encoding: str, name: str) -> None:
    """Check that Python knows an encoding; raises `ValueError`."""
    try:
        b"a".decode(encoding)  # "hex" and its like are codecs of bytes
    except LookupError as error:
        raise ValueError(
            f"{name}: encoding {encoding!r} is not known; usual ones are {', '.join(COMMON_ENCODINGS)}."
            f"{nearest(encoding, COMMON_ENCODINGS)}"
        ) from error
    except UnicodeError:  # one byte is half a character there
        pass


def _matching_encodings(marked_encoding: str) -> tuple[str, ...]:
    """Encodings that agree with the one of a byte order mark."""
    base = marked_encoding.removesuffix("-sig")
    return (base, marked_encoding, f"{base}-le", f"{base}-be")


def _line_number(before: str) -> int:
    """Number of the line in which the text after this much text stands."""
    return before.count("\n") + before.count("\r") - before.count("\r\n") + 1


def _decoding_problem(
    data_file: DataFile, content: bytes, encoding: str, error: UnicodeError, is_user_choice: bool
) -> str:
    """Error message about bytes that an encoding does not know."""
    if not isinstance(error, UnicodeDecodeError):
        return f"{data_file} cannot be read as {encoding} ({error})."
    decoded = content[: error.start].decode(encoding, errors="replace")
    line = _line_number(decoded)
    is_wide = encoding.startswith(("utf-16", "utf-32"))
    bad_byte = content[error.start : error.start + 1].hex()
    start = f"{data_file.line(line)}: this is no {encoding.removesuffix('-sig')} (byte 0x{bad_byte})."
    if is_wide:
        return f"{start} Is the file whole?"
    line_start = max(content.rfind(b"\n", 0, error.start), content.rfind(b"\r", 0, error.start)) + 1
    context = content[max(line_start, error.start - 20) : error.start + 20].splitlines()[0]
    candidates = ("utf-8", "cp1252", "latin-1")
    readable = next(
        (candidate for candidate in candidates if candidate != encoding and _decodes(content, candidate)), "latin-1"
    )
    shown = context.decode(readable, errors="replace")
    if is_user_choice and readable == "utf-8":
        return f"{start} It reads as utf-8: leave the encoding out."
    remark = ""
    if not is_user_choice and not content.decode(encoding, errors="ignore").isascii():
        remark = " Other characters of the file are utf-8: this line may be damaged."
    explanation = " (latin-1 as Windows writes it)" * (readable == "cp1252")
    return (
        f"{start} The encoding {readable}{explanation} reads it, with {shown!r} there: if that is right, say "
        f"--encoding {readable} (encoding={readable!r} in Python); if not, the encoding that it was written in, or "
        f"save it as utf-8.{remark}"
    )


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeError:
        return False
    return True


def _nul_remedy(content: bytes, text: str) -> str:
    """Explanation of NUL characters, and the remedy."""
    if text.count("\0") * 3 > len(text):  # every second byte of western text
        is_little_endian = content[1:2] == b"\0"
        wide = f"utf-16-{'le' if is_little_endian else 'be'}"
        if _decodes(content, wide):
            return (
                f"every other byte is NUL: this looks like {wide}. Say --encoding {wide} (encoding={wide!r} in "
                "Python), or save it as utf-8."
            )
    return "it holds a NUL byte: the file is damaged, or no text file. Remove the NUL bytes, or write it anew."
