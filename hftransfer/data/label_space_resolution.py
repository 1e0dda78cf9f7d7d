"""Resolution of the label space: the task and the classes that sources, evaluation sets and the model agree on."""

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
    missing_label_error,
    require_column,
    unknown_class_message,
)
from .label_values import (
    NUMBER,
    WHOLE,
    as_lists,
    in_order,
    label_key,
    label_name,
    label_number,
    literal_list,
    row_name,
    split_by,
)
from .label_warnings import check_class_count, check_several_classes, warn_of_odd_labels
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
    """Label space of a run, read off the label columns of its sources.

    Names are matched as names, never as positions. A set that is *declared* (`ClassLabel`, or a model that already
    carries names) must be the same in all sources; a set that was only *observed* in rows may be a part of another.
    Evaluation sets may lack classes, and must not bring any.

    Args:
        sources: labelled datasets by their names in messages.
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
    for name, dataset in {**sources, **(evaluation or {})}.items():
        require_column(dataset, label_column, name)
    if task is not None and task not in TASKS:
        raise ValueError(f"task={task!r} is not one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    source_labels = [read_dataset_labels(name, dataset, label_column) for name, dataset in sources.items()]
    resolved_task: Task = task or task_of(source_labels[0], label_column, tokens_column, separator)
    if separator is not None and resolved_task != "multi-label-classification":
        raise ValueError(
            f"label_separator={separator!r} splits a text into several labels, and the task is {resolved_task}."
        )
    if resolved_task == "regression":
        return LabelSpace(resolved_task, ("score",))

    space = LabelSpace(resolved_task, (), separator=separator, merge_case=merge_case)
    source_labels = [with_lists(labels, space) if resolved_task in LISTS else labels for labels in source_labels]
    for labels in source_labels:
        _check_rows(labels, label_column, resolved_task)
    space = replace(space, vectors=resolved_task == "multi-label-classification" and _are_vectors(source_labels))
    evaluation_labels = [
        read_dataset_labels(name, dataset, label_column) for name, dataset in (evaluation or {}).items()
    ]
    evaluation_labels = [
        with_lists(labels, space) if resolved_task in LISTS else labels for labels in evaluation_labels
    ]
    space = _agreed_space(space, source_labels, evaluation_labels, model_names, label_column)
    if resolved_task == "sequence-classification":
        check_several_classes(source_labels, label_column)
        check_class_count(source_labels, label_column, task is not None, bool(model_names))
    if not space.vectors:
        warn_of_odd_labels(source_labels, space, label_column)
    for labels in evaluation_labels:
        _check_known(labels, space, label_column)
    return space


def with_lists(labels: DatasetLabels, space: LabelSpace) -> DatasetLabels:
    """Labels of a dataset whose texts are read as lists."""
    column = labels.column
    if column is None or column.widths is not None:
        if column is not None and space.separator is not None:
            raise ValueError(
                f"label_separator={space.separator!r} splits texts, and the labels of {labels.name} are lists. Leave "
                "it out."
            )
        return labels
    encoder = LabelEncoder(space, None, labels.name)
    for value, row in zip(column.values, column.rows, strict=True):
        if not isinstance(value, str):
            raise ValueError(
                f"{labels.row_name(row)}: the label {shown(value)} does not fit {space.task}; is `task` right?"
            )
        encoder.split_labels(value, row_name(labels.dataset, row))
    separator = space.separator
    parse = literal_list if separator is None else lambda text: split_by(text, separator)
    return replace(labels, column=as_lists(column, parse))


def _check_rows(labels: DatasetLabels, label_column: str, task: Task) -> None:
    """Check for rows without a label, the ignored label, and lists where rows have one; raises `ValueError`."""
    column = labels.column
    if column is None:
        return
    if column.widths is not None and task not in LISTS:
        value = labels.dataset[0][label_column]
        raise ValueError(f"{labels.row_name(0)}: the label {shown(value)} does not fit {task}; is `task` right?")
    if column.missing is not None:
        raise missing_label_error(labels.name, row_name(labels.dataset, column.missing), label_column)
    ignored_labels = [value for value in column.values if label_name(value) == str(IGNORE)]
    if ignored_labels and not labels.declared:
        raise ValueError(
            f"{labels.row_name(column.first_row(ignored_labels[0]))}: label {IGNORE} in {label_column!r} is what "
            "losses skip, a row or word without a label. Drop such rows, or give the label."
        )


def _are_vectors(source_labels: Sequence[DatasetLabels]) -> bool:
    """Whether lists of integers are 0/1 vectors: of one width above 1 in all sources, nothing but 0 and 1."""
    widths = {width for labels in source_labels if labels.column is not None for width in labels.column.widths or ()}
    values = [value for labels in source_labels if labels.column is not None for value in labels.column.values]
    are_bits = all(isinstance(value, bool) or label_number(value) in (0.0, 1.0) for value in values)
    return len(widths) == 1 and max(widths) > 1 and are_bits and not any(labels.declared for labels in source_labels)


def _agreed_space(
    space: LabelSpace,
    source_labels: Sequence[DatasetLabels],
    evaluation_labels: Sequence[DatasetLabels],
    model_names: Sequence[str] | None,
    label_column: str,
) -> LabelSpace:
    """Label space with the names that the model and the sources agree on."""
    merge = space.merge_case
    label_sets: list[tuple[str, tuple[str, ...], bool]] = []  # name of the dataset, names, declared?
    if model_names:
        label_sets.append(("the model", tuple(model_names), True))
    for labels in source_labels:
        if labels.declared is None and labels.column is None:
            if model_names:
                continue  # each row is checked as it comes
            raise ValueError(
                f"{labels.name} is a stream, so its labels cannot be listed beforehand: "
                f"cast {label_column!r} to a `ClassLabel`, or pass a model whose config names its labels."
            )
        names = labels.declared or _observed_names(labels, space)
        label_sets.append((labels.name, names, labels.declared is not None))
    label_sets.sort(key=lambda label_set: (not label_set[2], -len(label_set[1]) if not label_set[2] else 0))
    base_name, base, base_declared = label_sets[0]
    if space.vectors:
        if len(base) != len(label_sets[-1][1]):
            raise ValueError(_difference_message(base_name, base, label_sets[-1][0], label_sets[-1][1]))
        return replace(space, names=base)
    keys = {label_key(name, merge) for name in base}
    for set_name, names, declared in label_sets[1:]:
        keys_of_set = {label_key(name, merge) for name in names}
        if keys_of_set == keys or (not declared and keys_of_set < keys):
            continue
        if not declared and base_declared and _are_positions(names, base):
            continue  # bare integers index into the declared names
        negative_name = None if declared else next((name for name in names if label_key(name).startswith("-")), None)
        if negative_name and base_declared and all(WHOLE.fullmatch(name) for name in names):
            labels = next(labels for labels in source_labels if labels.name == set_name)
            column = labels.column
            assert column is not None
            row = next(
                row
                for value, row in zip(column.values, column.rows, strict=True)
                if label_name(value) == negative_name
            )
            raise ValueError(
                f"{labels.row_name(row)}: label {negative_name} in {label_column!r} is negative, and labels count off "
                f"{listed(base)} from 0. Drop rows that have none."
            )
        raise ValueError(_difference_message(base_name, base, set_name, names))
    positions = base if base_declared else ()
    if merge and base_name != "the model":  # declared names are merged as those that occur are
        base = tuple({label_key(name, merge): name for name in reversed(base)}.values())[::-1]
    for labels in () if base_declared else evaluation_labels:
        if labels.declared and _are_positions(base, labels.declared):
            positions = labels.declared
            base = tuple(positions[int(label_key(name))] for name in base)
            break
    if len(base) < 2 and space.task != "multi-label-classification":
        raise ValueError(f"{base_name} holds one class only ({', '.join(base) or 'none'}); a classifier needs two.")
    if not base:
        raise ValueError(
            f"{base_name} holds no label: all lists in {label_column!r} are empty. Give some rows labels."
        )
    return replace(space, names=base, positions=positions)


def _are_positions(names: Sequence[str], declared: Sequence[str]) -> bool:
    """Whether names are integers that can only be positions in a list of declared names."""
    if any(NUMBER.fullmatch(name.strip()) for name in declared):
        return False
    return all(label_key(name).isdigit() and int(label_key(name)) < len(declared) for name in names)


def _observed_names(labels: DatasetLabels, space: LabelSpace) -> tuple[str, ...]:
    """Names of the values that occur, each in its commonest spelling; positions in 0/1 vectors."""
    column = labels.column
    assert column is not None
    if space.vectors:
        return tuple(str(i) for i in range(max(column.widths or (0,))))
    spellings: dict[str, Counter[str]] = {}
    for value, count in zip(column.values, column.counts, strict=True):
        name = label_name(value)
        if name is not None:
            spellings.setdefault(label_key(name, space.merge_case), Counter())[name] += count
    return in_order(counter.most_common(1)[0][0] for counter in spellings.values())


def _check_known(labels: DatasetLabels, space: LabelSpace, label_column: str) -> None:
    """Check that an evaluation set holds no class that the space lacks; raises `ValueError` with the row."""
    _check_rows(labels, label_column, space.task)
    column = labels.column
    if column is None:
        return
    if space.vectors:
        if not labels.declared and column.widths and column.widths != {len(space.names)}:
            width = max(column.widths - {len(space.names)})
            raise ValueError(
                f"{labels.name} holds vectors of {width} labels in {label_column!r}, and the sources of "
                f"{len(space.names)}. All are 0/1 vectors over the same labels."
            )
        return
    encoder = labels.encoder(space, label_column)
    unknown = [i for i, value in enumerate(column.values) if encoder.id_of(value) is None]
    if unknown:
        first = min(unknown, key=lambda i: column.rows[i])
        count = sum(column.counts[i] for i in unknown)
        unit = "label" if column.widths is not None else "row"
        count_text = f" {count} {unit}{'s are' if count > 1 else ' is'} of such classes"
        examples = (
            f" ({', '.join(encoder.shown_name(column.values[i]) for i in unknown[:5])})" if len(unknown) > 1 else ""
        )
        raise ValueError(
            f"{labels.row_name(column.rows[first])}: "
            + unknown_class_message(space, encoder.shown_name(column.values[first]), f"{count_text}{examples}.")
        )


def _difference_message(
    first_name: str, first_classes: Sequence[str], other_name: str, other_classes: Sequence[str]
) -> str:
    """Error message about two label sets that differ."""
    folded_first, folded_other = ({name.casefold() for name in names} for names in (first_classes, other_classes))
    case_only = folded_other <= folded_first and not {*other_classes} <= {*first_classes}
    remedy = (
        "They differ by case alone: set `merge_label_case`, or rename one of them."
        if case_only
        else "Every domain must use the same label names; rename or filter one of them."
    )
    sets = f"  {first_name}: {listed(first_classes)}\n  {other_name}: {listed(other_classes)}"
    return f"The label sets differ.\n{sets}\n{remedy}"
