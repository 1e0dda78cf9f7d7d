"""Image references that are no files: URLs, data URIs, base64 text, folders, with a remedy for each."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..messages import redacted, shown

# In base64: PNG, JPEG, GIF, WebP, TIFF of both kinds, SVG. What else is as long and as plain is taken for it, too.
BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "PHN2Zy", "PD94bWw")
SHORTEST_WITH_START, SHORTEST_WITHOUT = 40, 260  # characters
LONGEST_NAMES = 30  # characters between slashes, on average, that a long path without a dot may have
LONGEST_PATH = 300  # characters of a path that a message shows
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DATA = re.compile(r"data:[\w.+-]*/?[\w.+-]*[;,]", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SUFFIX = re.compile(r"\.(png|jpe?g|gif|webp|bmp|tiff?|ppm|pgm)", re.IGNORECASE)
PATHS_START_AT = (
    "A path is taken from the working directory; in a csv or json file that the recipe reads, from that file's folder."
)


def reference_kind(text: str) -> str | None:
    """Kind of an image reference that is no path: `"a URL"`, `"a data URI"`, `"base64"`, or `None`.

    Example:
        >>> reference_kind("https://example.org/cat.png"), reference_kind("cat.png")
        ('a URL', None)
    """
    start = text[:4096].strip()
    if _DATA.match(start):
        return "a data URI"
    if _URL.match(start):
        return "a URL"
    one_line = start.replace("\r", "").replace("\n", "")
    base64_text = _BASE64.fullmatch(one_line)
    if base64_text is None:
        return None
    if len(one_line) >= SHORTEST_WITH_START and one_line.startswith(BASE64_STARTS) and not _SUFFIX.search(one_line):
        return "base64"
    has_all_kinds = all(re.search(kind, one_line) for kind in ("[0-9]", "[a-z]", "[A-Z]"))
    is_long = (
        has_all_kinds
        and len(one_line) >= SHORTEST_WITHOUT
        and len(one_line) / (one_line.count("/") + 1) > LONGEST_NAMES
    )
    return "base64" if is_long else None


def absolute_path(value: str | None, folder: Path) -> str | None:
    """Absolute path of a path that starts at a folder; what is no path (a URL, base64) stays as it is written."""
    return value if value is None or reference_kind(value) else str(folder.absolute() / value)


def path_problem(text: str, column: str | None = None) -> str | None:
    """Reason why an image cannot be read from a path, with the remedy; `None` where it can.

    Args:
        text: what stands where a path should.
        column: where it stands, if messages should say so.
    """
    try:
        status = os.stat(text)
    except (OSError, ValueError):  # a null character is a ValueError
        return _path_remedy(text, column)
    if stat.S_ISDIR(status.st_mode):
        return f"{shown_path(text)} is a folder. Give the path of a file."
    if status.st_size == 0:
        return f"{shown_path(text)} is an empty file (0 bytes). Drop or replace it."
    return None


def shown_path(text: object) -> str:
    """Path as messages show it: whole where it may be one, else cut as any value."""
    path = str(text)
    return redacted(repr(path)) if len(path) <= LONGEST_PATH and path.isprintable() else shown(path)


def first_unusable_row(column: pa.ChunkedArray, order: Sequence[int] | None, name: str) -> tuple[int, str] | None:
    """First row of a stored image column that holds no image, as far as that is known without opening files.

    Args:
        column: paths, the bytes of files, or structs of both, as `datasets` stores images.
        order: the rows of the column in the order of the dataset; all in turn when `None`.
        name: of the column.

    Returns:
        Its number in the dataset and what is wrong with it, or `None`.
    """
    rows: Iterable[int] = range(len(column)) if order is None else order
    if pa.types.is_struct(column.type):
        fields = {column.type.field(i).name for i in range(column.type.num_fields)}
        nulls = pa.nulls(len(column))
        sizes = pc.binary_length(pc.struct_field(column, "bytes")) if "bytes" in fields else nulls
        paths = pc.struct_field(column, "path") if "path" in fields else nulls
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        sizes, paths = pc.binary_length(column), pa.nulls(len(column))
    else:
        sizes, paths = pa.nulls(len(column)), column
    byte_counts, files = sizes.to_pylist(), paths.to_pylist()
    for number, row in enumerate(rows):
        problem = None
        if byte_counts[row] == 0:
            problem = "the image is empty (0 bytes). Drop or replace it."
        elif byte_counts[row] is None and files[row] is not None:
            problem = path_problem(files[row], name)
        elif byte_counts[row] is None:
            problem = f"{name!r} is None. Drop or fill such rows first."
        if problem is not None:
            return number, problem
    return None


def _path_remedy(text: str, column: str | None) -> str:
    """Reason and remedy for a text under which there is no file."""
    kind = reference_kind(text)
    if kind == "a URL":
        remedy = "Download the images first and give their paths"
        if text.strip().lower().startswith("file:"):
            remedy = "Give the plain path, without file://"
        return f"{shown(text.strip())} is a URL, and images are read from files. {remedy}."
    if kind is not None:
        return (
            f"{shown(text.strip())} is {kind}, no path. Decode it to bytes first (`base64.b64decode`, of a data URI "
            "what follows the comma), or write it to files and give their paths."
        )
    hint = _similar_file_hint(text)
    if "\\" in text and os.path.isfile(text.replace("\\", "/")):
        hint = " It is there by the name with / in place of \\: write it so."
    holds = f" ({column!r} holds paths)" if column else ""
    return f"there is no file {shown_path(text)}{holds}.{hint} {PATHS_START_AT}"


def _similar_file_hint(text: str) -> str:
    """Hint on a file beside the path whose name differs in case or in its ending alone."""
    path = Path(text)
    try:
        siblings = [entry.name for entry in os.scandir(path.parent)] if len(text) <= 4096 else []
    except (OSError, ValueError):
        return ""
    for is_similar in (
        lambda name: name.casefold() == path.name.casefold(),
        lambda name: Path(name).stem == path.stem,
    ):
        matches = sorted(filter(is_similar, siblings))
        if matches:
            return f" Did you mean {matches[0]!r}?"
    return ""
