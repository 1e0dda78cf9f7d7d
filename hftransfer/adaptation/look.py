"""Look at the data of an adaptation before anything is trained: what is there, what is twice, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.class_counts import count_classes
from ..data.domain_arguments import as_domain, source_label
from ..data.duplicate_rows import matching_rows, repeated_rows
from ..data.label_space import LabelSpace, Task, column_names, listed
from ..data.pairing import PairedDataset
from ..stages import stage
from ..trainers.setup.run_domains import RunDomains, read_domains
from ..trainers.setup.run_label_space import agree_on_labels
from .data_requirements import (
    check_map_style,
    check_other_domain,
    check_target,
    check_target_size,
    check_task,
    check_validation,
    check_validation_classes,
)
from .input_sizes import PictureSizes, TextLengths, picture_sizes, text_lengths
from .shared_rows import SharedRows, Split, find_shared_rows, refuse_leaks, row_keys, without_short_sentences

if TYPE_CHECKING:
    from ..data.domain_loading import LoadedDomains
    from ..trainers.config import AdaptationConfig
    from ..trainers.setup.preparation import Prepared

UNEQUAL = 20  # times as many rows of the largest class as of the smallest
CLASSES_LISTED = 12


@dataclass(frozen=True)
class DataLook:
    """Look at the data of an adaptation: facts, and a plain line for each.

    Attributes:
        task, modality: of the run; modality is `"text"` or `"image"`.
        rows: number of rows by domain and split (`"train"`, `"validation"`, `"test"`), the target under `"target"`.
        class_names: in the order of a model's logits.
        class_counts: (classes,) training rows by source; in tagging, words.
        validation_counts: (classes,) validation rows of all sources.
        sizes: of texts or images, of the training rows by domain; a domain whose inputs cannot be measured is left
            out.
        repeated: number of training rows by domain that repeat an earlier one.
        shared: pairs of splits with rows in common.
        warnings: what will make results unreliable.
    """

    task: Task
    modality: str
    rows: dict[str, dict[str, int]]
    class_names: tuple[str, ...]
    class_counts: dict[str, np.ndarray]
    validation_counts: np.ndarray
    sizes: dict[str, TextLengths | PictureSizes]
    repeated: dict[str, int]
    shared: tuple[SharedRows, ...]
    warnings: tuple[str, ...]

    @property
    def leaks(self) -> tuple[SharedRows, ...]:
        """Pairs of splits of which one is trained on and the other evaluated on; `look_at` refuses any."""
        return tuple(pair for pair in self.shared if pair.is_leak)

    @property
    def single_row_classes(self) -> tuple[str, ...]:
        """Classes with one training row in all."""
        counts = self._counts()
        return tuple(name for name, count in zip(self.class_names, counts, strict=True) if count == 1)

    @property
    def lines(self) -> list[str]:
        """One plain line for each fact, warnings last."""
        return [
            *(self._row_line(domain) for domain in self.rows),
            *(self._class_line(source) for source in self.class_counts),
            *self._imbalance_lines(),
            *(f"{_title(domain)}: {sizes}" for domain, sizes in self.sizes.items()),
            *(
                f"{_title(domain)}: {count:,} training row{'s repeat' if count > 1 else ' repeats'} an earlier one"
                for domain, count in self.repeated.items()
                if count
            ),
            *(map(str, self.shared) if self.shared else ["no row stands in two splits"]),
            *(f"warning: {warning}" for warning in self.warnings),
        ]

    def _counts(self) -> np.ndarray:
        return np.sum(list(self.class_counts.values()), axis=0)

    def _row_line(self, domain: str) -> str:
        counts = self.rows[domain]
        train = f"{counts['train']:,} {'unlabelled ' if domain == 'target' else ''}training rows"
        others = [f"{count:,} {split}" for split, count in counts.items() if split != "train"]
        return f"{_title(domain)}: {', '.join([train, *others])}"

    def _class_line(self, source: str) -> str:
        order = np.argsort(-self.class_counts[source], kind="stable")
        shown_classes = order if len(order) <= CLASSES_LISTED else [*order[: CLASSES_LISTED - 3], *order[-3:]]
        parts = [f"{self.class_names[i]!r} {self.class_counts[source][i]:,}" for i in shown_classes]
        if len(order) > CLASSES_LISTED:
            parts.insert(CLASSES_LISTED - 3, "…")
        unit = "words by tag" if self.task == "token-classification" else "rows by class"
        return f"{_title(source)}: {unit}, {len(order)} in all: {', '.join(parts)}"

    def _imbalance_lines(self) -> list[str]:
        counts = self._counts()
        largest, smallest = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        lines = []
        absent = [name for name, count in zip(self.class_names, counts, strict=True) if not count]
        if absent:
            lines.append(f"declared, and without a row to train on: {listed(absent, 5)}")
        if self.single_row_classes:
            count = len(self.single_row_classes)
            lines.append(
                f"{count} class{'es have' if count > 1 else ' has'} a single row to train on: "
                f"{listed(self.single_row_classes, 5)}"
            )
        if counts[largest] >= UNEQUAL * counts[smallest]:
            lines.append(
                f"the classes are very unequal: {self.class_names[largest]!r} has {counts[largest]:,} and "
                f"{self.class_names[smallest]!r} has {counts[smallest]:,}"
            )
        return lines


@stage("looking at the data")
def look_at(data: LoadedDomains, config: AdaptationConfig, prepared: Prepared | None = None) -> DataLook:
    """Look at the data of an adaptation, with checks of what it needs before anything is trained.

    Labels of the target are not read, but that those of its evaluation sets must be of classes that are trained.

    Args:
        data: from `load_shift`.
        config: the run's settings, which name columns and the task.
        prepared: the prepared run, where there is one: its classes are taken, and how many texts are cut is counted.

    Raises:
        ValueError: there is no target, it has fewer than 20 rows, or all its rows are rows of the sources; the
            sources have no validation rows, or none of a class; the task has no classes, or there is only one class;
            a row that is trained on is evaluated on (a leak); a data set is a stream. The message names the remedy.

    Example:
        >>> look = look_at(load_shift({"source": "sample"}, "sample"), AdaptationConfig(output_dir="out"))
        >>> print(look.lines[0])
        source: 871 training rows, 100 validation, 199 test
    """
    check_target(data.target)
    named = {
        **{source_label(name): rows for name, rows in data.train.items()},
        "target": data.target,
        **{f"the validation split of {name}": rows for name, rows in data.validation.items()},
        **{f"the test split of {name}": rows for name, rows in data.test.items()},
    }
    check_map_style(named)
    domains = read_domains(config, data.train, data.target, data.validation or None)
    splits = _splits(data, domains, config)
    warnings = check_target_size(len(splits[Split("target", "train")]))
    warnings += check_validation(
        list(domains.sources), [name for name in domains.sources if Split(name, "validation") in splits]
    )
    space = prepared.label_space if prepared is not None else agree_on_labels(domains, None, config)
    check_task(space.task, config.label_column)

    counts = _class_counts(splits, domains, space, config.label_column)
    validation_counts = np.sum([n for split, n in counts.items() if split.split == "validation"], axis=0)
    train_counts = {split.domain: n for split, n in counts.items() if split.split == "train"}
    warnings += check_validation_classes(
        space.names,
        np.sum(list(train_counts.values()), axis=0),
        validation_counts,
        bool(_held_out(data)),
        "word" if space.task == "token-classification" else "row",
    )

    keys = row_keys(splits, domains.columns, domains.modality, space.task == "token-classification")
    comparable = keys
    if space.task == "token-classification":
        comparable = {split: without_short_sentences(of_rows) for split, of_rows in keys.items()}
    _refuse_same_rows(comparable)
    shared = find_shared_rows(splits, comparable, domains.columns)
    refuse_leaks(shared, _held_out(data))
    trained = [split for split in splits if split.split == "train"]
    return DataLook(
        task=space.task,
        modality=domains.modality,
        rows=_row_numbers(splits),
        class_names=space.names,
        class_counts=train_counts,
        validation_counts=validation_counts,
        sizes=_sizes({split: splits[split] for split in trained}, keys, domains, prepared),
        repeated={split.domain: len(repeated_rows(keys[split])) for split in trained},
        shared=tuple(shared),
        warnings=tuple(warnings),
    )


def _splits(data: LoadedDomains, domains: RunDomains, config: AdaptationConfig) -> dict[Split, Any]:
    """Data sets by split, those that are trained on first; a validation split that is the test split, once."""
    splits = {Split(name, "train"): rows for name, rows in domains.sources.items()}
    splits[Split("target", "train")] = domains.target
    splits |= {Split(name, "validation"): rows for name, rows in (domains.evaluation or {}).items()}
    for name, rows in data.test.items():
        if rows is not data.validation.get(name):
            split = Split(str(name), "test")
            splits[split] = as_domain(rows, str(split), config.label_column, domains.columns.names)
    return splits


def _class_counts(
    splits: Mapping[Split, Any], domains: RunDomains, space: LabelSpace, label_column: str
) -> dict[Split, np.ndarray]:
    """(classes,) counts of the sources' training and validation rows."""
    return {
        split: count_classes(rows, space, label_column, str(split))
        for split, rows in splits.items()
        if split.domain in domains.sources and split.split != "test" and label_column in column_names(rows)
    }


