"""Loaded domain: its datasets by split with a summary, and the options by which files are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .domain_summary import DomainSummary, note_unlabelled, summarize_domain
from .duplicate_rows import note_duplicates
from .split_names import SPLITS
from .table_files import FORMATS, USUAL


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading files: image and label columns, other columns that matter, the encoding of text files, and
    whether sources need labels."""

    image_column: str = "image"
    label_column: str = "label"
    encoding: str | None = None
    content_columns: tuple[str, ...] = USUAL
    labelled: bool = True


@dataclass(frozen=True)
class LoadedDomain:
    """Datasets of a domain by split, with a summary of what was read."""

    splits: dict[str, Any]
    summary: DomainSummary


def read_options(
    image_column: str,
    label_column: str,
    encoding: str | None,
    text_columns: Collection[str | None],
    labelled: bool = True,
) -> ReadOptions:
    """Options of reading files, with all columns that matter."""
    columns = dict.fromkeys([*USUAL, image_column, *(column for column in text_columns if column)])
    return ReadOptions(image_column, label_column, encoding, tuple(columns), labelled)


def loaded_domain(
    spec: str,
    splits: dict[str, Any],
    files: Mapping[str, tuple[str, ...]],
    role: str,
    options: ReadOptions,
    notes: Sequence[str] = (),
    left_aside: Sequence[str] = (),
) -> LoadedDomain:
    """Domain with its splits in order and a summary of what was read."""
    splits = {split: splits[split] for split in SPLITS if split in splits}
    all_notes = [*notes, *note_duplicates(splits, options.content_columns)]
    if role == "source" and options.labelled:
        all_notes += note_unlabelled(splits, options.label_column)
    return LoadedDomain(splits, summarize_domain(spec, splits, files, tuple(all_notes), tuple(left_aside)))


def unreadable_folder(name: str, reason: str) -> str:
    """Error message for a folder in which no dataset is found."""
    return (
        f"{name}: the folder cannot be read as a dataset ({reason}). It should hold files named by split (train.csv, "
        f"validation.csv, test.csv; or {', '.join(FORMATS)}), images in folders named by class (train/cat/1.png, or "
        "cat/1.png), or come from `save_to_disk`."
    )
