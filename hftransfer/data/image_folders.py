"""Image folders: which images are which split and class, by the folders that they are in or by a metadata table."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .concatenation import joined
from .file_listing import FolderFiles, listed, refuse_two_names
from .row_origins import ORIGIN, visible
from .split_names import SPLITS, split_of

METADATA = "metadata"  # the stem of a table that says more of the images beside it
FILE_NAME = "file_name"  # its column with their paths


@dataclass
class ImageFolder:
    """Images of a folder: path, and class where there is one, by split; in words what is left aside and noted."""

    images: dict[str, list[tuple[Path, str | None]]]
    deep: set[Path] = field(default_factory=set)  # those in folders inside of class folders
    aside: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_images(images: Sequence[Path], name: str) -> ImageFolder:
    """Which images are which split and class.

    Folders at the top that are named by split hold splits, and the folders in them are classes; where there are none,
    the folders at the top are the classes of the train split. Deeper folders are no classes.

    Args:
        images: their paths, relative to the folder.
        name: of the folder, for messages.

    Raises:
        ValueError: it cannot be known whether a folder is a split or a class, or two folders are one split.
    """
    tops: dict[str, list[Path]] = {}
    for path in images:
        tops.setdefault(path.parts[0] if len(path.parts) > 1 else "", []).append(path)
    folders = [top for top in tops if top]
    means = {top: split for top in folders if (split := split_of(top))}
    out = ImageFolder({})
    others = [top for top in folders if top not in means]
    flat = {top for top in means if any(len(path.parts) == 2 for path in tops[top])}
    if "train" in {split for top, split in means.items() if top not in flat}:
        flat = set()  # there are class folders in a folder train, so that folders beside it are splits
    for top in means if others else ():
        if top in flat:
            raise ValueError(
                f"{name}: is {top!r} a split or a class? It is named like a split and holds images itself, beside "
                f"the folders {listed(map(repr, others))}. Put the class folders into one named train, or rename it."
            )
    for split in SPLITS:
        same = {top: top + "/" for top, said in means.items() if said == split}
        refuse_two_names(same, split, name)
        for top in same:
            out.images[split] = [
                (path, _class_of(path.parts[1]) if len(path.parts) > 2 else None) for path in tops[top]
            ]
    rest = [(path, _class_of(top) if top else None) for top in (*others, "") for path in tops.get(top, ())]
    if "train" in out.images:
        out.aside += [f"{_counted(tops[top])} in {top}/ (no split in the name)" for top in others]
        out.aside += [f"{_counted(tops[''])} outside of the folders"] if "" in tops else []
    elif rest:
        out.images = {"train": rest, **out.images}
    for path in (path for pairs in out.images.values() for path, _ in pairs):
        if len(path.parts) > 2 + (path.parts[0] in means):
            out.deep.add(path)
    return out


def label_images(found: ImageFolder, name: str, is_source: bool) -> None:
    """Sees to it that every image of a labelled split has a class, and no image of an unlabelled one.

    Args:
        found: changed in place.
        name: of the folder, for messages.
        is_source: labels are needed.

    Raises:
        ValueError: of a source: images of the train split without a class, one folder with all of them, or a class
            of another split that train lacks.
    """
    classes = {label for pairs in found.images.values() for _, label in pairs if label}
    for split, pairs in list(found.images.items()):
        bare = [path for path, label in pairs if label is None]
        if is_source and bare and split == "train":
            raise ValueError(
                f"{name}: {_counted(bare)} of the train split stand{'s' * (len(bare) == 1)} in no class folder "
                f"({str(bare[0])!r}). A source needs labels: put each image into a folder named by its class "
                f"(cat/1.png), or name classes in a table {METADATA}.csv with the columns {FILE_NAME} and label."
            )
        if is_source and bare:
            found.aside.append(f"{_counted([p for p, _ in pairs])} of the {split} split (not all in class folders)")
            del found.images[split]
        elif bare and len(bare) < len(pairs):
            found.notes.append(f"{split}: no classes, since {_counted(bare)} stand in no class folder")
            found.images[split] = [(path, None) for path, _ in pairs]
    if len(classes) > 1 and found.deep:
        found.notes.append(f"no classes, being deeper: {listed(sorted({path.parts[-2] for path in found.deep}))}")
    if len(classes) != 1:
        return
    only = next(iter(classes))
    if not is_source:
        found.images = {split: [(path, None) for path, _ in pairs] for split, pairs in found.images.items()}
    elif found.deep.issuperset(path for path, _ in found.images.get("train", ())):
        raise ValueError(
            f"{name}: all images are in one folder {only!r}, which would be the only class. If the folders in it are "
            "the classes, give that folder."
        )


def read_images(
    folder: Path, found: ImageFolder, name: str, is_source: bool, image_column: str, label_column: str
) -> dict[str, Any]:
    """The images as datasets by split, with classes as `ClassLabel` in a source and as names in a target.

    Raises:
        ValueError: an empty file or one that holds text, or a class that only another split than train has.
    """
    from datasets import ClassLabel, Dataset, Features, Image, Value

    names = sorted({label for _, label in found.images.get("train", ()) if label})
    out = {}
    for split, pairs in found.images.items():
        odd = sorted({label for _, label in pairs if label} - set(names))
        if is_source and names and odd:
            raise ValueError(
                f"{name}: the {split} split has the class folder{'s' * (len(odd) > 1)} {listed(map(repr, odd))}, "
                f"which the train split lacks. Add images of it to train, or move the folder away."
                f"{_alike(odd[0], names)}"
            )
        columns: dict[str, list[Any]] = {image_column: _checked(folder, [path for path, _ in pairs], name)}
        features = {image_column: Image()}
        if all(label for _, label in pairs):
            columns[label_column] = [label for _, label in pairs]
            features[label_column] = ClassLabel(names=names) if is_source and names else Value("string")
        out[split] = Dataset.from_dict(columns, features=Features(features))
    return out


def split_metadata(files: FolderFiles) -> tuple[list[Path], list[Path]]:
    """The metadata tables among a folder's tables, and the others."""
    chosen = [path for path in files.tables if path.name.partition(".")[0].casefold() == METADATA]
    return chosen, [path for path in files.tables if path not in chosen]