def _held_out(data: LoadedDomains) -> list[Split]:
    """Validation splits of sources that were cut from train."""
    return [
        Split(name, "validation")
        for name in data.train
        if name in data.summaries
        and "validation" in data.summaries[name].splits
        and data.summaries[name].splits["validation"].held_out
    ]


def _refuse_same_rows(keys: Mapping[Split, Any]) -> None:
    """Check that not all rows of the target that can be compared are the sources'; raises `ValueError`."""
    target = keys[Split("target", "train")]
    in_sources = np.zeros(len(target), dtype=bool)
    for split, of_rows in keys.items():
        if split.domain != "target" and split.split != "test":
            in_sources[matching_rows(of_rows, target)[:, 0]] = True
    check_other_domain(len(target) - target.null_count, int(in_sources.sum()))


def _sizes(
    splits: Mapping[Split, Any], keys: Mapping[Split, Any], domains: RunDomains, prepared: Prepared | None
) -> dict[str, TextLengths | PictureSizes]:
    """Sizes of inputs by domain, of the splits that are trained on."""
    sizes: dict[str, TextLengths | PictureSizes | None] = {}
    for number, (split, rows) in enumerate(splits.items()):
        if domains.modality == "image":
            sizes[split.domain] = picture_sizes(rows, domains.columns.image)
        else:
            sizes[split.domain] = text_lengths(keys[split], _share_cut(prepared, number))
    return {domain: of_domain for domain, of_domain in sizes.items() if of_domain is not None}


def _share_cut(prepared: Prepared | None, domain: int) -> float | None:
    """Share of a domain's training rows that have as many tokens as the model is given."""
    if prepared is None or not isinstance(prepared.train, PairedDataset) or prepared.train.lengths is None:
        return None
    longest = getattr(prepared.encoder, "max_length", None)
    start, end = prepared.train.starts[domain : domain + 2]
    return None if longest is None else float((prepared.train.lengths[start:end] >= longest).mean())


def _row_numbers(splits: Mapping[Split, Any]) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for split, dataset in splits.items():
        rows.setdefault(split.domain, {})[split.split] = len(dataset)
    return rows


def _title(domain: str) -> str:
    return domain if domain == "target" else source_label(domain)
