"""Domains by name: a Hub id, a folder, a file, a pattern, or a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..messages import nearest
from ..network import hub_reachable
from ..ranges import read_number
from .digits import DOMAINS, load_digits_corpus
from .image_references import from_folder

READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPLITS = ("train", "validation", "test")
SAMPLE = "sample"
DIGITS = {f"{SAMPLE}:digits{'_' * bool(i)}{domain * bool(i)}": domain for i, domain in enumerate(DOMAINS)}


@dataclass(frozen=True)
class Shift:
    """The data sets of one run: what is trained on, and evaluation sets by name, the target's under `"target"`."""

    train: dict[str, Any]
    target: Any | None
    validation: dict[str, Any]
    test: dict[str, Any]


def load_shift(
    sources: Mapping[str, str],
    target: str | None,
    validation_fraction: float,
    seed: int,
    test: Mapping[str, str] | None = None,
    image_column: str = "image",
) -> Shift:
    """Loads sources and target. Tests are on test splits, or on validation where there is no test.

    Args:
        sources: names to what `load_domain` takes.
        target: the same.
        validation_fraction: of a source's train split, held out when it has no validation split.
        seed: of that cut.
        test: test sets that stand elsewhere, by name; of such a file or folder its test split, else its validation
            split, else all of it.
        image_column: as `load_domain`.

    Raises:
        FileNotFoundError, ValueError: as `load_domain` and `hold_out`.
    """
    validation_fraction = read_number("validation_fraction", validation_fraction)
    loaded = {name: load_domain(spec, "source", image_column) for name, spec in sources.items()}
    domains = {name: hold_out(splits, validation_fraction, seed) for name, splits in loaded.items()}
    if target:
        domains["target"] = load_domain(target, "target", image_column)
    tests = {name: d.get("test", d.get("validation")) for name, d in domains.items()}
    for name, spec in (test or {}).items():
        apart = load_domain(spec, "target" if name == "target" else "source", image_column)
        tests[name] = apart.get("test", apart.get("validation", apart["train"]))
    return Shift(
        train={name: domains[name]["train"] for name in sources},
        target=domains["target"]["train"] if target else None,
        validation={name: d["validation"] for name, d in domains.items() if "validation" in d},
        test={name: part for name, part in tests.items() if part is not None},
    )


