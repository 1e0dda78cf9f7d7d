"""Loading of domains by name: a Hub id, a folder, a file, a pattern, or a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..setting_ranges import read_number
from ..stages import stage
from .concatenation import concatenated
from .dataset_card import list_card_files
from .digits_corpus import load_digits_corpus
from .domain_locations import DIGITS, REMEDIES, SAMPLE, DomainLocation, locate_domain
from .domain_summary import DomainSummary, with_held_out
from .duplicate_rows import find_rows_without_copies, note_source_rows_in_target
from .file_listing import FolderFiles, SplitFiles, list_files, list_pattern, list_tables, listed, require_train
from .hold_out import hold_out
from .image_folders import FILE_NAME, label_images, list_images, read_images, read_metadata, split_metadata
from .image_paths import with_absolute_paths
from .loaded_domain import LoadedDomain, ReadOptions, loaded_domain, read_options, unreadable_folder
from .saved_datasets import read_hub, read_saved, read_saved_splits
from .split_columns import refuse_rows_of_other_splits
from .split_names import SPLITS
from .table_files import read_table

__all__ = ["DIGITS", "SAMPLE", "SPLITS", "LoadedDomains", "hold_out", "load_domain", "load_shift"]


@dataclass(frozen=True)
class LoadedDomains:
    """Data sets of one run: to train on, and to evaluate on by name, the target's under `"target"`.

    `summaries` says by name what was read for each domain, the target's under `"target"`, and for a test set that
    stands elsewhere under `"test of …"`.
    """

    train: dict[str, Any]
    target: Any | None
    validation: dict[str, Any]
    test: dict[str, Any]
    summaries: dict[str, DomainSummary] = field(default_factory=dict)


@stage("reading the data")
def load_shift(
    sources: Mapping[str, str],
    target: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 42,
    test: Mapping[str, str] | None = None,
    image_column: str = "image",
    encoding: str | None = None,
    label_column: str = "label",
    text_columns: Collection[str | None] = (),
    labelled: bool = True,
) -> LoadedDomains:
    """Sources and target of a run, loaded by their names: a Hub id, a folder, a file, a pattern, or a sample.

    Args:
        sources: labelled domains by name: `owner/name` or `owner/name:config` on the Hub; a folder of files or of
            images by class, or one saved with `save_to_disk`; a csv, tsv, json, jsonl or parquet file; a pattern such
            as `news_{split}.csv`; `sample`, or `sample:digits`.
        target: the unlabelled one, given the same way.
        validation_fraction: of a source's train split, held out when it has no validation split; rows that stand there
            twice, or in another domain's train split, stay in train.
        seed: of that cut.
        test: test sets that stand elsewhere, by name; of such a file or folder its test split, else its validation
            split, else all of it.
        image_column: where images are; paths in it start at the folder of their file.
        encoding: of csv, tsv, json and jsonl files, where it is not UTF-8.
        label_column: where labels are; classes of image folders come in a column of this name.
        text_columns: columns with texts or words that are not called `text` or `tokens`.
        labelled: sources need labels.

    Returns:
        `train`, `validation` and `test`, datasets by name; `target`; and `summaries`, what was read of each. Tests are
        on test splits, or on validation where there is no test.

    Raises:
        FileNotFoundError: there is no such file or folder, or the Hub is out of reach.
        ValueError: a file that cannot be read strictly, no train split, too few rows to hold some out, or a target
            that is a source.

    Example:
        >>> data = load_shift({"source": "sample"}, "sample")
        >>> len(data.train["source"]), len(data.target), sorted(data.test)
        (871, 870, ['source', 'target'])
    """
    validation_fraction = read_number("validation_fraction", validation_fraction)
    options = read_options(image_column, label_column, encoding, text_columns, labelled)
    locations = {name: locate_domain(spec, "source") for name, spec in sources.items()}
    if target:
        locations["target"] = locate_domain(target, "target")
        _refuse_itself(locations)
    splits, summaries = {}, {}
    for name, location in locations.items():
        role = "target" if name == "target" else "source"
        domain = _read_domain(location, role, options)
        refuse_rows_of_other_splits(domain.splits["train"], f"{role} {location.spec!r}")
        splits[name], summaries[name] = domain.splits, domain.summary
    train_splits = {name: datasets["train"] for name, datasets in splits.items()}
    for name, spec in sources.items():
        if "validation" in splits[name] or not validation_fraction:
            continue
        free_rows = find_rows_without_copies(train_splits, name, options.content_columns, image_column)
        try:
            splits[name] = hold_out(splits[name], validation_fraction, seed, label_column, free_rows)
        except ValueError as error:
            raise ValueError(f"source {spec!r}: {error}") from error
        summaries[name] = with_held_out(summaries[name], splits[name])
    if target:
        notes = (*summaries["target"].notes, *note_source_rows_in_target(splits, options.content_columns))
        summaries["target"] = replace(summaries["target"], notes=notes)
    tests = {name: datasets.get("test", datasets.get("validation")) for name, datasets in splits.items()}
    for name, spec in (test or {}).items():
        role = "target" if name == "target" else "source"
        test_domain = _read_domain(locate_domain(spec, role), role, options, is_test=True)
        split = next(split for split in reversed(SPLITS) if split in test_domain.splits)
        tests[name], summaries[f"test of {name}"] = test_domain.splits[split], test_domain.summary
    return LoadedDomains(
        train={name: splits[name]["train"] for name in sources},
        target=splits["target"]["train"] if target else None,
        validation={name: datasets["validation"] for name, datasets in splits.items() if "validation" in datasets},
        test={name: dataset for name, dataset in tests.items() if dataset is not None},
        summaries=summaries,
    )


def load_domain(
    spec: str,
    role: str,
    image_column: str = "image",
    encoding: str | None = None,
    label_column: str = "label",
    text_columns: Collection[str | None] = (),
) -> dict[str, Any]:
    """Datasets of a domain by split, train, validation and test.

    A path that exists is that path, letter by letter. What is read from files carries the column `ORIGIN`.

    Args:
        spec: `sample`, one of the names in `DIGITS`, a Hub id (`owner/name` or `owner/name:config`), a
            folder (of files; of images by class, `cat/1.png`, or by split and class, `train/cat/1.png`; or saved with
            `save_to_disk`), a file, or a pattern with `{split}`.
        role: `"source"` or `"target"`: which half of the sample, and what messages say.
        image_column: paths in this column of a file are taken from the folder that the file is in; images of folders
            come in a column of this name.
        encoding: of csv, tsv, json and jsonl files, where it is not UTF-8.
        label_column: where labels are; classes of image folders come in a column of this name.
        text_columns: as in `load_shift`.

    Raises:
        FileNotFoundError: there is no such file or folder, or the Hub is out of reach.
        ValueError: there is no train split, it cannot be known which file is which split, or a file that cannot be
            read strictly.
    """
    splits = _read_domain(
        locate_domain(spec, role), role, read_options(image_column, label_column, encoding, text_columns)
    ).splits
    refuse_rows_of_other_splits(splits["train"], f"{role} {spec!r}")
    return splits


def _refuse_itself(locations: Mapping[str, DomainLocation]) -> None:
    """Check for a target that is a source's file or folder by another name; raises `ValueError`."""
    target = locations["target"]
    for name, location in locations.items():
        if name == "target" or target.kind != location.kind or location.kind not in ("file", "folder"):
            continue
        if location.path.samefile(target.path):
            raise ValueError(f"target {target.spec!r} is a source too ({name}): there is nothing to adapt to.")


