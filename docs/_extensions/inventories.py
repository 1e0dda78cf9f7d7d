"""Inventories of neighbouring libraries for `sphinx.ext.intersphinx`, kept as plain text so that no build fetches any.

A line is `name domain:role address`; the address is taken from the library's base, which the first line gives.
"""

from __future__ import annotations

import zlib
from pathlib import Path

HEADER = "# Sphinx inventory version 2\n# Project: {name}\n# Version: \n# The remainder is compressed using zlib.\n"


def build_inventories(texts: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Writes one `objects.inv` a text and returns what `intersphinx_mapping` wants."""
    folder.mkdir(exist_ok=True)
    mapping = {}
    for text in sorted(texts.glob("*.txt")):
        base, *entries = (line for line in text.read_text(encoding="utf-8").splitlines() if line.strip())
        rows = "".join(f"{name} {role} 1 {address} -\n" for name, role, address in map(str.split, entries))
        path = folder / f"{text.stem}.inv"
        path.write_bytes(HEADER.format(name=text.stem).encode() + zlib.compress(rows.encode()))
        mapping[text.stem] = (base, str(path))
    return mapping
