"""Domains by name: a Hub id, a folder, a file, a pattern, or a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..hub_connection import hub_reachable
from ..messages import nearest
from ..setting_ranges import read_number
from ..stages import stage
from .concatenation import joined
from .dataset_card import list_card_files
from .digits_corpus import load_digits_corpus
from .domain_locations import DIGITS, REMEDIES, SAMPLE, DomainLocation, locate_domain, hint
from .domain_summary import DomainSummary, summarize_domain, note_unlabelled, with_held_out
from .duplicate_rows import note_duplicates, note_source_rows_in_target
from .file_listing import FolderFiles, SplitFiles, list_files, list_pattern, list_tables, listed, require_train
from .hold_out import hold_out
from .image_folders import FILE_NAME, label_images, list_images, read_images, read_metadata, split_metadata
from .image_paths import with_whole_paths
from .split_columns import refuse_rows_of_other_splits
from .split_names import SPLITS, choose_splits
from .table_files import FORMATS, USUAL, read_table

__all__ = ["DIGITS", "SAMPLE", "SPLITS", "Shift", "hold_out", "load_domain", "load_shift"]


@dataclass(frozen=True)
class LoadedDomains:
    """The data sets of one run: what is trained on, and evaluation sets by name, the target's under `"target"`.

    `account` says by name what was read for each domain, the target's under `"target"`, and for a test set that
    stands elsewhere under `"test of …"`.
    """

    train: dict[str, Any]
    target: Any | None
    validation: dict[str, Any]
    test: dict[str, Any]
    account: dict[str, DomainSummary] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """How files are read: columns of images and labels, other columns that matter, the encoding of text files."""

    image_column: str = "image"
    label_column: str = "label"
    encoding: str | None = None
    used: tuple[str, ...] = USUAL


@dataclass(frozen=True)
class LoadedDomain:
    """Datasets by split, with the account of where they come from."""

    splits: dict[str, Any]
    account: DomainSummary


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
    """Sources and target by their names: a Hub id, a folder, a file, a pattern, or a sample.

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
        `train`, `validation` and `test`, datasets by name; `target`; and `account`, what was read of each. Tests are
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
    reading = _read_options(image_column, label_column, encoding, used)
    places = {name: locate_domain(spec, "source") for name, spec in sources.items()}
    if target:
        places["target"] = locate_domain(target, "target")
        _refuse_itself(places)
    splits, accounts = {}, {}
    for name, place in places.items():
        role = "target" if name == "target" else "source"
        domain = _read(place, role, reading)
        refuse_rows_of_other_splits(domain.splits["train"], f"{role} {place.spec!r}")
        splits[name], accounts[name] = domain.splits, domain.account
        if name != "target":
            try:
                splits[name] = hold_out(domain.splits, validation_fraction, seed, label_column)
            except ValueError as error:
                raise ValueError(f"source {place.spec!r}: {error}") from error
            accounts[name] = with_held_out(domain.account, splits[name])
    if target:
        notes = (*accounts["target"].notes, *note_source_rows_in_target(splits, reading.used))
        accounts["target"] = replace(accounts["target"], notes=notes)
    tests = {name: parts.get("test", parts.get("validation")) for name, parts in splits.items()}
    for name, spec in (test or {}).items():
        role = "target" if name == "target" else "source"
        apart = _read(locate_domain(spec, role), role, reading, is_test=True)
        chosen = next(split for split in reversed(SPLITS) if split in apart.splits)
        tests[name], accounts[f"test of {name}"] = apart.splits[chosen], apart.account
    return LoadedDomains(
        train={name: splits[name]["train"] for name in sources},
        target=splits["target"]["train"] if target else None,
        validation={name: parts["validation"] for name, parts in splits.items() if "validation" in parts},
        test={name: part for name, part in tests.items() if part is not None},
        account=accounts,
    )