def read_metadata(
    folder: Path,
    tables: Mapping[Path, Any],
    found: ImageFolder,
    name: str,
    image_column: str,
    label_column: str,
) -> dict[str, Any]:
    """The rows of metadata tables as datasets by split, with the images that they name.

    Args:
        folder: where the images are.
        tables: datasets by the path of their file, relative to the folder; paths in `FILE_NAME` are taken from there.
        found: from `list_images`; what no table names is added to what is left aside.
        name: of the folder, for messages.
        image_column, label_column: names of the columns made; classes of folders where the tables say none.

    Raises:
        ValueError: a row without an image, or with one that is not there or was named before.
    """
    from datasets import Image

    places = {path: (split, label) for split, pairs in found.images.items() for path, label in pairs}
    classes = {label for _, label in places.values() if label}
    parts: dict[str, list[Any]] = {}
    used: dict[Path, str] = {}
    for table, dataset in tables.items():
        if image_column in dataset.column_names:
            raise ValueError(
                f"{name}: {str(table)!r} has a column {image_column!r} beside {FILE_NAME!r}: which one holds the "
                "images? Drop or rename one."
            )
        rows: dict[str, list[int]] = {}
        paths = []
        for row, (file, origin) in enumerate(zip(dataset[FILE_NAME][:], dataset[ORIGIN][:], strict=True)):
            path = _normal(table.parent / str(file))
            if file is None or path not in places:
                raise ValueError(
                    f"{name} row {origin}: {FILE_NAME} {str(file)!r} is no image of this folder. It is taken from the "
                    f"folder that {table.name} is in; mend or drop the row."
                )
            if path in used:
                raise ValueError(
                    f"{name} row {origin}: {str(file)!r} was named before, in row {used[path]}. Drop one."
                )
            used[path] = origin
            paths.append(path)
            rows.setdefault(places[path][0], []).append(row)
        for split, chosen in rows.items():
            images = [paths[row] for row in chosen]
            part = dataset.select(chosen).add_column(image_column, _checked(folder, images, name))
            if label_column not in part.column_names and len(classes) > 1:
                if all(places[path][1] for path in images):
                    part = part.add_column(label_column, [places[path][1] for path in images])
            columns = [c for c in (image_column, *visible(part.column_names), ORIGIN) if c in part.column_names]
            columns = [c for c in dict.fromkeys(columns) if c != FILE_NAME]
            parts.setdefault(split, []).append(
                (table, part.select_columns(columns).cast_column(image_column, Image()))
            )
    left = [path for path in places if path not in used]
    if left:
        found.aside.append(f"{_counted(left)} that no row names")
    return {split: joined(parts[split], name) for split in SPLITS if split in parts}


def _checked(folder: Path, paths: Sequence[Path], name: str) -> list[str]:
    """Absolute paths of files that begin as an image might."""
    out = []
    for path in paths:
        whole = (folder / path).absolute()
        try:
            with open(whole, "rb") as file:
                start = file.read(64)
        except OSError as error:
            raise ValueError(f"{name}: {str(path)!r} cannot be read ({error.strerror}). Mend or remove it.") from error
        if not start:
            raise ValueError(f"{name}: {str(path)!r} is no image: the file is empty. Remove or replace it.")
        if start.isascii() and start.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
            if not (start[:1] == b"P" and start[1:2] in b"123456"):  # PNM may be text
                stored = " That is a pointer of Git LFS: fetch the file with `git lfs pull`." * (b"git-lfs" in start)
                shown_start = start[:40].decode().splitlines()[0]
                raise ValueError(
                    f"{name}: {str(path)!r} is no image: it holds text ({shown_start!r} …).{stored} Remove or replace "
                    "it."
                )
        out.append(str(whole))
    return out


def _normal(path: Path) -> Path:
    """Without `.` and `..`, letter by letter otherwise."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)


def _class_of(folder: str) -> str:
    """The class that a folder's name says: accents are one sign, whatever system wrote them; outer white space is no
    part of it."""
    return unicodedata.normalize("NFC", folder).strip() or folder


def _counted(paths: Sequence[Path]) -> str:
    return f"{len(paths):,} image{'s' * (len(paths) != 1)}"


def _alike(name: str, names: Sequence[str]) -> str:
    close = [other for other in names if other.casefold().strip() == name.casefold().strip()]
    return f" Did you mean {close[0]!r}?" if close else ""
