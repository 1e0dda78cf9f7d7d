"""What was read for a domain, as plain data: files, rows, splits, columns, and what was left aside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .row_origins import visible

FILES = 4


@dataclass(frozen=True)
class SplitSummary:
    """Rows of a split, and where they come from."""

    rows: int
    files: tuple[str, ...]
    held_out: bool = False


@dataclass(frozen=True)
class DomainSummary:
    """What was read for one domain.

    Attributes:
        place: as it was named.
        splits: by name.
        columns: of the train split.
        notes: what is worth saying of the reading, such as `"separator ';'"`.
        aside: files, splits and images that were not used.
    """

    place: str
    splits: dict[str, SplitSummary]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()

    def lines(self, used: Collection[str] | None = None) -> list[str]:
        """A few lines for the plan.

        Args:
            used: columns that the run reads; the others are said to be unused. `None`: nobody knows.
        """
        out = [f"{split}: {_rows(part)}" for split, part in self.splits.items()]
        if used is None:
            out.append(f"columns: {', '.join(self.columns)}")
        else:
            unused = [column for column in self.columns if column not in used]
            mine = [column for column in self.columns if column in used]
            out.append(f"columns: {', '.join(mine)}" + (f" (unused: {_several(unused)})" if unused else ""))
        out += self.notes
        if self.aside:
            out.append(f"left aside: {'; '.join(self.aside)}")
        return out


def summarize_domain(
    place: str,
    splits: Mapping[str, Any],
    files: Mapping[str, tuple[str, ...]],
    notes: tuple[str, ...] = (),
    aside: tuple[str, ...] = (),
) -> DomainSummary:
    """The account of datasets by split.

    Args:
        place: as the domain was named.
        splits: the datasets.
        files: names of what they were read from.
        notes, aside: as in `DomainSummary`.
    """
    first = next(iter(splits.values()))
    shown = splits.get("train", first)
    return DomainSummary(
        place,
        {split: SplitSummary(len(part), tuple(files.get(split, ()))) for split, part in splits.items()},
        tuple(visible(shown.column_names)),
        tuple(dict.fromkeys(notes)),
        aside,
    )


def with_held_out(account: DomainSummary, splits: Mapping[str, Any]) -> DomainSummary:
    """The account after a validation split was cut from train."""
    if set(splits) == set(account.splits):
        return account
    parts = dict(account.splits)
    parts["train"] = replace(parts["train"], rows=len(splits["train"]))
    held = {"validation": SplitSummary(len(splits["validation"]), (), held_out=True)}
    tests = {name: part for name, part in parts.items() if name != "train"}
    return replace(account, splits={"train": parts["train"], **held, **tests})


def note_unlabelled(splits: Mapping[str, Any], label_column: str) -> list[str]:
    """In words, which splits have no labels where train has them."""
    lacking = [split for split, part in splits.items() if part.column_names and label_column not in part.column_names]
    if "train" not in splits or "train" in lacking:
        return []
    return [f"{split}: no column {label_column!r}, so that no labels are scored there" for split in lacking]


def _rows(part: SplitSummary) -> str:
    rows = f"{part.rows:,} row{'s' * (part.rows != 1)}"
    if part.held_out:
        return f"{rows} held out of train"
    return f"{rows} of {_several(part.files)}" if part.files else rows


def _several(names: Collection[str]) -> str:
    shown = [name if name.isprintable() else repr(name) for name in list(names)[:FILES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
