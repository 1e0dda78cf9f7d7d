"""Saved datasets: folders that `save_to_disk` wrote and datasets of the Hub, whose splits have names already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..hub_connection import hub_reachable
from ..messages import nearest
from .domain_locations import SAMPLE, DomainLocation, path_hint
from .file_listing import listed
from .image_paths import with_absolute_paths
from .loaded_domain import LoadedDomain, ReadOptions, loaded_domain, unreadable_folder
from .split_names import choose_splits


def read_saved(location: DomainLocation, role: str, options: ReadOptions, is_test: bool) -> LoadedDomain:
    """Domain read from a folder that `save_to_disk` wrote."""
    from datasets import DatasetDict

    name = f"{role} {location.spec!r}"
    saved = _load_saved(location.path, name)
    if not isinstance(saved, DatasetDict):
        saved_split = str(saved.split) if saved.split else ""
        notes = [f"it was saved as the split {saved_split!r}"] if saved_split and saved_split != "train" else []
        splits = {"train": with_absolute_paths(saved, options.image_column, location.path)}
        return loaded_domain(location.spec, splits, {}, role, options, notes)
    return _choose_stored_splits(saved, location, name, role, options, is_test)


def read_saved_splits(
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
        raise ValueError(unreadable_folder(name, _first_line(error))) from error


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
    return loaded_domain(location.spec, splits, files, role, options, (), left_aside)


def read_hub(spec: str, role: str, options: ReadOptions, is_test: bool) -> LoadedDomain:
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


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split("\n")[0]


def _is_cached(name: str) -> bool:
    """Whether `datasets` keeps a copy of a Hub dataset."""
    from datasets import config

    return (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()
