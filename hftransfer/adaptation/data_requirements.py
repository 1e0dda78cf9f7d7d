"""Requirements of an adaptation: what its data must have before anything is trained, each with one clear message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.domain_arguments import source_label
from ..data.label_space import Task, listed

SMALLEST_TARGET = 20  # rows, below which nothing about the target can be estimated
SMALL_TARGET = 100  # rows, below which nothing can be estimated well
ROWS_TO_JUDGE_A_CLASS = 5  # validation rows of a class
LARGEST_FRACTION = 0.5  # of train that a message proposes to hold out
SOURCE_ALONE = "train on the source alone with `hftransfer finetune`, without --target"
TRAINS_ON_STREAMS = ", or use `hftransfer finetune`, which can train on streams"
TASK_REMEDIES = {
    "regression": "amounts (regression). `adapt` judges models by their predictions of classes: use `hftransfer "
    "finetune`, or set `task: sequence-classification` if the numbers are names of classes.",
    "multi-label-classification": "several classes a row (multi-label). `adapt` judges models by one class a row: use "
    "`hftransfer finetune`, or set `task: sequence-classification` if each text or list is one class.",
}


def check_map_style(datasets: Mapping[str, Any], recipe: str = "adapt", otherwise: str = TRAINS_ON_STREAMS) -> None:
    """Check for streams, which no row count or comparison can be had of; raises `ValueError`.

    Args:
        datasets: by their names in messages.
        recipe: that needs more.
        otherwise: what to do instead, at the end of the message.
    """
    for name, dataset in datasets.items():
        if not hasattr(dataset, "__len__") and not isinstance(dataset, Mapping):
            raise ValueError(
                f"{name} is a stream, and `{recipe}` goes through all rows several times. Read it first, as with "
                f"`Dataset.from_list(list(stream.take(10_000)))`{otherwise}."
            )


def check_target(target: Any) -> None:
    """Check that there is a target; raises `ValueError`."""
    if target is None:
        raise ValueError(
            f"There is no target: `adapt` fits a model to unlabelled rows. Give some with --target, or {SOURCE_ALONE}."
        )


def check_target_size(rows: int, otherwise: str = SOURCE_ALONE) -> list[str]:
    """Check that the target has rows enough to be estimated from.

    Args:
        rows: of the target.
        otherwise: what to do without them.

    Returns:
        A warning where they are few.

    Raises:
        ValueError: fewer than 20.

    Example:
        >>> check_target_size(57)
        ['target holds 57 rows: class frequencies and accuracy estimated from fewer than 100 are rough.']
    """
    if rows < SMALLEST_TARGET:
        raise ValueError(
            f"target holds {rows} row{'s' * (rows != 1)}. From fewer than {SMALLEST_TARGET}, nothing about it can be "
            f"estimated, and no model be judged for it. Give more unlabelled rows, or {otherwise}."
        )
    if rows < SMALL_TARGET:
        return [
            f"target holds {rows} rows: class frequencies and accuracy estimated from fewer than {SMALL_TARGET} are "
            "rough."
        ]
    return []


def check_validation(sources: Sequence[str], validated: Sequence[str]) -> list[str]:
    """Check that sources have validation rows, by which models are judged.

    Args:
        sources: all, by name.
        validated: those that have validation rows.

    Returns:
        A warning that names the sources without.

    Raises:
        ValueError: none has any.
    """
    if not validated:
        raise ValueError(
            f"{', '.join(map(source_label, sources))} {'have' if len(sources) > 1 else 'has'} no validation rows, and "
            "models are judged on them. Leave validation_fraction at 0.1, or above 0, or give a validation split."
        )
    lacking = [name for name in sources if name not in validated]
    if not lacking:
        return []
    return [
        f"{', '.join(map(source_label, lacking))} {'have' if len(lacking) > 1 else 'has'} no validation rows: models "
        "are judged on the other sources' alone."
    ]


def check_task(task: Task, label_column: str) -> None:
    """Check that rows, or words, carry one class each; raises `ValueError`."""
    if task in TASK_REMEDIES:
        raise ValueError(f"The labels in {label_column!r} are {TASK_REMEDIES[task]}")


def check_validation_classes(
    names: Sequence[str], train: np.ndarray, validation: np.ndarray, held_out: bool, unit: str = "row"
) -> list[str]:
    """Check that all classes that are trained stand in the validation rows.

    Args:
        names: of the classes.
        train, validation: (classes,) rows of each, of all sources together.
        held_out: validation rows were cut from train.
        unit: what carries a label; where it is no row, a class that is missing in validation is only warned of.

    Returns:
        Warnings of classes with fewer than five validation rows.

    Raises:
        ValueError: classes without any, with the remedy.
    """
    missing = [i for i in range(len(names)) if train[i] and not validation[i]]
    warnings = []
    if missing and unit != "row":
        warnings.append(f"source validation holds no {unit} of {listed(names[i] for i in missing)}.")
    elif missing:
        classes = ", ".join(f"{names[i]!r} ({train[i]:,} to train on)" for i in missing[:5])
        classes += f" … ({len(missing)} in all)" * (len(missing) > 5)
        fraction = float(np.ceil(100 / train[missing].min())) / 100
        remedy = (
            f"Set validation_fraction to {fraction:g}"
            if held_out and fraction <= LARGEST_FRACTION
            else "Give rows of each class to the validation split"
            if not held_out
            else "Give more rows of such classes"
        )
        raise ValueError(
            f"source validation holds no row of {classes}: nothing would show that a model loses such a class. "
            f"{remedy}, or drop the class."
        )
    few = [i for i in range(len(names)) if 0 < validation[i] < ROWS_TO_JUDGE_A_CLASS]
    if few:
        classes = ", ".join(f"{names[i]!r} ({validation[i]})" for i in few[:10])
        classes += f" … ({len(few)} in all)" * (len(few) > 10)
        warnings.append(
            f"source validation holds fewer than {ROWS_TO_JUDGE_A_CLASS} {unit}s of {classes}: what is said of them "
            "is hardly more than chance."
        )
    return warnings


def check_other_domain(target_rows: int, rows_in_sources: int) -> None:
    """Check that the target is not the source over again; raises `ValueError`.

    Args:
        target_rows: of the target, those that can be compared.
        rows_in_sources: of those, the ones that stand in the sources' train and validation splits, too.
    """
    if target_rows and target_rows == rows_in_sources:
        raise ValueError(
            f"All {target_rows:,} rows of the target are rows of the source: there is nothing to adapt to. Give the "
            f"rows of the other domain, or {SOURCE_ALONE}."
        )
