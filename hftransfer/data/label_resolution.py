"""Agreement on labels: the task and the classes, read off the sources' label columns and held against all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..ignored_label import IGNORE
from ..messages import nearest, shown
from .label_space import (
    LISTS,
    TASKS,
    LabelEncoder,
    LabelSpace,
    Task,
    listed,
    no_label,
    require_column,
    unknown_class,
)
from .label_values import (
    NUMBER,
    WHOLE,
    as_lists,
    in_order,
    key_of,
    literal_list,
    name_of,
    number_of,
    row_of,
    split_by,
)
from .label_warnings import check_class_count, check_several_classes, remark
from .task_inference import DatasetLabels, read_dataset_labels, task_of


def read_label_names(
    sources: Mapping[str, Any], label_column: str = "label", tokens_column: str = "tokens", task: str | None = None
) -> tuple[str, ...]:
    """Names of the labels that sources hold, in the order of a model's logits.

    Args:
        sources: labelled datasets by name.
        label_column: where labels are.
        tokens_column: where words are, in tagging.
        task: instead of what the labels look like.

    Raises:
        ValueError: a missing column or label, one class only, or sets that differ.

    Example:
        >>> read_label_names({"source": Dataset.from_dict({"label": ["up", "down", "up"]})})
        ('down', 'up')
    """
    return resolve_label_space(sources, label_column, tokens_column, task).names


def resolve_label_space(
    sources: Mapping[str, Any],
    label_column: str,
    tokens_column: str = "tokens",
    task: str | None = None,
    model_names: Sequence[str] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    separator: str | None = None,
    merge_case: bool = False,
) -> LabelSpace:
    """The label space of a run: what the sources hold.

    Names are matched as names, never as positions. A set that is *declared* (`ClassLabel`, or a model that already
    carries names) must be the same in all sources; a set that was only *observed* in rows may be a part of another.
    Evaluation sets may lack classes, and must not bring any.

    Args:
        sources: labelled datasets by what messages call them.
        label_column: where labels are.
        tokens_column: where words are, in tagging.
        task: instead of what the labels look like.
        model_names: label names that the model carries.
        evaluation: labelled datasets that are only evaluated on.
        separator: what stands between the labels of one text.
        merge_case: names that differ by case alone are one.

    Raises:
        ValueError: a missing column or label, one class only, as good as as many classes as rows, an unknown task,
            sets that differ (both are shown), a class that no source has (with its row).

    Example:
        >>> from datasets import Dataset
        >>> resolve_label_space({"source": Dataset.from_dict({"label": ["5", "10", "5"]})}, "label").names
        ('5', '10')
    """
    for where, part in {**sources, **(evaluation or {})}.items():
        require_column(part, label_column, where)
    if task is not None and task not in TASKS:
        raise ValueError(f"task={task!r} is not one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    read = [read_dataset_labels(where, part, label_column) for where, part in sources.items()]
    chosen: Task = task or task_of(read[0], label_column, tokens_column, separator)
    if separator is not None and chosen != "multi-label-classification":
        raise ValueError(f"label_separator={separator!r} splits a text into several labels, and the task is {chosen}.")
    if chosen == "regression":
        return LabelSpace(chosen, ("score",))

    space = LabelSpace(chosen, (), separator=separator, merge_case=merge_case)
    read = [_lists(labels, space) if chosen in LISTS else labels for labels in read]
    for labels in read:
        _check_rows(labels, label_column, chosen)
    space = replace(space, vectors=chosen == "multi-label-classification" and _are_vectors(read))
    tested = [read_dataset_labels(where, part, label_column) for where, part in (evaluation or {}).items()]
    tested = [_lists(labels, space) if chosen in LISTS else labels for labels in tested]
    space = _agree(space, read, tested, model_names, label_column)
    if chosen == "sequence-classification":
        check_several_classes(read, label_column)
        check_class_count(read, label_column, task is not None, bool(model_names))
    if not space.vectors:
        remark(read, space, label_column)
    for labels in tested:
        _check_known(labels, space, label_column)
    return space


def _lists(labels: DatasetLabels, space: LabelSpace) -> DatasetLabels:
    """With texts read as lists."""
    column = labels.column
    if column is None or column.widths is not None:
        if column is not None and space.separator is not None:
            raise ValueError(
                f"label_separator={space.separator!r} splits texts, and the labels of {labels.where} are lists. Leave "
                "it out."
            )
        return labels
    encoder = LabelEncoder(space, None, labels.where)
    for value, row in zip(column.values, column.rows, strict=True):
        if not isinstance(value, str):
            raise ValueError(f"{labels.at(row)}: the label {shown(value)} does not fit {space.task}; is `task` right?")
        encoder.parts(value, row_of(labels.dataset, row))
    separator = space.separator
    read = literal_list if separator is None else lambda text: split_by(text, separator)
    return replace(labels, column=as_lists(column, read))


def _check_rows(labels: DatasetLabels, label_column: str, task: Task) -> None:
    """Raises `ValueError` for a row without a label, torch's mark of one, and lists where rows have one label."""
    column = labels.column
    if column is None:
        return
    if column.widths is not None and task not in LISTS:
        value = labels.dataset[0][label_column]
        raise ValueError(f"{labels.at(0)}: the label {shown(value)} does not fit {task}; is `task` right?")
    if column.missing is not None:
        raise no_label(labels.where, row_of(labels.dataset, column.missing), label_column)
    marks = [value for value in column.values if name_of(value) == str(IGNORE)]
    if marks and not labels.declared:
        raise ValueError(
            f"{labels.at(column.row_of(marks[0]))}: label {IGNORE} in {label_column!r} is what losses skip, a row or "
            "word without a label. Drop such rows, or give the label."
        )