def load_domain(
    spec: str,
    role: str,
    image_column: str = "image",
    encoding: str | None = None,
    label_column: str = "label",
    used: Collection[str | None] = (),
) -> dict[str, Any]:
    """Loads a domain as `{split: dataset}`, the splits among train, validation and test.

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
    splits = _read(locate_domain(spec, role), role, _read_options(image_column, label_column, encoding, used)).splits
    refuse_rows_of_other_splits(splits["train"], f"{role} {spec!r}")
    return splits


def _read_options(image: str, label: str, encoding: str | None, used: Collection[str | None]) -> ReadOptions:
    columns = dict.fromkeys([*USUAL, image, *(column for column in used if column)])
    return ReadOptions(image, label, encoding, tuple(columns))


def _refuse_itself(places: Mapping[str, DomainLocation]) -> None:
    """Refuses a target that is a source's file or folder by another name."""
    target = places["target"]
    for name, place in places.items():
        if name == "target" or target.kind != place.kind or place.kind not in ("file", "folder"):
            continue
        if place.path.samefile(target.path):
            raise ValueError(f"target {target.spec!r} is a source too ({name}): there is nothing to adapt to.")


def _read(place: DomainLocation, role: str, reading: ReadOptions, is_test: bool = False) -> LoadedDomain:
    """Reads a place; of a test set that stands elsewhere no train split is asked."""
    if place.kind == "sample":
        return _read_sample(place.spec, role, reading)
    name = f"{role} {place.spec!r}"
    if place.kind == "hub":
        return _read_hub(place.spec, role, reading, is_test)
    if place.kind == "folder":
        return _read_folder(place, role, reading, is_test)
    if place.kind == "file":
        listing = SplitFiles({"train": (place.path,)})
    else:
        listing = list_pattern(place.path, name)
    if not is_test:
        require_train(
            {split: listed(map(str, files)) for split, files in listing.files.items()},
            name,
            "Name a file train, or give the file to train on itself.",
        )
    splits, notes = _read_tables(None, listing, role, reading, name)
    return _loaded(place.spec, splits, _names(listing), role, reading, notes, listing.aside)


def _loaded(
    spec: str,
    splits: dict[str, Any],
    files: Mapping[str, tuple[str, ...]],
    role: str,
    reading: ReadOptions,
    notes: Sequence[str] = (),
    aside: Sequence[str] = (),
) -> LoadedDomain:
    splits = {split: splits[split] for split in SPLITS if split in splits}
    remarks = [*notes, *note_duplicates(splits, reading.used)]
    if role == "source":
        remarks += note_unlabelled(splits, reading.label_column)
    return LoadedDomain(splits, summarize_domain(spec, splits, files, tuple(remarks), tuple(aside)))


def _names(listing: SplitFiles, folder: Path | None = None) -> dict[str, tuple[str, ...]]:
    return {
        split: tuple(str(path) if folder else path.name for path in files) for split, files in listing.files.items()
    }


def _read_tables(
    folder: Path | None, listing: SplitFiles, role: str, reading: ReadOptions, name: str
) -> tuple[dict[str, Any], list[str]]:
    """The tables of a listing as datasets by split, and what was noted; its paths start at the folder, if any."""
    splits: dict[str, Any] = {}
    noted: dict[str, list[str]] = {}
    for split, files in listing.files.items():
        parts = []
        for file in files:
            path = folder / file if folder else file
            read = read_table(path, role, reading.encoding, reading.label_column, reading.used)
            parts.append((file, with_whole_paths(read.dataset, reading.image_column, path.parent)))
            for note in read.notes:
                noted.setdefault(note, []).append(file.name)
        splits[split] = joined(parts, name)
    count = sum(map(len, listing.files.values()))
    return splits, [n if len(names) == count else f"{n} in {listed(names)}" for n, names in noted.items()]


