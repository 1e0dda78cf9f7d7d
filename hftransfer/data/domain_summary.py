"""Summary of what was read for a domain: files, rows, splits, columns, and what was left aside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .row_origins import visible

FILES = 4


@dataclass(frozen=True)
class SplitSummary:
    """Number of rows of a split, and the files that they come from."""

    rows: int
    files: tuple[str, ...]
    held_out: bool = False


@dataclass(frozen=True)
class DomainSummary:
    """Summary of what was read for one domain.

    Attributes:
        spec: as it was named.
        splits: by name.
        columns: of the train split.
        notes: what is worth saying of the reading, such as `"separator ';'"`.
        left_aside: files, splits and images that were not used.
    """

    spec: str
    splits: dict[str, SplitSummary]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_aside: tuple[str, ...] = ()

    def lines(self, columns_read: Collection[str] | None = None) -> list[str]:
        """Lines of text for the plan.

        Args:
            columns_read: columns that the run reads; the others are said to be unused. `None`: nobody knows.
        """
        lines = [f"{split}: {_rows(summary)}" for split, summary in self.splits.items()]
        if columns_read is None:
            lines.append(f"columns: {', '.join(self.columns)}")
        else:
            unused = [column for column in self.columns if column not in columns_read]
            used_columns = [column for column in self.columns if column in columns_read]
            lines.append(f"columns: {', '.join(used_columns)}" + (f" (unused: {_several(unused)})" if unused else ""))
        lines += self.notes
        if self.left_aside:
            lines.append(f"left aside: {'; '.join(self.left_aside)}")
        return lines


def summarize_domain(
    spec: str,
    splits: Mapping[str, Any],
    files: Mapping[str, tuple[str, ...]],
    notes: tuple[str, ...] = (),
    left_aside: tuple[str, ...] = (),
) -> DomainSummary:
    """Summary of datasets by split.

    Args:
        spec: as the domain was named.
        splits: the datasets.
        files: names of what they were read from.
        notes, left_aside: as in `DomainSummary`.
    """
    first = next(iter(splits.values()))
    shown_split = splits.get("train", first)
    return DomainSummary(
        spec,
        {split: SplitSummary(len(dataset), tuple(files.get(split, ()))) for split, dataset in splits.items()},
        tuple(visible(shown_split.column_names)),
        tuple(dict.fromkeys(notes)),
        left_aside,
    )


def with_held_out(summary: DomainSummary, splits: Mapping[str, Any]) -> DomainSummary:
    """Summary after a validation split was cut from train."""
    if set(splits) == set(summary.splits):
        return summary
    summaries = dict(summary.splits)
    summaries["train"] = replace(summaries["train"], rows=len(splits["train"]))
    validation = {"validation": SplitSummary(len(splits["validation"]), (), held_out=True)}
    others = {name: other for name, other in summaries.items() if name != "train"}
    return replace(summary, splits={"train": summaries["train"], **validation, **others})


def note_unlabelled(splits: Mapping[str, Any], label_column: str) -> list[str]:
    """Notes on splits that have no labels where train has them."""
    unlabelled = [
        split for split, dataset in splits.items() if dataset.column_names and label_column not in dataset.column_names
    ]
    if "train" not in splits or "train" in unlabelled:
        return []
    return [f"{split}: no column {label_column!r}, so that no labels are scored there" for split in unlabelled]


def _rows(summary: SplitSummary) -> str:
    counted = f"{summary.rows:,} row{'s' * (summary.rows != 1)}"
    if summary.held_out:
        return f"{counted} held out of train"
    return f"{counted} of {_several(summary.files)}" if summary.files else counted


def _several(names: Collection[str]) -> str:
    shown = [name if name.isprintable() else repr(name) for name in list(names)[:FILES]]
    hidden = len(names) - len(shown)
    return ", ".join(shown) + (f" and {hidden:,} more" if hidden else "")