def _are_vectors(read: Sequence[DatasetLabels]) -> bool:
    """Whether lists of integers are 0/1 vectors: of one width above 1 in all sources, nothing but 0 and 1."""
    widths = {width for labels in read if labels.column is not None for width in labels.column.widths or ()}
    values = [value for labels in read if labels.column is not None for value in labels.column.values]
    bits = all(isinstance(v, bool) or number_of(v) in (0.0, 1.0) for v in values)
    return len(widths) == 1 and max(widths) > 1 and bits and not any(labels.declared for labels in read)


def _agree(
    space: LabelSpace,
    read: Sequence[DatasetLabels],
    tested: Sequence[DatasetLabels],
    model_names: Sequence[str] | None,
    label_column: str,
) -> LabelSpace:
    """The space with the names that the model and the sources agree on."""
    merge = space.merge_case
    found: list[tuple[str, tuple[str, ...], bool]] = []  # where, names, declared?
    if model_names:
        found.append(("the model", tuple(model_names), True))
    for labels in read:
        if labels.declared is None and labels.column is None:
            if model_names:
                continue  # each row is checked as it comes
            raise ValueError(
                f"{labels.where} is a stream, so its labels cannot be listed beforehand: "
                f"cast {label_column!r} to a `ClassLabel`, or pass a model whose config names its labels."
            )
        names = labels.declared or _observed(labels, space)
        found.append((labels.where, names, labels.declared is not None))
    found.sort(key=lambda item: (not item[2], -len(item[1]) if not item[2] else 0))
    base_where, base, base_declared = found[0]
    if space.vectors:
        if len(base) != len(found[-1][1]):
            raise ValueError(_differ(base_where, base, found[-1][0], found[-1][1]))
        return replace(space, names=base)
    keys = {key_of(name, merge) for name in base}
    for where, names, declared in found[1:]:
        own = {key_of(name, merge) for name in names}
        if own == keys or (not declared and own < keys):
            continue
        if not declared and base_declared and _count_off(names, base):
            continue  # bare integers index into the declared names
        below = None if declared else next((name for name in names if key_of(name).startswith("-")), None)
        if below and base_declared and all(WHOLE.fullmatch(name) for name in names):
            labels = next(labels for labels in read if labels.where == where)
            column = labels.column
            assert column is not None
            row = next(row for v, row in zip(column.values, column.rows, strict=True) if name_of(v) == below)
            raise ValueError(
                f"{labels.at(row)}: label {below} in {label_column!r} is negative, and labels count off "
                f"{listed(base)} from 0. Drop rows that have none."
            )
        raise ValueError(_differ(base_where, base, where, names))
    positions = base if base_declared else ()
    if merge and base_where != "the model":  # declared names are merged as those that occur are
        base = tuple({key_of(name, merge): name for name in reversed(base)}.values())[::-1]
    for labels in () if base_declared else tested:
        if labels.declared and _count_off(base, labels.declared):
            positions = labels.declared
            base = tuple(positions[int(key_of(name))] for name in base)
            break
    if len(base) < 2 and space.task != "multi-label-classification":
        raise ValueError(f"{base_where} holds one class only ({', '.join(base) or 'none'}); a classifier needs two.")
    if not base:
        raise ValueError(
            f"{base_where} holds no label: all lists in {label_column!r} are empty. Give some rows labels."
        )
    return replace(space, names=base, positions=positions)


