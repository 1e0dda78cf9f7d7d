"""Shared rows: rows that stand in two splits, of which leaks are trained on and evaluated on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ..data.domain_arguments import source_label
from ..data.duplicate_rows import matching_rows, text_keys
from ..data.encoder import InputColumns
from ..data.image_keys import image_keys, pixels_are_cheap
from ..data.label_values import row_name
from ..messages import shown

REMEDY = (
    "Scores on rows that a model was trained on say nothing of other rows. Drop them from one of the two, or give "
    "other files."
)
REMEDY_OF_HELD_OUT = (
    "The validation rows were held out of rows that stand in the data twice. Drop copies, or give a validation split."
)
SHORTEST_SENTENCE = 5  # words; in tagging, shorter ones such as headings recur without being copies


class Split(NamedTuple):
    """Split of a domain; as text, its name in messages.

    Example:
        >>> str(Split("books", "test")), str(Split("target", "train"))
        ("the test split of source 'books'", 'the training rows of target')
    """

    domain: str
    split: str

    def __str__(self) -> str:
        domain = self.domain if self.domain == "target" else source_label(self.domain)
        return f"the training rows of {domain}" if self.split == "train" else f"the {self.split} split of {domain}"


@dataclass(frozen=True)
class SharedRows:
    """Rows of one split that stand in another, too.

    Attributes:
        one, other: the two splits.
        count: rows of the other that stand in the one.
        rows: of the other, in all.
        example: name of the first such row of the other, and of the row that it equals.
        text: of that row, cut; of an image, its path, if any.
    """

    one: Split
    other: Split
    count: int
    rows: int
    example: tuple[str, str]
    text: str

    @property
    def is_leak(self) -> bool:
        """Whether the rows are trained on in one of the splits and evaluated on in the other."""
        return (self.one.split == "train") != (self.other.split == "train")

    def __str__(self) -> str:
        counted = f"{self.count:,} of {self.rows:,} rows of {self.other}"
        return f"{counted} {'are rows' if self.count > 1 else 'is a row'} of {self.one}"


def row_keys(
    splits: Mapping[Split, Any], columns: InputColumns, modality: str, tagging: bool = False
) -> dict[Split, Any]:
    """Keys that rows of equal inputs share.

    Texts are compared letter by letter; images by pixels where that takes seconds, else by their files.

    Args:
        splits: map-style datasets.
        columns: where inputs are.
        modality: `"text"` or `"image"`.
        tagging: words are read, whatever stands beside them.

    Returns:
        pyarrow arrays of text.

    Raises:
        ValueError: a split without such a column, an image that cannot be read.
    """
    if modality == "image":
        by_name = {f"{split}:": rows for split, rows in splits.items()}
        keys = image_keys(by_name, columns.image, pixels_are_cheap(by_name, columns.image))
        return dict(zip(splits, keys.values(), strict=True))
    text = columns.text
    return {
        split: text_keys(
            rows,
            [text.input_column(rows, tagging, str(split))]
            + [name for name in (text.text_pair,) if name is not None and name in rows.column_names],
        )
        for split, rows in splits.items()
    }


def without_short_sentences(keys: Any) -> Any:
    """Keys of sentences, without those of fewer than five words, which recur by chance.

    Args:
        keys: a pyarrow array of sentences.

    Example:
        >>> import pyarrow as pa
        >>> without_short_sentences(pa.array(["See below .", "No change was seen at all ."])).to_pylist()
        [None, 'No change was seen at all .']
    """
    words = pc.count_substring_regex(keys, r"\S+")
    return pc.if_else(pc.greater_equal(words, SHORTEST_SENTENCE), keys, pa.scalar(None, keys.type))


def find_shared_rows(
    splits: Mapping[Split, Any], keys: Mapping[Split, Any], columns: InputColumns
) -> list[SharedRows]:
    """Pairs of splits with rows in common, leaks first.

    Args:
        splits: map-style datasets, those that are trained on first.
        keys: of their rows, from `row_keys`.
        columns: where inputs are.
    """
    pairs = []
    names = list(splits)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            matches = matching_rows(keys[one], keys[other])
            if len(matches):
                other_row, row = map(int, matches[0])
                pairs.append(
                    SharedRows(
                        one,
                        other,
                        len(matches),
                        len(splits[other]),
                        (row_name(splits[other], other_row), row_name(splits[one], row)),
                        _excerpt(splits[other], other_row, columns),
                    )
                )
    return sorted(pairs, key=lambda pair: not pair.is_leak)


def refuse_leaks(pairs: Collection[SharedRows], held_out: Collection[Split] = ()) -> None:
    """Check for rows that are trained on and evaluated on.

    Args:
        pairs: from `find_shared_rows`.
        held_out: validation splits that were cut from train.

    Raises:
        ValueError: there are such rows; it names all pairs of splits, and a row of the first.
    """
    leaks = [pair for pair in pairs if pair.is_leak]
    if leaks:
        first, *others = leaks
        likewise = f" Likewise, {'; '.join(map(str, others))}." if others else ""
        raise ValueError(
            f"{first}, such as row {first.example[0]}, which is row {first.example[1]} there{first.text}."
            f"{likewise} {REMEDY_OF_HELD_OUT if first.other in held_out else REMEDY}"
        )


def _excerpt(rows: Any, row: int, columns: InputColumns) -> str:
    """Text of a row, after ": "; of an image, nothing."""
    for column in (columns.text.text, columns.text.tokens):
        if column in rows.column_names:
            value = rows.select_columns([column])[row][column]
            return f": {shown(' '.join(map(str, value)) if isinstance(value, list) else value)}"
    return ""
