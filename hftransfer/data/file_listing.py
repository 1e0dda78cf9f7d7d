"""Files of a domain, listed before they are read: which are read as which split, and what is left aside."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .domain_locations import IMAGES, REMEDIES, SPLIT
from .split_names import SPLITS, split_of, split_words
from .table_files import table_format

SAVED = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")  # written by `datasets`
PLAIN = ("readme", "license", "licence", "changelog", "notice", "citation", "requirements")
SHOWN = 5  # names in a row before the rest is counted


@dataclass(frozen=True)
class FolderFiles:
    """What a folder holds, at any depth, hidden files aside; paths are relative to it and sorted.

    Attributes:
        tables, images: what can be read.
        foreign: data in a form that is not read.
        others: all else.
        unread: folders that hold nothing, and links to folders that are read already.
    """

    tables: tuple[Path, ...]
    images: tuple[Path, ...]
    foreign: tuple[Path, ...]
    others: tuple[Path, ...]
    unread: tuple[str, ...] = ()

    def aside(self) -> list[str]:
        """In words, what is no table and no image."""
        out = [listed(map(str, self.foreign))] if self.foreign else []
        if self.others:
            plural = "s" * (len(self.others) > 1)
            out.append(f"{len(self.others)} other file{plural} ({listed(map(str, self.others))})")
        return [*out, *self.unread]


@dataclass(frozen=True)
class SplitFiles:
    """Files by split, and in words what is left aside."""

    files: dict[str, tuple[Path, ...]]
    aside: tuple[str, ...] = ()


def list_files(folder: Path, name: str) -> FolderFiles:
    """Walks a folder; links are followed once.

    Raises:
        FileNotFoundError: a link of a data file leads nowhere.
        ValueError: a folder that may not be read.
    """
    found: dict[str, list[Path]] = {"table": [], "image": [], "foreign": [], "other": []}
    seen: dict[str, str] = {}
    unread: list[str] = []

    def refuse(error: OSError) -> None:
        raise ValueError(f"{name}: the folder {error.filename!r} cannot be read ({error.strerror}).") from error

    for here, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real, short = os.path.realpath(here), os.path.relpath(here, folder)
        if real in seen:
            folders.clear()
            unread.append(f"{short}/ (the same folder as {seen[real]}/, read once)")
            continue
        seen[real] = short
        if not folders and not files and short != os.curdir:
            unread.append(f"{short}/ (empty)")
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for file in sorted(f for f in files if not f.startswith(".")):
            path = Path(here, file)
            kind = _kind(path)
            if kind in ("table", "image") and not path.exists():
                raise FileNotFoundError(
                    f"{name}: {str(path)!r} is a link to {os.readlink(path)!r}, which is not there. Mend or remove it."
                )
            found[kind].append(path.relative_to(folder))
    table, image, foreign = (tuple(sorted(found[kind])) for kind in ("table", "image", "foreign"))
    return FolderFiles(table, image, foreign, tuple(sorted(found["other"])), tuple(unread))


def list_tables(tables: Sequence[Path], name: str) -> SplitFiles:
    """Which tables of a folder are which split, by the words in their names or those of the folders they are in.

    Where no name says train, tables whose names say no split are the train split; otherwise they are left aside.

    Args:
        tables: their paths, relative to the folder.
        name: of the folder, for messages.

    Raises:
        ValueError: a name that says two splits, two names for one split, or none for train.
    """
    words = {path: _word(path, name) for path in tables}
    unsaid = [path for path, word in words.items() if word is None]
    by_split: dict[str, list[Path]] = {}
    said: dict[str, dict[str, Path]] = {}
    for path, word in words.items():
        if word is not None:
            split = _means(word)
            by_split.setdefault(split, []).append(path)
            said.setdefault(split, {}).setdefault(word, path)
    for split, names in said.items():
        refuse_two_names({word: str(path) for word, path in names.items()}, split, name)
    aside = []
    if "train" not in by_split:
        if unsaid:
            by_split["train"] = unsaid
    elif unsaid:
        aside.append(f"{listed(map(str, unsaid))} (no split in the name)")
    return SplitFiles({s: tuple(by_split[s]) for s in SPLITS if s in by_split}, tuple(aside))


def list_pattern(pattern: Path, name: str) -> SplitFiles:
    """Files that a path with `{split}` in it stands for; all else in it is meant letter by letter.

    Raises:
        FileNotFoundError: there is none for train.
        ValueError: two names for one split, or none for train.
    """
    found: dict[str, list[tuple[str, Path]]] = {}
    aside: list[str] = []
    for path, word in sorted(_matches(Path(pattern.anchor), pattern.parts[bool(pattern.anchor) :], None)):
        split = split_of(word)
        if split is None:
            aside.append(path.name)
        elif path.is_dir():
            raise ValueError(
                f"{name}: {str(path)!r} is a folder, and {SPLIT} stands for files. Give the folder that holds it."
            )
        else:
            found.setdefault(split, []).append((word, path))
    for split, pairs in found.items():
        refuse_two_names({word: str(path) for word, path in pairs}, split, name)
    if not found:
        raise FileNotFoundError(f"{name}: there is no file {str(pattern).replace(SPLIT, 'train')!r}.")
    files = {split: tuple(path for _, path in found[split]) for split in SPLITS if split in found}
    reason = ("(no split in the name)",) if aside else ()
    return SplitFiles(files, (" ".join((listed(aside), *reason)),) if aside else ())


def require_train(names: Mapping[str, str], name: str, remedy: str) -> None:
    """Raises `ValueError` where there is no train split; `names` are what stands for those that there are."""
    if "train" not in names:
        there = ", ".join(f"{split} ({said})" if said else split for split, said in names.items())
        raise ValueError(f"{name} has no train split; it has {there or 'none'}. {remedy}")


def refuse_two_names(words: Mapping[str, str], split: str, name: str) -> None:
    """Raises `ValueError` where two words claim one split: which was meant cannot be known."""
    if len(words) > 1:
        (first, here), (second, there), *_ = words.items()
        raise ValueError(
            f"{name}: {here!r} and {there!r} both claim the {split} split ({first!r}, {second!r}). Move one of them "
            "away, or give both the same word if they belong together."
        )


def listed(names: Iterable[str]) -> str:
    """A few names, and how many more."""
    names = [name if name.isprintable() else repr(name) for name in names]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def endings(paths: Iterable[Path]) -> str:
    """`".txt (3), .zip"`: endings with their counts."""
    counted = Counter(path.suffix.lower() or path.name for path in paths)
    return ", ".join(f"{ending} ({n:,})" if n > 1 else ending for ending, n in counted.most_common(SHOWN))


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.name in SAVED:
        return "other"
    if table_format(path):
        return "table"
    if suffix in IMAGES:
        return "image"
    return "foreign" if suffix in REMEDIES and path.stem.casefold() not in PLAIN else "other"


def _word(path: Path, name: str) -> str | None:
    """The word that says which split a table is, in its folders' names or its own."""
    found: dict[str, str] = {}
    for part in path.parts[:-1]:
        words = split_words(part)
        if len(set(words.values())) == 1:  # "train_test_split" says nothing of what is in it
            found |= words
    found |= split_words(_stem(path))
    if len(set(found.values())) > 1:
        first, second = list(found)[:2]
        raise ValueError(
            f"{name}: the name of {str(path)!r} says {found[first]} ({first!r}) and {found[second]} ({second!r}). "
            "Rename it after the split that it is."
        )
    return next(iter(found), None)


def _stem(path: Path) -> str:
    """The name without the endings that say its format."""
    known = path.name
    for suffix in reversed(path.suffixes[-2:]):
        if table_format(Path(f"a{suffix}")) or suffix.lower() in REMEDIES:
            known = known.removesuffix(suffix)
    return known


def _means(word: str) -> str:
    split = split_of(word)
    assert split is not None
    return split


def _matches(here: Path, parts: Sequence[str], word: str | None) -> Iterable[tuple[Path, str]]:
    """Paths that fit, with what stands for `{split}` in them."""
    if not parts:
        if word is not None and here.exists():
            yield here, word
        return
    part, *rest = parts
    if SPLIT not in part or word is not None:
        yield from _matches(here / part.replace(SPLIT, word or SPLIT), rest, word)
        return
    pieces = [re.escape(piece) for piece in part.split(SPLIT)]
    form = re.compile(f"{pieces[0]}(?P<word>.+?){'(?P=word)'.join(pieces[1:])}", re.DOTALL)
    if here.is_dir():
        for entry in sorted(os.listdir(here)):
            if match := form.fullmatch(entry):
                yield from _matches(here / entry, rest, match["word"])
