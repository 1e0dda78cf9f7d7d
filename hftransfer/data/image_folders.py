"""Image folders: split and class of images by the folders that they are in, or by a metadata table."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .concatenation import concatenated
from .file_listing import FolderFiles, listed, refuse_two_names
from .row_origins import ORIGIN, visible
from .split_names import SPLITS, split_of

METADATA = "metadata"  # the stem of a table that says more of the images beside it
FILE_NAME = "file_name"  # its column with their paths


@dataclass
class ImageFolder:
    """Images of a folder by split, each with its path and class, if any; notes, also on what is left aside."""

    images: dict[str, list[tuple[Path, str | None]]]
    nested: set[Path] = field(default_factory=set)  # those in folders inside of class folders
    left_aside: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_images(images: Sequence[Path], name: str) -> ImageFolder:
    """Split and class of each image of a folder, by the folders in it.

    Folders at the top that are named by split hold splits, and the folders in them are classes; where there are none,
    the folders at the top are the classes of the train split. Deeper folders are no classes.

    Args:
        images: their paths, relative to the folder.
        name: of the folder, for messages.

    Raises:
        ValueError: it cannot be known whether a folder is a split or a class, or two folders are one split.
    """
    paths_by_folder: dict[str, list[Path]] = {}
    for path in images:
        paths_by_folder.setdefault(path.parts[0] if len(path.parts) > 1 else "", []).append(path)
    folders = [folder for folder in paths_by_folder if folder]
    split_of_folder = {folder: split for folder in folders if (split := split_of(folder))}
    image_folder = ImageFolder({})
    class_folders = [folder for folder in folders if folder not in split_of_folder]
    folders_with_images = {
        folder for folder in split_of_folder if any(len(path.parts) == 2 for path in paths_by_folder[folder])
    }
    if "train" in {split for folder, split in split_of_folder.items() if folder not in folders_with_images}:
        folders_with_images = set()  # there are class folders in a folder train, so that folders beside it are splits
    for folder in split_of_folder if class_folders else ():
        if folder in folders_with_images:
            raise ValueError(
                f"{name}: is {folder!r} a split or a class? It is named like a split and holds images itself, beside "
                f"the folders {listed(map(repr, class_folders))}. Put the class folders into one named train, or "
                "rename it."
            )
    for split in SPLITS:
        claims = {folder: folder + "/" for folder, claimed in split_of_folder.items() if claimed == split}
        refuse_two_names(claims, split, name)
        for folder in claims:
            image_folder.images[split] = [
                (path, _class_name(path.parts[1]) if len(path.parts) > 2 else None) for path in paths_by_folder[folder]
            ]
    unsplit = [
        (path, _class_name(folder) if folder else None)
        for folder in (*class_folders, "")
        for path in paths_by_folder.get(folder, ())
    ]
    if "train" in image_folder.images:
        image_folder.left_aside += [
            f"{_counted(paths_by_folder[folder])} in {folder}/ (no split in the name)" for folder in class_folders
        ]
        image_folder.left_aside += (
            [f"{_counted(paths_by_folder[''])} outside of the folders"] if "" in paths_by_folder else []
        )
    elif unsplit:
        image_folder.images = {"train": unsplit, **image_folder.images}
    for path in (path for pairs in image_folder.images.values() for path, _ in pairs):
        if len(path.parts) > 2 + (path.parts[0] in split_of_folder):
            image_folder.nested.add(path)
    return image_folder


def label_images(image_folder: ImageFolder, name: str, is_source: bool) -> None:
    """Check that images of a labelled split have classes, and of an unlabelled one none; raises `ValueError`.

    Args:
        image_folder: changed in place.
        name: of the folder, for messages.
        is_source: labels are needed.

    Raises:
        ValueError: of a source: images of the train split without a class, one folder with all of them, or a class
            of another split that train lacks.
    """
    classes = {label for pairs in image_folder.images.values() for _, label in pairs if label}
    for split, pairs in list(image_folder.images.items()):
        unlabelled = [path for path, label in pairs if label is None]
        if is_source and unlabelled and split == "train":
            raise ValueError(
                f"{name}: {_counted(unlabelled)} of the train split stand{'s' * (len(unlabelled) == 1)} in no class "
                f"folder ({str(unlabelled[0])!r}). A source needs labels: put each image into a folder named by its "
                f"class (cat/1.png), or name classes in a table {METADATA}.csv with the columns {FILE_NAME} and label."
            )
        if is_source and unlabelled:
            image_folder.left_aside.append(
                f"{_counted([p for p, _ in pairs])} of the {split} split (not all in class folders)"
            )
            del image_folder.images[split]
        elif unlabelled and len(unlabelled) < len(pairs):
            image_folder.notes.append(f"{split}: no classes, since {_counted(unlabelled)} stand in no class folder")
            image_folder.images[split] = [(path, None) for path, _ in pairs]
    if len(classes) > 1 and image_folder.nested:
        image_folder.notes.append(
            f"no classes, being deeper: {listed(sorted({path.parts[-2] for path in image_folder.nested}))}"
        )
    if len(classes) != 1:
        return
    only_class = next(iter(classes))
    if not is_source:
        image_folder.images = {
            split: [(path, None) for path, _ in pairs] for split, pairs in image_folder.images.items()
        }
    elif image_folder.nested.issuperset(path for path, _ in image_folder.images.get("train", ())):
        raise ValueError(
            f"{name}: all images are in one folder {only_class!r}, which would be the only class. If the folders in "
            "it are the classes, give that folder."
        )


def read_images(
    folder: Path, image_folder: ImageFolder, name: str, is_source: bool, image_column: str, label_column: str
) -> dict[str, Any]:
    """Datasets of images by split, with classes as `ClassLabel` in a source and as names in a target.

    Raises:
        ValueError: an empty file or one that holds text, or a class that only another split than train has.
    """
    from datasets import ClassLabel, Dataset, Features, Image, Value

    names = sorted({label for _, label in image_folder.images.get("train", ()) if label})
    datasets = {}
    for split, pairs in image_folder.images.items():
        unknown_classes = sorted({label for _, label in pairs if label} - set(names))
        if is_source and names and unknown_classes:
            raise ValueError(
                f"{name}: the {split} split has the class folder{'s' * (len(unknown_classes) > 1)} "
                f"{listed(map(repr, unknown_classes))}, which the train split lacks. Add images of it to train, or "
                f"move the folder away.{_similar_class_hint(unknown_classes[0], names)}"
            )
        columns: dict[str, list[Any]] = {image_column: _checked_paths(folder, [path for path, _ in pairs], name)}
        features = {image_column: Image()}
        if all(label for _, label in pairs):
            columns[label_column] = [label for _, label in pairs]
            features[label_column] = ClassLabel(names=names) if is_source and names else Value("string")
        datasets[split] = Dataset.from_dict(columns, features=Features(features))
    return datasets


def split_metadata(files: FolderFiles) -> tuple[list[Path], list[Path]]:
    """Metadata tables among a folder's tables, and the others."""
    metadata = [path for path in files.tables if path.name.partition(".")[0].casefold() == METADATA]
    return metadata, [path for path in files.tables if path not in metadata]


