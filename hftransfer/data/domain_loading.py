"""Loading of domains by name: a Hub id, a folder, a file, a pattern, or a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..hub_connection import hub_reachable
from ..messages import nearest
from ..setting_ranges import read_number
from ..stages import stage
from .concatenation import concatenated
from .dataset_card import list_card_files
from .digits_corpus import load_digits_corpus
from .domain_locations import DIGITS, REMEDIES, SAMPLE, DomainLocation, locate_domain, path_hint
from .domain_summary import DomainSummary, note_unlabelled, summarize_domain, with_held_out
from .duplicate_rows import note_duplicates, note_source_rows_in_target
from .file_listing import FolderFiles, SplitFiles, list_files, list_pattern, list_tables, listed, require_train
from .hold_out import hold_out
from .image_folders import FILE_NAME, label_images, list_images, read_images, read_metadata, split_metadata
from .image_paths import with_absolute_paths
from .split_columns import refuse_rows_of_other_splits
from .split_names import SPLITS, choose_splits
from .table_files import FORMATS, USUAL, read_table

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


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading files: image and label columns, other columns that matter, the encoding of text files."""

    image_column: str = "image"
    label_column: str = "label"
    encoding: str | None = None
    used: tuple[str, ...] = USUAL


@dataclass(frozen=True)
class LoadedDomain:
    """Datasets of a domain by split, with a summary of what was read."""

    splits: dict[str, Any]
    summary: DomainSummary


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
    used: Collection[str | None] = (),
) -> LoadedDomains:
    """Sources and target of a run, loaded by their names: a Hub id, a folder, a file, a pattern, or a sample.

    Args:
        sources: labelled domains by name: `owner/name` or `owner/name:config` on the Hub; a folder of files or of
            images by class, or one saved with `save_to_disk`; a csv, tsv, json, jsonl or parquet file; a pattern such
            as `news_{split}.csv`; `sample`, or `sample:digits`.
        target: the unlabelled one, given the same way.
        validation_fraction: of a source's train split, held out when it has no validation split.
        seed: of that cut.
        test: test sets that stand elsewhere, by name; of such a file or folder its test split, else its validation
            split, else all of it.
        image_column: where images are; paths in it start at the folder of their file.
        encoding: of csv, tsv, json and jsonl files, where it is not UTF-8.
        label_column: where labels are; classes of image folders come in a column of this name.
        used: other columns that matter, such as one with the text that is not called `text`.

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
    options = _read_options(image_column, label_column, encoding, used)
    places = {name: locate_domain(spec, "source") for name, spec in sources.items()}
    if target:
        places["target"] = locate_domain(target, "target")
        _refuse_itself(places)
    splits, summaries = {}, {}
    for name, location in places.items():
        role = "target" if name == "target" else "source"
        domain = _read_domain(location, role, options)
        refuse_rows_of_other_splits(domain.splits["train"], f"{role} {location.spec!r}")
        splits[name], summaries[name] = domain.splits, domain.summary
        if name != "target":
            try:
                splits[name] = hold_out(domain.splits, validation_fraction, seed, label_column)
            except ValueError as error:
                raise ValueError(f"source {location.spec!r}: {error}") from error
            summaries[name] = with_held_out(domain.summary, splits[name])
    if target:
        notes = (*summaries["target"].notes, *note_source_rows_in_target(splits, options.used))
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
    used: Collection[str | None] = (),
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
        used: other columns that matter.

    Raises:
        FileNotFoundError: there is no such file or folder, or the Hub is out of reach.
        ValueError: there is no train split, it cannot be known which file is which split, or a file that cannot be
            read strictly.
    """
    splits = _read_domain(
        locate_domain(spec, role), role, _read_options(image_column, label_column, encoding, used)
    ).splits
    refuse_rows_of_other_splits(splits["train"], f"{role} {spec!r}")
    return splits


def _read_options(
    image_column: str, label_column: str, encoding: str | None, used: Collection[str | None]
) -> ReadOptions:
    columns = dict.fromkeys([*USUAL, image_column, *(column for column in used if column)])
    return ReadOptions(image_column, label_column, encoding, tuple(columns))


def _refuse_itself(places: Mapping[str, DomainLocation]) -> None:
    """Check for a target that is a source's file or folder by another name; raises `ValueError`."""
    target = places["target"]
    for name, location in places.items():
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
        return _read_hub(location.spec, role, options, is_test)
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
    return _loaded(location.spec, splits, _file_names(split_files), role, options, notes, split_files.left_aside)


