"""Warnings and errors about odd classes: a single one, as many as rows, numbers beside text, look-alike names."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from ..messages import shown
from .label_space import LabelSpace, listed
from .label_values import INVISIBLE, NUMBER, LabelColumn, in_order, label_key, label_name, label_number
from .task_inference import DatasetLabels

logger = logging.getLogger(__name__)
# Texts, in lower case, that often mean that there is no label.
PLACEHOLDERS = frozenset("na n/a #n/a nan <na> null nil none - -- ? missing unlabeled unlabelled".split())
RARE = 0.1  # a share of rows
LOOKALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅοαινυρΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijshdqwABEKMHOPCTYXIJSoaivupABEZHIKMNOPTYX"
)
FEW_CLASSES = 20  # so many classes are never too many for their rows


def check_several_classes(sources: Sequence[DatasetLabels], label_column: str) -> None:
    """Check that sources hold more than one class; raises `ValueError`. Streams are not read through."""
    classes: set[str] = set()
    for labels in sources:
        if labels.column is None:
            return
        declared = labels.declared
        classes |= {
            declared[value]
            if declared and isinstance(value, int) and 0 <= value < len(declared)
            else label_key(str(label_name(value)))
            for value in labels.column.values
        }
    if len(classes) == 1:
        raise ValueError(
            f"All rows of {', '.join(labels.name for labels in sources)} carry the same label in {label_column!r} "
            f"({classes.pop()!r}): there is one class only, and a classifier needs two."
        )


def check_class_count(
    sources: Sequence[DatasetLabels], label_column: str, task_is_set: bool, named_by_model: bool
) -> None:
    """Check that classes are not half as many as rows or more, unless the task is set; raises `ValueError`.

    More than a tenth are warned of.
    """
    if named_by_model or any(labels.declared or labels.column is None for labels in sources):
        return
    columns = [labels.column for labels in sources if labels.column is not None]
    names = {label_key(str(label_name(value))) for column in columns for value in column.values}
    rows = sum(column.size for column in columns)
    if len(names) <= FEW_CLASSES or len(names) <= rows / 10:
        return
    source_names = ", ".join(labels.name for labels in sources)
    examples = listed(in_order(names), 3)
    if len(names) > rows / 2 and not task_is_set:
        numbers = all(NUMBER.fullmatch(name) for name in names)
        remedy = "Set `task: regression` if they are amounts" if numbers else "Such a column holds ids or texts"
        raise ValueError(
            f"{source_names}: {label_column!r} holds {len(names)} classes in {rows} rows ({examples}), too few rows "
            f"each to learn from. {remedy}, name another column with `label_column`, or insist with "
            "`task: sequence-classification`."
        )
    logger.warning(
        "%s: %r holds %d classes in %d rows (%s). Is it the label?",
        source_names,
        label_column,
        len(names),
        rows,
        examples,
    )


def warn_of_odd_labels(sources: Sequence[DatasetLabels], space: LabelSpace, label_column: str) -> None:
    """Warning of names that may be mistakes: numbers beside text, -1, and names that differ by case alone."""
    names: set[str] = set()
    for labels in sources:
        column = labels.column
        if column is None:
            continue
        if labels.declared:
            indices = range(len(labels.declared))
            names |= {labels.declared[value] for value in column.values if isinstance(value, int) and value in indices}
            continue
        names |= {str(label_name(value)) for value in column.values}
        _warn_of_placeholders(labels, column, label_column)
        are_numbers = [label_number(value) is not None for value in column.values]
        if any(are_numbers) and not all(are_numbers):
            counts = [
                sum(count for count, is_number in zip(column.counts, are_numbers, strict=True) if is_number is kind)
                for kind in (False, True)
            ]
            rare_is_number = counts[True] < counts[False]
            odd_index = min(
                (i for i, is_number in enumerate(are_numbers) if is_number is rare_is_number),
                key=lambda i: column.rows[i],
            )
            logger.warning(
                "%s: %r is %s there, and %s in most rows: both are taken as names of classes.",
                labels.row_name(column.rows[odd_index]),
                label_column,
                shown(column.values[odd_index]),
                "text" if rare_is_number else "a number",
            )
        negative = [value for value in column.values if (label_number(value) or 0) < 0]
        if [label_number(value) for value in negative] == [-1.0] and len(column.values) > 3:
            logger.warning(
                "%s: %r is -1 there, which is taken as a class. Drop such rows if it means that there is no label.",
                labels.row_name(column.first_row(negative[0])),
                label_column,
            )
    names = set({label_key(name): name for name in in_order(names)}.values())
    _warn_of_lookalikes(names, label_column)
    if not space.merge_case:
        warn_of_case(names, label_column, "Set `merge_label_case` to make them one.")


def warn_of_case(names: Iterable[str], label_column: str, remedy: str) -> None:
    """Warning of names that differ by case alone.

    Args:
        names: of classes.
        label_column: where they are.
        remedy: what makes one class of them.
    """
    groups = _groups(in_order(names), lambda name: label_key(name, True))
    if groups:
        logger.warning(
            "Labels in %r differ by case alone, and are classes of their own: %s. %s",
            label_column,
            "; ".join(" and ".join(map(repr, group)) for group in groups[:5]),
            remedy,
        )


def _warn_of_placeholders(labels: DatasetLabels, column: LabelColumn, label_column: str) -> None:
    """Warning of rare texts that often mean that there is no label; they are classes here."""
    total = sum(column.counts)
    for value, count in zip(column.values, column.counts, strict=True):
        name = str(label_name(value))
        if (
            isinstance(value, str)
            and name.casefold() in PLACEHOLDERS
            and len(column.values) > 2
            and count <= RARE * total
        ):
            logger.warning(
                "%s: %r is %s there, which is taken as a class of %d row%s. Empty the field and drop such rows if it "
                "means that there is no label.",
                labels.row_name(column.first_row(value)),
                label_column,
                shown(value),
                count,
                "s" * (count > 1),
            )


def _warn_of_lookalikes(names: Iterable[str], label_column: str) -> None:
    """Warning of names that look the same, or differ by white space alone, and are not."""
    groups = _groups(in_order(names), _appearance)
    groups = [group for group in groups if len({label_key(name, True) for name in group}) > 1]
    if groups:
        logger.warning(
            "Labels in %r look alike, and are classes of their own: %s. Write them the same way if they are one.",
            label_column,
            "; ".join(" and ".join(map(ascii, group)) for group in groups[:5]),
        )


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Groups of names that have a key in common."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _appearance(name: str) -> str:
    """Name as it looks: Latin letters for those that look like them, one space for white space of any kind."""
    text = unicodedata.normalize("NFKC", name).translate(LOOKALIKES)
    text = "".join(character for character in text if character not in INVISIBLE)
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", text).strip().casefold()