def read_metadata(
    folder: Path,
    tables: Mapping[Path, Any],
    image_folder: ImageFolder,
    name: str,
    image_column: str,
    label_column: str,
) -> dict[str, Any]:
    """Datasets by split of the rows of metadata tables, with the images that they name.

    Args:
        folder: where the images are.
        tables: datasets by the path of their file, relative to the folder; paths in `FILE_NAME` are taken from there.
        image_folder: from `list_images`; what no table names is added to what is left aside.
        name: of the folder, for messages.
        image_column, label_column: names of the columns made; classes of folders where the tables say none.

    Raises:
        ValueError: a row without an image, or with one that is not there or was named before.
    """
    from datasets import Image

    split_and_class = {path: (split, label) for split, pairs in image_folder.images.items() for path, label in pairs}
    classes = {label for _, label in split_and_class.values() if label}
    tables_by_split: dict[str, list[Any]] = {}
    origin_of_path: dict[Path, str] = {}
    for table, dataset in tables.items():
        if image_column in dataset.column_names:
            raise ValueError(
                f"{name}: {str(table)!r} has a column {image_column!r} beside {FILE_NAME!r}: which one holds the "
                "images? Drop or rename one."
            )
        rows: dict[str, list[int]] = {}
        paths = []
        for row, (file_name, origin) in enumerate(zip(dataset[FILE_NAME][:], dataset[ORIGIN][:], strict=True)):
            path = _normalized(table.parent / str(file_name))
            if file_name is None or path not in split_and_class:
                raise ValueError(
                    f"{name} row {origin}: {FILE_NAME} {str(file_name)!r} is no image of this folder. It is taken "
                    f"from the folder that {table.name} is in; mend or drop the row."
                )
            if path in origin_of_path:
                raise ValueError(
                    f"{name} row {origin}: {str(file_name)!r} was named before, in row {origin_of_path[path]}. Drop "
                    "one."
                )
            origin_of_path[path] = origin
            paths.append(path)
            rows.setdefault(split_and_class[path][0], []).append(row)
        for split, row_numbers in rows.items():
            images = [paths[row] for row in row_numbers]
            images_of_split = dataset.select(row_numbers).add_column(
                image_column, _checked_paths(folder, images, name)
            )
            if label_column not in images_of_split.column_names and len(classes) > 1:
                if all(split_and_class[path][1] for path in images):
                    images_of_split = images_of_split.add_column(
                        label_column, [split_and_class[path][1] for path in images]
                    )
            columns = [
                column
                for column in (image_column, *visible(images_of_split.column_names), ORIGIN)
                if column in images_of_split.column_names
            ]
            columns = [column for column in dict.fromkeys(columns) if column != FILE_NAME]
            tables_by_split.setdefault(split, []).append(
                (table, images_of_split.select_columns(columns).cast_column(image_column, Image()))
            )
    unnamed = [path for path in split_and_class if path not in origin_of_path]
    if unnamed:
        image_folder.left_aside.append(f"{_counted(unnamed)} that no row names")
    return {split: concatenated(tables_by_split[split], name) for split in SPLITS if split in tables_by_split}


