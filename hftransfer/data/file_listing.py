"""Listing of a domain's files before they are read: files by split, and what is left aside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .domain_locations import IMAGES, REMEDIES, SPLIT
from .split_names import SPLITS, split_of, split_words
from .table_files import table_format

METADATA_FILES = (
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
)  # written by `datasets`
DOCUMENT_NAMES = ("readme", "license", "licence", "changelog", "notice", "citation", "requirements")
SHOWN = 5  # names in a row before the rest is counted


@dataclass(frozen=True)
class FolderFiles:
    """Files of a folder by kind, at any depth, hidden files aside; paths are relative to it and sorted.

    Attributes:
        tables, images: what can be read.
        foreign: data in a form that is not read.
        other_files: all else.
        unread: folders that hold nothing, and links to folders that are read already.
    """

    tables: tuple[Path, ...]
    images: tuple[Path, ...]
    foreign: tuple[Path, ...]
    other_files: tuple[Path, ...]
    unread: tuple[str, ...] = ()

    def left_aside_notes(self) -> list[str]:
        """Notes on files that are no table and no image."""
        notes = [listed(map(str, self.foreign))] if self.foreign else []
        if self.other_files:
            plural = "s" * (len(self.other_files) > 1)
            notes.append(f"{len(self.other_files)} other file{plural} ({listed(map(str, self.other_files))})")
        return [*notes, *self.unread]


@dataclass(frozen=True)
class SplitFiles:
    """Files by split, with notes on what is left aside."""

    files: dict[str, tuple[Path, ...]]
    left_aside: tuple[str, ...] = ()


def list_files(folder: Path, name: str) -> FolderFiles:
    """Files of a folder by kind; links are followed once.

    Raises:
        FileNotFoundError: a link of a data file leads nowhere.
        ValueError: a folder that may not be read.
    """
    paths_by_kind: dict[str, list[Path]] = {"table": [], "image": [], "foreign": [], "other": []}
    visited: dict[str, str] = {}
    unread: list[str] = []

    def refuse(error: OSError) -> None:
        raise ValueError(f"{name}: the folder {error.filename!r} cannot be read ({error.strerror}).") from error

    for directory, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real_path, relative_path = os.path.realpath(directory), os.path.relpath(directory, folder)
        if real_path in visited:
            folders.clear()
            unread.append(f"{relative_path}/ (the same folder as {visited[real_path]}/, read once)")
            continue
        visited[real_path] = relative_path
        if not folders and not files and relative_path != os.curdir:
            unread.append(f"{relative_path}/ (empty)")
        folders[:] = sorted(name_part for name_part in folders if not name_part.startswith((".", "__")))
        for file in sorted(name_part for name_part in files if not name_part.startswith(".")):
            path = Path(directory, file)
            kind = _file_kind(path)
            if kind in ("table", "image") and not path.exists():
                raise FileNotFoundError(
                    f"{name}: {str(path)!r} is a link to {os.readlink(path)!r}, which is not there. Mend or remove it."
                )
            paths_by_kind[kind].append(path.relative_to(folder))
    table, image, foreign = (tuple(sorted(paths_by_kind[kind])) for kind in ("table", "image", "foreign"))
    return FolderFiles(table, image, foreign, tuple(sorted(paths_by_kind["other"])), tuple(unread))


def list_tables(tables: Sequence[Path], name: str) -> SplitFiles:
    """Tables of a folder by split, as the words in their names or in their folders' names say.

    Where no name says train, tables whose names say no split are the train split; otherwise they are left aside.

    Args:
        tables: their paths, relative to the folder.
        name: of the folder, for messages.

    Raises:
        ValueError: a name that says two splits, two names for one split, or none for train.
    """
    words = {path: _split_word(path, name) for path in tables}
    unnamed = [path for path, word in words.items() if word is None]
    by_split: dict[str, list[Path]] = {}
    words_by_split: dict[str, dict[str, Path]] = {}
    for path, word in words.items():
        if word is not None:
            split = _split_meant(word)
            by_split.setdefault(split, []).append(path)
            words_by_split.setdefault(split, {}).setdefault(word, path)
    for split, names in words_by_split.items():
        refuse_two_names({word: str(path) for word, path in names.items()}, split, name)
    left_aside = []
    if "train" not in by_split:
        if unnamed:
            by_split["train"] = unnamed
    elif unnamed:
        left_aside.append(f"{listed(map(str, unnamed))} (no split in the name)")
    return SplitFiles({split: tuple(by_split[split]) for split in SPLITS if split in by_split}, tuple(left_aside))


def list_pattern(pattern: Path, name: str) -> SplitFiles:
    """Files by split that a path with `{split}` in it stands for; all else in it is meant letter by letter.

    Raises:
        FileNotFoundError: there is none for train.
        ValueError: two names for one split, or none for train.
    """
    paths_by_split: dict[str, list[tuple[str, Path]]] = {}
    left_aside: list[str] = []
    for path, word in sorted(_matching_paths(Path(pattern.anchor), pattern.parts[bool(pattern.anchor) :], None)):
        split = split_of(word)
        if split is None:
            left_aside.append(path.name)
        elif path.is_dir():
            raise ValueError(
                f"{name}: {str(path)!r} is a folder, and {SPLIT} stands for files. Give the folder that holds it."
            )
        else:
            paths_by_split.setdefault(split, []).append((word, path))
    for split, pairs in paths_by_split.items():
        refuse_two_names({word: str(path) for word, path in pairs}, split, name)
    if not paths_by_split:
        raise FileNotFoundError(f"{name}: there is no file {str(pattern).replace(SPLIT, 'train')!r}.")
    files = {split: tuple(path for _, path in paths_by_split[split]) for split in SPLITS if split in paths_by_split}
    reason = ("(no split in the name)",) if left_aside else ()
    return SplitFiles(files, (" ".join((listed(left_aside), *reason)),) if left_aside else ())


def require_train(names: Mapping[str, str], name: str, remedy: str) -> None:
    """Check that there is a train split; raises `ValueError`.

    `names` are descriptions by split of those that there are.
    """
    if "train" not in names:
        splits_there = ", ".join(
            f"{split} ({description})" if description else split for split, description in names.items()
        )
        raise ValueError(f"{name} has no train split; it has {splits_there or 'none'}. {remedy}")


def refuse_two_names(words: Mapping[str, str], split: str, name: str) -> None:
    """Check for two words that claim one split, of which either may be meant; raises `ValueError`."""
    if len(words) > 1:
        (first_word, first_path), (second_word, second_path), *_ = words.items()
        raise ValueError(
            f"{name}: {first_path!r} and {second_path!r} both claim the {split} split ({first_word!r}, "
            f"{second_word!r}). Move one of them away, or give both the same word if they belong together."
        )


def listed(names: Iterable[str]) -> str:
    """Text with a few names, and how many more there are."""
    names = [name if name.isprintable() else repr(name) for name in names]
    hidden = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + hidden


def _file_kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.name in METADATA_FILES:
        return "other"
    if table_format(path):
        return "table"
    if suffix in IMAGES:
        return "image"
    return "foreign" if suffix in REMEDIES and path.stem.casefold() not in DOCUMENT_NAMES else "other"


def _split_word(path: Path, name: str) -> str | None:
    """Word that says which split a table is, in its folders' names or its own."""
    word_splits: dict[str, str] = {}
    for folder_name in path.parts[:-1]:
        words = split_words(folder_name)
        if len(set(words.values())) == 1:  # "train_test_split" says nothing of what is in it
            word_splits |= words
    word_splits |= split_words(_stem(path))
    if len(set(word_splits.values())) > 1:
        first, second = list(word_splits)[:2]
        raise ValueError(
            f"{name}: the name of {str(path)!r} says {word_splits[first]} ({first!r}) and {word_splits[second]} "
            f"({second!r}). Rename it after the split that it is."
        )
    return next(iter(word_splits), None)


def _stem(path: Path) -> str:
    """File name without the endings that say its format."""
    stem = path.name
    for suffix in reversed(path.suffixes[-2:]):
        if table_format(Path(f"a{suffix}")) or suffix.lower() in REMEDIES:
            stem = stem.removesuffix(suffix)
    return stem


def _split_meant(word: str) -> str:
    split = split_of(word)
    assert split is not None
    return split


def _matching_paths(path: Path, parts: Sequence[str], word: str | None) -> Iterable[tuple[Path, str]]:
    """Paths that match a pattern, with what stands for `{split}` in them."""
    if not parts:
        if word is not None and path.exists():
            yield path, word
        return
    path_part, *rest = parts
    if SPLIT not in path_part or word is not None:
        yield from _matching_paths(path / path_part.replace(SPLIT, word or SPLIT), rest, word)
        return
    pieces = [re.escape(piece) for piece in path_part.split(SPLIT)]
    pattern = re.compile(f"{pieces[0]}(?P<word>.+?){'(?P=word)'.join(pieces[1:])}", re.DOTALL)
    if path.is_dir():
        for entry in sorted(os.listdir(path)):
            if match := pattern.fullmatch(entry):
                yield from _matching_paths(path / entry, rest, match["word"])