def _count_off(names: Sequence[str], declared: Sequence[str]) -> bool:
    """Whether names are integers that can only be places in a list of declared names."""
    if any(NUMBER.fullmatch(name.strip()) for name in declared):
        return False
    return all(key_of(name).isdigit() and int(key_of(name)) < len(declared) for name in names)


def _observed(labels: DatasetLabels, space: LabelSpace) -> tuple[str, ...]:
    """The names of the values that occur, each written as it mostly is; places in 0/1 vectors."""
    column = labels.column
    assert column is not None
    if space.vectors:
        return tuple(str(i) for i in range(max(column.widths or (0,))))
    written: dict[str, Counter[str]] = {}
    for value, count in zip(column.values, column.counts, strict=True):
        name = name_of(value)
        if name is not None:
            written.setdefault(key_of(name, space.merge_case), Counter())[name] += count
    return in_order(counter.most_common(1)[0][0] for counter in written.values())


def _check_known(labels: DatasetLabels, space: LabelSpace, label_column: str) -> None:
    """Raises `ValueError` where an evaluation set holds what the space does not, with the row."""
    _check_rows(labels, label_column, space.task)
    column = labels.column
    if column is None:
        return
    if space.vectors:
        if not labels.declared and column.widths and column.widths != {len(space.names)}:
            width = max(column.widths - {len(space.names)})
            raise ValueError(
                f"{labels.where} holds vectors of {width} labels in {label_column!r}, and the sources of "
                f"{len(space.names)}. All are 0/1 vectors over the same labels."
            )
        return
    encoder = labels.encoder(space, label_column)
    unknown = [i for i, value in enumerate(column.values) if encoder.find(value) is None]
    if unknown:
        first = min(unknown, key=lambda i: column.rows[i])
        count = sum(column.counts[i] for i in unknown)
        kind = "label" if column.widths is not None else "row"
        many = f" {count} {kind}{'s are' if count > 1 else ' is'} of such classes"
        more = f" ({', '.join(encoder.named(column.values[i]) for i in unknown[:5])})" if len(unknown) > 1 else ""
        raise ValueError(
            f"{labels.at(column.rows[first])}: "
            + unknown_class(space, encoder.named(column.values[first]), f"{many}{more}.")
        )


def _differ(here: str, names: Sequence[str], there: str, others: Sequence[str]) -> str:
    folded = {name.casefold() for name in others} <= {name.casefold() for name in names} and not {*others} <= {*names}
    remedy = (
        "They differ by case alone: set `merge_label_case`, or rename one of them."
        if folded
        else "Every domain must use the same label names; rename or filter one of them."
    )
    return f"The label sets differ.\n  {here}: {listed(names)}\n  {there}: {listed(others)}\n{remedy}"