def _checked_paths(folder: Path, paths: Sequence[Path], name: str) -> list[str]:
    """Absolute paths of files that begin as an image might."""
    absolute_paths = []
    for path in paths:
        absolute = (folder / path).absolute()
        try:
            with open(absolute, "rb") as file:
                first_bytes = file.read(64)
        except OSError as error:
            raise ValueError(f"{name}: {str(path)!r} cannot be read ({error.strerror}). Mend or remove it.") from error
        if not first_bytes:
            raise ValueError(f"{name}: {str(path)!r} is no image: the file is empty. Remove or replace it.")
        if (
            first_bytes.isascii()
            and first_bytes.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
        ):
            if not (first_bytes[:1] == b"P" and first_bytes[1:2] in b"123456"):  # PNM may be text
                hint = " That is a pointer of Git LFS: fetch the file with `git lfs pull`." * (
                    b"git-lfs" in first_bytes
                )
                shown_text = first_bytes[:40].decode().splitlines()[0]
                raise ValueError(
                    f"{name}: {str(path)!r} is no image: it holds text ({shown_text!r} …).{hint} Remove or replace it."
                )
        absolute_paths.append(str(absolute))
    return absolute_paths


def _normalized(path: Path) -> Path:
    """Path without `.` and `..`, letter by letter otherwise."""
    components: list[str] = []
    for component in path.parts:
        if component == ".." and components:
            components.pop()
        elif component != ".":
            components.append(component)
    return Path(*components)


def _class_name(folder: str) -> str:
    """Class that a folder's name says.

    Accents are one sign, whatever system wrote them; outer white space is no part of it.
    """
    return unicodedata.normalize("NFC", folder).strip() or folder


def _counted(paths: Sequence[Path]) -> str:
    return f"{len(paths):,} image{'s' * (len(paths) != 1)}"


def _similar_class_hint(name: str, names: Sequence[str]) -> str:
    close = [other for other in names if other.casefold().strip() == name.casefold().strip()]
    return f" Did you mean {close[0]!r}?" if close else ""