def _read_folder(place: DomainLocation, role: str, reading: ReadOptions, is_test: bool) -> LoadedDomain:
    """A folder: written by `save_to_disk`, of tables, or of images."""
    folder, name = place.path, f"{role} {place.spec!r}"
    if any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
        return _read_saved(place, role, reading, is_test)
    files = list_files(folder, name)
    if not files.tables and not files.images:
        saved = sorted(mark.parent for mark in folder.glob("*/state.json"))
        if saved:
            return _read_saved_splits(place, saved, role, reading, is_test)
        found = f"it holds {'; '.join(files.aside())}" if files.aside() else "it holds no files"
        remedy = REMEDIES.get(files.foreign[0].suffix.lower(), "") if files.foreign else ""
        raise ValueError(f"{_unreadable(name, found)}{' ' * bool(remedy)}{remedy}")
    metadata, tables = split_metadata(files) if files.images else ([], list(files.tables))
    rows = {
        path: read_table(folder / path, role, reading.encoding, reading.label_column, reading.used)
        for path in metadata
    }
    plain = [path for path, read in rows.items() if FILE_NAME not in read.columns]
    tables += plain  # a table that happens to have that name
    rows = {path: read for path, read in rows.items() if path not in plain}
    if tables and not rows:
        return _read_folder_of_tables(place, role, reading, is_test, files)
    images = list_images(files.images, name)
    aside = ([f"{listed(map(str, tables))} (beside metadata)"] if tables else []) + files.aside()
    if rows:
        datasets = {path: read.dataset for path, read in rows.items()}
        splits = read_metadata(folder, datasets, images, name, reading.image_column, reading.label_column)
        images.notes.append(f"columns from {listed(map(str, rows))}")
        images.notes += [note for read in rows.values() for note in read.notes]
    else:
        if not is_test:
            require_train(dict.fromkeys(images.images, ""), name, "Call the folder of images to train on train/.")
        is_source = role == "source" and not is_test
        if not is_test:
            label_images(images, name, is_source)
        splits = read_images(folder, images, name, is_source, reading.image_column, reading.label_column)
    if not is_test:
        require_train(dict.fromkeys(splits, ""), name, "Call the folder of images to train on train/.")
    tops = {split: _tops([path for path, _ in pairs]) for split, pairs in images.images.items()}
    return _loaded(place.spec, splits, tops, role, reading, images.notes, [*images.aside, *aside])


def _tops(paths: Sequence[Path]) -> tuple[str, ...]:
    """The folders that images are in, from the top."""
    return tuple(dict.fromkeys(f"{path.parts[0]}/" if len(path.parts) > 1 else path.name for path in paths))


def _read_folder_of_tables(
    place: DomainLocation, role: str, reading: ReadOptions, is_test: bool, files: FolderFiles
) -> LoadedDomain:
    name = f"{role} {place.spec!r}"
    listing = list_card_files(place.path, files.tables, name) or list_tables(files.tables, name)
    if not is_test:
        require_train(
            {split: listed(map(str, paths)) for split, paths in listing.files.items()},
            name,
            "Rename the file to train on, or give that file itself.",
        )
    splits, notes = _read_tables(place.path, listing, role, reading, name)
    aside = [*listing.aside, *files.aside()]
    if files.images and reading.image_column not in splits.get("train", next(iter(splits.values()))).column_names:
        tops = {path.parts[0] for path in files.images if len(path.parts) > 1}
        if len(tops) > 1:
            raise ValueError(
                f"{name} holds {len(files.images):,} images in folders ({listed(sorted(tops))}) and tables without a "
                f"column {reading.image_column!r} ({listed(map(str, files.tables))}). Say with `image_column` which "
                "column names the images, move the tables away, or give one of them instead of the folder."
            )
        aside.append(f"{len(files.images):,} image{'s' * (len(files.images) > 1)}")
    return _loaded(place.spec, splits, _names(listing, place.path), role, reading, notes, aside)


