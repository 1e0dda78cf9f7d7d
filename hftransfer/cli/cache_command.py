"""Command `hftransfer cache`: what the cache of frozen features holds, and its removal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .one_line_error_parser import OptionParser

EXAMPLES = """\
  hftransfer cache                        what is in it, the least recently used first
  hftransfer cache --clear                everything goes
  hftransfer cache --clear MiniLM         what is of models with such a name goes
  hftransfer cache --shrink "5 GB"        the least recently used go, until no more is left

The folder is --cache_dir, $HFTRANSFER_CACHE, or hftransfer/features in the Hub's cache.
"""
EVERYTHING = object()  # --clear without a name; an empty name, as of a variable that is not set, is none


def cache_parser() -> argparse.ArgumentParser:
    """Parser of the options of `hftransfer cache`."""
    parser = OptionParser("cache", "List or clear the cache of frozen features.", EXAMPLES)
    parser.add_argument("--cache_dir", metavar="FOLDER", help="instead of the usual folder")
    parser.add_argument(
        "--clear", nargs="?", const=EVERYTHING, metavar="MODEL", help="remove all, or what is of such models"
    )
    parser.add_argument("--shrink", metavar="SIZE", help="remove the least recently used beyond a size")
    return parser


def cache_command(argv: Sequence[str]) -> int:
    """Exit status of the command, whose lines are printed.

    Args:
        argv: its options.
    """
    from ..embeddings.cache_folder import cache_entries, cache_folder, cache_size, remove, trim
    from ..models.disk_space import readable_size
    from ..reporting.console import print_lines

    parser = cache_parser()
    options = parser.parse_args(argv)
    if options.clear is not None and options.shrink is not None:
        parser.error("--clear and --shrink do the same job in two ways: give one.")
    if options.clear == "":
        parser.error(
            "--clear '' names no model. Give a part of a model's name, or --clear alone to remove everything."
        )
    try:
        folder, limit = cache_folder(options.cache_dir), cache_size()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.shrink is not None:
        try:
            removed = trim(folder, cache_size(options.shrink))
        except ValueError:
            parser.error(f"--shrink {options.shrink!r} is no size: write it as '5 GB'.")
    else:
        entries = cache_entries(folder)
        name = options.clear
        removed = [e for e in entries if name is EVERYTHING or (name is not None and name.lower() in e.model.lower())]
        for entry in removed:
            remove(entry)
    if options.clear is not None or options.shrink is not None:
        size = readable_size(sum(entry.size for entry in removed))
        print_lines(f"Removed {len(removed)} of the entries in {folder}: {size}.")
        return 0
    total = readable_size(sum(entry.size for entry in entries))
    print_lines(
        *(_line(entry, readable_size(entry.size)) for entry in entries),
        f"{folder}: {len(entries)} entries, {total}; the limit is {readable_size(limit)}.",
    )
    return 0


def main(argv: Sequence[str]) -> None:
    """Entry point of the command; never returns."""
    sys.exit(cache_command(argv))


def _line(entry: Any, size: str) -> str:
    used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
    rows = "unfinished" if entry.rows is None else f"{entry.rows:,} rows"
    return f"{used}  {size:>9}  {rows:>14}  {entry.model}  ({entry.kind}, {entry.settings})"
