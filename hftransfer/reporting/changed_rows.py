"""Rows whose answer changed, as the report shows them: tokens by attribution, small pictures with what counted."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .adaptation_facts import ChangedRow, is_number
from .report_text import clean, shortened

MOST_ROWS = 20
MOST_TOKENS = 160
PIXELS = 192  # longest side of a picture
MOST_BYTES = 60_000  # of a picture that cannot be made smaller
LEVELS = (0.15, 0.4, 0.7)  # of a row's largest attribution
CLOSING = ",.;:!?)]}%…"  # signs that follow a word without a space
KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


@dataclass(frozen=True)
class TokenPiece:
    """Token on the page: `level` is 0 to 3, `speaks` "for", "against" or nothing."""

    text: str
    space: bool
    level: int
    speaks: str


@dataclass(frozen=True)
class ShownRow:
    """Changed row on the page; `picture` and `spotlight` are data URIs."""

    row: ChangedRow
    text: str
    pieces: Sequence[TokenPiece]
    cut: bool
    picture: str
    spotlight: str
    note: str


def shown_rows(rows: Sequence[ChangedRow]) -> list[ShownRow]:
    """Rows of the page, 20 at most."""
    shown = []
    for row in rows[:MOST_ROWS]:
        picture = small_picture(row.image) if row.image else ""
        spotlight = spotlight_mask(row.patches) if picture and row.patches is not None else ""
        note = "" if picture or not row.image else "Its picture is too large for this page, or of an unknown kind."
        cut = len(row.tokens) > MOST_TOKENS
        shown.append(ShownRow(row, shortened(row.text), token_pieces(row.tokens), cut, picture, spotlight, note))
    return shown


def token_pieces(tokens: Sequence[tuple[str, float]]) -> list[TokenPiece]:
    """Tokens with spaces where words begin, and their attributions in steps of the row's largest.

    A token of WordPiece that begins with `##` goes on the word before it; with tokens that mark the beginning of words
    (`Ġ`, `▁`), those without the mark do.

    Example:
        >>> [(p.text, p.space, p.level, p.speaks) for p in token_pieces([("un", 0.1), ("##like", -0.5), ("it", 1.0)])]
        [('un', False, 0, ''), ('like', False, 2, 'against'), ('it', True, 3, 'for')]
    """
    tokens = tokens[:MOST_TOKENS]
    largest = max((abs(value) for _, value in tokens if is_number(value)), default=0) or 1
    marked = any(token.startswith(("Ġ", "▁")) for token, _ in tokens)
    pieces = []
    for i, (token, value) in enumerate(tokens):
        begins = not token.startswith("##") and (not marked or token.startswith(("Ġ", "▁")))
        text = clean(token.removeprefix("##").replace("Ġ", "").replace("▁", " ")).strip()
        strength = abs(value) / largest if is_number(value) else 0.0
        level = sum(strength >= step for step in LEVELS)
        speaks = ("for" if value > 0 else "against") if level else ""
        closes = bool(text) and all(character in CLOSING for character in text)
        pieces.append(TokenPiece(text, begins and i > 0 and not closes, level, speaks))
    return pieces


def small_picture(data: bytes) -> str:
    """Data URI of a picture, made small where Pillow is installed; empty where it is too large or no picture."""
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), "")
    if not kind:
        return ""
    try:
        from PIL import Image
    except ImportError:
        return data_uri(data, kind) if len(data) <= MOST_BYTES else ""
    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((PIXELS, PIXELS))
            image.convert("RGB").save(file, "JPEG", quality=85)
    except Exception:  # a broken file may raise anything
        return ""
    return data_uri(file.getvalue(), "jpeg")


def spotlight_mask(patches: np.ndarray) -> str:
    """Data URI of a mask that leaves bright what counted: (h, w) attributions -> an image of h by w pixels, black, as
    opaque as the patch is unimportant. Patches that speak against the answer are as dark as those that say nothing."""
    values = np.nan_to_num(np.asarray(patches, dtype=np.float64), posinf=0, neginf=0)
    if values.ndim != 2 or not values.size:
        return ""
    values = np.clip(values, 0, None)
    strength = values / values.max() if values.max() > 0 else values
    pixels = np.zeros((*values.shape, 2), dtype=np.uint8)
    pixels[..., 1] = np.round(255 * 0.82 * (1 - strength))
    return data_uri(_png(pixels), "png")


def _png(pixels: np.ndarray) -> bytes:
    """PNG file of (h, w, 2) bytes: grey and alpha."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 4, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def data_uri(data: bytes, kind: str) -> str:
    """Data URI of an image file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