def _loaded(
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
    all_notes = [*notes, *note_duplicates(splits, options.used)]
    if role == "source":
        all_notes += note_unlabelled(splits, options.label_column)
    return LoadedDomain(splits, summarize_domain(spec, splits, files, tuple(all_notes), tuple(left_aside)))


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
            table = read_table(path, role, options.encoding, options.label_column, options.used)
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
        return _read_saved(location, role, options, is_test)
    files = list_files(folder, name)
    if not files.tables and not files.images:
        saved = sorted(state_file.parent for state_file in folder.glob("*/state.json"))
        if saved:
            return _read_saved_splits(location, saved, role, options, is_test)
        content = (
            f"it holds {'; '.join(files.left_aside_notes())}" if files.left_aside_notes() else "it holds no files"
        )
        remedy = REMEDIES.get(files.foreign[0].suffix.lower(), "") if files.foreign else ""
        raise ValueError(f"{_unreadable(name, content)}{' ' * bool(remedy)}{remedy}")
    metadata, tables = split_metadata(files) if files.images else ([], list(files.tables))
    metadata_tables = {
        path: read_table(folder / path, role, options.encoding, options.label_column, options.used)
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
        is_source = role == "source" and not is_test
        if not is_test:
            label_images(images, name, is_source)
        splits = read_images(folder, images, name, is_source, options.image_column, options.label_column)
    if not is_test:
        require_train(dict.fromkeys(splits, ""), name, "Call the folder of images to train on train/.")
    folders = {split: _top_folders([path for path, _ in pairs]) for split, pairs in images.images.items()}
    return _loaded(location.spec, splits, folders, role, options, images.notes, [*images.left_aside, *left_aside])


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
    return _loaded(location.spec, splits, _file_names(split_files, location.path), role, options, notes, left_aside)


def _read_saved(location: DomainLocation, role: str, options: ReadOptions, is_test: bool) -> LoadedDomain:
    """Domain read from a folder that `save_to_disk` wrote."""
    from datasets import DatasetDict

    name = f"{role} {location.spec!r}"
    saved = _load_saved(location.path, name)
    if not isinstance(saved, DatasetDict):
        saved_split = str(saved.split) if saved.split else ""
        notes = [f"it was saved as the split {saved_split!r}"] if saved_split and saved_split != "train" else []
        splits = {"train": with_absolute_paths(saved, options.image_column, location.path)}
        return _loaded(location.spec, splits, {}, role, options, notes)
    return _choose_stored_splits(saved, location, name, role, options, is_test)


def _read_saved_splits(
    location: DomainLocation, folders: Sequence[Path], role: str, options: ReadOptions, is_test: bool
) -> LoadedDomain:
    """Domain read from a folder of folders that `save_to_disk` wrote, each named by its split."""
    name = f"{role} {location.spec!r}"
    datasets = {folder.name: _load_saved(folder, name) for folder in folders}
    if not is_test and "train" not in choose_splits(datasets)[0]:
        raise ValueError(
            f"{name} holds folders that `save_to_disk` wrote ({listed(datasets)}), and none is named train. Give one "
            "of them, or name the one to train on train."
        )
    return _choose_stored_splits(datasets, location, name, role, options, is_test)


def _load_saved(folder: Path, name: str) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except Exception as error:
        raise ValueError(_unreadable(name, _first_line(error))) from error


def _choose_stored_splits(
    datasets: Any, location: DomainLocation, name: str, role: str, options: ReadOptions, is_test: bool
) -> LoadedDomain:
    """Domain of stored splits, under the split names that are used here."""
    try:
        stored_splits, reasons = choose_splits(datasets)
    except ValueError as error:
        raise ValueError(f"{name}: {error}. Save one of them only, or under another name.") from error
    if not is_test and "train" not in stored_splits:
        raise ValueError(
            f"{name} has no train split; it has {', '.join(datasets)}. Save the rows to train on as train."
        )
    if not stored_splits:
        raise ValueError(f"{name} has no split that is read; it has {', '.join(datasets)}. Name one train or test.")
    splits = {split: datasets[stored] for split, stored in stored_splits.items()}
    if location.kind == "folder":
        splits = {
            split: with_absolute_paths(dataset, options.image_column, location.path)
            for split, dataset in splits.items()
        }
    files = {split: (f"split {stored!r}",) for split, stored in stored_splits.items() if stored != split}
    left_aside = [f"split {stored!r}, {len(datasets[stored]):,} rows ({reason})" for stored, reason in reasons.items()]
    return _loaded(location.spec, splits, files, role, options, (), left_aside)


def _read_hub(spec: str, role: str, options: ReadOptions, is_test: bool) -> LoadedDomain:
    """Domain read from the Hub, or from its local cache."""
    from datasets import load_dataset

    name, _, config = spec.partition(":")
    try:
        if not hub_reachable() and not _is_cached(name):  # the client would retry for half a minute
            raise ConnectionError(name)
        datasets = load_dataset(name, config or None)
    except (ConnectionError, OSError) as error:
        suggestion = nearest(spec, [SAMPLE]) or path_hint(spec)
        raise FileNotFoundError(
            f"{role} {spec!r}: it is no local file or folder, and the Hub is out of reach or does not have it "
            f"(is the id right? does a private one need `hf auth login`?).{suggestion}"
        ) from error
    return _choose_stored_splits(
        datasets, DomainLocation("hub", spec, Path(spec)), f"{role} {spec!r}", role, options, is_test
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
    return _loaded(spec, splits, {}, role, options)


def _unreadable(name: str, reason: str) -> str:
    """Error message for a folder in which no dataset is found."""
    return (
        f"{name}: the folder cannot be read as a dataset ({reason}). It should hold files named by split (train.csv, "
        f"validation.csv, test.csv; or {', '.join(FORMATS)}), images in folders named by class (train/cat/1.png, or "
        "cat/1.png), or come from `save_to_disk`."
    )


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split("\n")[0]


def _is_cached(name: str) -> bool:
    """Whether `datasets` keeps a copy of a Hub dataset."""
    from datasets import config

    return (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()