def _read_saved(place: DomainLocation, role: str, reading: ReadOptions, is_test: bool) -> LoadedDomain:
    """A folder that `save_to_disk` wrote."""
    from datasets import DatasetDict

    name = f"{role} {place.spec!r}"
    found = _load_saved(place.path, name)
    if not isinstance(found, DatasetDict):
        stored = str(found.split) if found.split else ""
        notes = [f"it was saved as the split {stored!r}"] if stored and stored != "train" else []
        splits = {"train": with_whole_paths(found, reading.image_column, place.path)}
        return _loaded(place.spec, splits, {}, role, reading, notes)
    return _read_stored(found, place, name, role, reading, is_test)


def _read_saved_splits(
    place: DomainLocation, folders: Sequence[Path], role: str, reading: ReadOptions, is_test: bool
) -> LoadedDomain:
    """A folder of folders that `save_to_disk` wrote, each named by its split."""
    name = f"{role} {place.spec!r}"
    found = {folder.name: _load_saved(folder, name) for folder in folders}
    if not is_test and "train" not in choose_splits(found)[0]:
        raise ValueError(
            f"{name} holds folders that `save_to_disk` wrote ({listed(found)}), and none is named train. Give one of "
            "them, or name the one to train on train."
        )
    return _read_stored(found, place, name, role, reading, is_test)


def _load_saved(folder: Path, name: str) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except Exception as error:
        raise ValueError(_unreadable(name, _first_line(error))) from error


def _read_stored(found: Any, place: DomainLocation, name: str, role: str, reading: ReadOptions, is_test: bool) -> LoadedDomain:
    """Stored splits under the names that they have here."""
    try:
        chosen, aside = choose_splits(found)
    except ValueError as error:
        raise ValueError(f"{name}: {error}. Save one of them only, or under another name.") from error
    if not is_test and "train" not in chosen:
        raise ValueError(f"{name} has no train split; it has {', '.join(found)}. Save the rows to train on as train.")
    if not chosen:
        raise ValueError(f"{name} has no split that is read; it has {', '.join(found)}. Name one train or test.")
    splits = {split: found[stored] for split, stored in chosen.items()}
    if place.kind == "folder":
        splits = {split: with_whole_paths(part, reading.image_column, place.path) for split, part in splits.items()}
    files = {split: (f"split {stored!r}",) for split, stored in chosen.items() if stored != split}
    left = [f"split {stored!r}, {len(found[stored]):,} rows ({reason})" for stored, reason in aside.items()]
    return _loaded(place.spec, splits, files, role, reading, (), left)


def _read_hub(spec: str, role: str, reading: ReadOptions, is_test: bool) -> LoadedDomain:
    from datasets import load_dataset

    name, _, config = spec.partition(":")
    try:
        if not hub_reachable() and not _is_cached(name):  # the client would retry for half a minute
            raise ConnectionError(name)
        found = load_dataset(name, config or None)
    except (ConnectionError, OSError) as error:
        near = nearest(spec, [SAMPLE]) or hint(spec)
        raise FileNotFoundError(
            f"{role} {spec!r}: it is no local file or folder, and the Hub is out of reach or does not have it "
            f"(is the id right? does a private one need `hf auth login`?).{near}"
        ) from error
    return _read_stored(found, DomainLocation("hub", spec, Path(spec)), f"{role} {spec!r}", role, reading, is_test)


def _read_sample(spec: str, role: str, reading: ReadOptions) -> LoadedDomain:
    from .sample_corpus import load_sample_corpus

    if spec in DIGITS:
        start = f"{DIGITS[spec]}_"
        found = {k.removeprefix(start): v for k, v in load_digits_corpus().items() if k.startswith(start)}
    else:
        half = {"source": "news", "target": "medical"}[role]
        found = {k.split("_")[1]: v for k, v in load_sample_corpus().items() if k.startswith(half)}
    return _loaded(spec, found, {}, role, reading)


def _unreadable(name: str, reason: str) -> str:
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