def _read_domain(location: DomainLocation, role: str, options: ReadOptions, is_test: bool = False) -> LoadedDomain:
    """Domain read from its location; a test set that stands elsewhere needs no train split."""
    if location.kind == "sample":
        return _read_sample(location.spec, role, options)
    name = f"{role} {location.spec!r}"
    if location.kind == "hub":
        return read_hub(location.spec, role, options, is_test)
    if location.kind == "folder":
        return _read_folder(location, role, options, is_test)
    if location.kind == "file":
        split_files = SplitFiles({"train": (location.path,)})
    else:
        split_files = list_pattern(location.path, name)
    if not is_test:
        require_train(
            {split: listed(map(str, files)) for split, files in split_files.files.items()},
            name,
            "Name a file train, or give the file to train on itself.",
        )
    splits, notes = _read_tables(None, split_files, role, options, name)
    return loaded_domain(location.spec, splits, _file_names(split_files), role, options, notes, split_files.left_aside)


def _file_names(split_files: SplitFiles, folder: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Names of files by split, relative to the folder, if any."""
    return {
        split: tuple(str(path) if folder else path.name for path in files)
        for split, files in split_files.files.items()
    }


def _read_tables(
    folder: Path | None, split_files: SplitFiles, role: str, options: ReadOptions, name: str
) -> tuple[dict[str, Any], list[str]]:
    """Datasets by split, read from table files, and notes; paths start at the folder, if any."""
    splits: dict[str, Any] = {}
    files_by_note: dict[str, list[str]] = {}
    for split, files in split_files.files.items():
        tables = []
        for file in files:
            path = folder / file if folder else file
            table = read_table(path, role, options.encoding, options.label_column, options.content_columns)
            tables.append((file, with_absolute_paths(table.dataset, options.image_column, path.parent)))
            for note in table.notes:
                files_by_note.setdefault(note, []).append(file.name)
        splits[split] = concatenated(tables, name)
    file_count = sum(map(len, split_files.files.values()))
    return splits, [
        note if len(file_names) == file_count else f"{note} in {listed(file_names)}"
        for note, file_names in files_by_note.items()
    ]


def _read_folder(location: DomainLocation, role: str, options: ReadOptions, is_test: bool) -> LoadedDomain:
    """Domain read from a folder: written by `save_to_disk`, of tables, or of images."""
    folder, name = location.path, f"{role} {location.spec!r}"
    if any((folder / state_file).is_file() for state_file in ("dataset_dict.json", "state.json")):
        return read_saved(location, role, options, is_test)
    files = list_files(folder, name)
    if not files.tables and not files.images:
        saved = sorted(state_file.parent for state_file in folder.glob("*/state.json"))
        if saved:
            return read_saved_splits(location, saved, role, options, is_test)
        content = (
            f"it holds {'; '.join(files.left_aside_notes())}" if files.left_aside_notes() else "it holds no files"
        )
        remedy = REMEDIES.get(files.foreign[0].suffix.lower(), "") if files.foreign else ""
        raise ValueError(f"{unreadable_folder(name, content)}{' ' * bool(remedy)}{remedy}")
    metadata, tables = split_metadata(files) if files.images else ([], list(files.tables))
    metadata_tables = {
        path: read_table(folder / path, role, options.encoding, options.label_column, options.content_columns)
        for path in metadata
    }
    unlinked_tables = [path for path, table in metadata_tables.items() if FILE_NAME not in table.columns]
    tables += unlinked_tables  # a table that happens to have that name
    metadata_tables = {path: table for path, table in metadata_tables.items() if path not in unlinked_tables}
    if tables and not metadata_tables:
        return _read_folder_of_tables(location, role, options, is_test, files)
    images = list_images(files.images, name)
    left_aside = ([f"{listed(map(str, tables))} (beside metadata)"] if tables else []) + files.left_aside_notes()
    if metadata_tables:
        datasets = {path: table.dataset for path, table in metadata_tables.items()}
        splits = read_metadata(folder, datasets, images, name, options.image_column, options.label_column)
        images.notes.append(f"columns from {listed(map(str, metadata_tables))}")
        images.notes += [note for table in metadata_tables.values() for note in table.notes]
    else:
        if not is_test:
            require_train(dict.fromkeys(images.images, ""), name, "Call the folder of images to train on train/.")
        is_source = role == "source" and options.labelled and not is_test
        if not is_test:
            label_images(images, name, is_source)
        splits = read_images(folder, images, name, is_source, options.image_column, options.label_column)
    if not is_test:
        require_train(dict.fromkeys(splits, ""), name, "Call the folder of images to train on train/.")
    folders = {split: _top_folders([path for path, _ in pairs]) for split, pairs in images.images.items()}
    return loaded_domain(
        location.spec, splits, folders, role, options, images.notes, [*images.left_aside, *left_aside]
    )


def _top_folders(paths: Sequence[Path]) -> tuple[str, ...]:
    """Topmost folders that images are in."""
    return tuple(dict.fromkeys(f"{path.parts[0]}/" if len(path.parts) > 1 else path.name for path in paths))


def _read_folder_of_tables(
    location: DomainLocation, role: str, options: ReadOptions, is_test: bool, files: FolderFiles
) -> LoadedDomain:
    """Domain read from a folder of table files."""
    name = f"{role} {location.spec!r}"
    split_files = list_card_files(location.path, files.tables, name) or list_tables(files.tables, name)
    if not is_test:
        require_train(
            {split: listed(map(str, paths)) for split, paths in split_files.files.items()},
            name,
            "Rename the file to train on, or give that file itself.",
        )
    splits, notes = _read_tables(location.path, split_files, role, options, name)
    left_aside = [*split_files.left_aside, *files.left_aside_notes()]
    if files.images and options.image_column not in splits.get("train", next(iter(splits.values()))).column_names:
        folders = {path.parts[0] for path in files.images if len(path.parts) > 1}
        if len(folders) > 1:
            raise ValueError(
                f"{name} holds {len(files.images):,} images in folders ({listed(sorted(folders))}) and tables without "
                f"a column {options.image_column!r} ({listed(map(str, files.tables))}). Say with `image_column` which "
                "column names the images, move the tables away, or give one of them instead of the folder."
            )
        left_aside.append(f"{len(files.images):,} image{'s' * (len(files.images) > 1)}")
    return loaded_domain(
        location.spec, splits, _file_names(split_files, location.path), role, options, notes, left_aside
    )


def _read_sample(spec: str, role: str, options: ReadOptions) -> LoadedDomain:
    """Domain of an embedded sample corpus."""
    from .sample_corpus import load_sample_corpus

    if spec in DIGITS:
        prefix = f"{DIGITS[spec]}_"
        splits = {k.removeprefix(prefix): v for k, v in load_digits_corpus().items() if k.startswith(prefix)}
    else:
        half = {"source": "news", "target": "medical"}[role]
        splits = {k.split("_")[1]: v for k, v in load_sample_corpus().items() if k.startswith(half)}
    return loaded_domain(spec, splits, {}, role, options)