def load_domain(spec: str, role: str, image_column: str = "image") -> dict[str, Any]:
    """Loads a domain as `{split: dataset}`, the splits among train, validation and test.

    Args:
        spec: `sample`, one of the names in `DIGITS`, a Hub id (`owner/name` or `owner/name:config`), a
            folder (of files; of images by class, `cat/1.png`, or by split and class, `train/cat/1.png`; or saved with
            `save_to_disk`), a file, or a pattern with `{split}`.
        role: `"source"` or `"target"`: which half of the sample, and what messages say.
        image_column: paths in this column of a file are taken from the folder that the file is in.

    Raises:
        FileNotFoundError: there is no such file or folder, or the Hub is out of reach.
        ValueError: there is no train split, or the file is of another kind.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    from .sample import load_sample_corpus

    if spec in DIGITS:
        start = f"{DIGITS[spec]}_"
        return {k.removeprefix(start): v for k, v in load_digits_corpus().items() if k.startswith(start)}
    if spec.startswith(f"{SAMPLE}:"):
        raise ValueError(
            f"{role} {spec!r}: there is no such sample; there is {SAMPLE}, {', '.join(DIGITS)}.{nearest(spec, DIGITS)}"
        )
    if spec == SAMPLE:
        half = {"source": "news", "target": "medical"}[role]
        return {k.split("_")[1]: v for k, v in load_sample_corpus().items() if k.startswith(half)}
    if not spec:
        raise ValueError(f"{role} is empty: give `sample`, a Hub id, a folder or a file.")
    path = Path(spec).expanduser()
    if "{split}" in spec:
        files = {s: Path(str(path).replace("{split}", s)) for s in SPLITS}
        files = {s: p for s, p in files.items() if p.is_file()}
        if "train" not in files:
            raise FileNotFoundError(f"{role} {spec!r}: there is no file {str(path).replace('{split}', 'train')!r}.")
        return {s: _read_file(p, role, image_column) for s, p in files.items()}
    if path.is_file():
        return {"train": _read_file(path, role, image_column)}
    if path.is_dir():
        saved = any((path / n).exists() for n in ("dataset_dict.json", "dataset_info.json", "state.json"))
        try:
            found = load_from_disk(str(path)) if saved else load_dataset(str(path))
        except Exception as error:
            raise ValueError(
                f"{role} {spec!r}: the folder cannot be read as a dataset ({_first_line(error)}). It should hold "
                f"files named by split (train.csv, validation.csv, test.csv; or {', '.join(READERS)}), images in "
                "folders named by class (train/cat/1.png, or cat/1.png), or come from `save_to_disk`."
            ) from error
        splits = _splits(found if isinstance(found, DatasetDict) else {"train": found}, spec, role)
        return {name: _from_folder(part, image_column, path) for name, part in splits.items()}
    if path.suffix in READERS or spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise FileNotFoundError(f"{role} {spec!r}: there is no such file or folder.")
    name, _, config = spec.partition(":")
    try:
        if not hub_reachable() and not _is_cached(name):  # the client would retry for half a minute
            raise ConnectionError(name)
        return _splits(load_dataset(name, config or None), spec, role)
    except (ConnectionError, OSError) as error:
        raise FileNotFoundError(
            f"{role} {spec!r}: it is no local file or folder, and the Hub is out of reach or does not have it "
            f"(is the id right? does a private one need `hf auth login`?).{nearest(spec, ['sample'])}"
        ) from error


def hold_out(splits: dict[str, Any], fraction: float, seed: int) -> dict[str, Any]:
    """Gives a domain without a validation split one, cut from train.

    Raises:
        ValueError: `fraction` is not between 0 and 1, or train is too small to cut.
    """
    if "validation" in splits or not fraction:
        return splits
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction={fraction} must be between 0 and 1.")
    train = splits["train"]
    size = max(1, round(len(train) * fraction))
    if size >= len(train):
        raise ValueError(
            f"A train split of {len(train)} row(s) cannot be cut for validation; set validation_fraction to 0."
        )
    cut = train.train_test_split(size, seed=seed)
    return {**splits, "train": cut["train"], "validation": cut["test"]}


def _read_file(path: Path, role: str, image_column: str) -> Any:
    from datasets import load_dataset

    reader = READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"{role} {str(path)!r}: files must end in {', '.join(READERS)}.")
    if path.stat().st_size == 0:
        raise ValueError(f"{role} {str(path)!r} is empty: it has no rows.")
    options = {"sep": "\t"} if path.suffix == ".tsv" else {}
    try:
        found = load_dataset(reader, data_files=str(path), split="train", **options)
        return _from_folder(found, image_column, path.parent)
    except Exception as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"{role} {str(path)!r} is empty: it has a header but no rows.") from error
        raise ValueError(f"{role} {str(path)!r} cannot be read as {reader}: {_first_line(error)}") from error


def _from_folder(dataset: Any, image_column: str, folder: Path) -> Any:
    """With paths in the image column, if there are any, taken from this folder."""
    from datasets import Value

    feature = dataset.features.get(image_column)
    if not isinstance(feature, Value) or "string" not in feature.dtype:
        return dataset

    def whole(batch: dict[str, list]) -> dict[str, list]:
        return {image_column: [from_folder(p, folder) for p in batch[image_column]]}

    return dataset.map(whole, batched=True, desc=f"Finding images in {folder}")


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split("\n")[0]


def _is_cached(name: str) -> bool:
    """Whether `datasets` keeps a copy of a Hub dataset."""
    from datasets import config

    return (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()


def _splits(found: Any, spec: str, role: str) -> dict[str, Any]:
    names = {"dev": "validation", "valid": "validation", "val": "validation"}
    splits = {names.get(k, k): v for k, v in found.items()}
    if "train" not in splits:
        raise ValueError(f"{role} {spec!r} has no train split; it has {', '.join(found)}.")
    return {k: v for k, v in splits.items() if k in SPLITS}
