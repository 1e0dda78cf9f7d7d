"""Runs without a source: what a training run on target rows alone can do, and which labels it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ...data.label_space import LabelSpace, Task
from ...models.trained_head import trained_task_and_labels
from ..config import AdaptationConfig

# Settings about source rows, with the value that asks for nothing:
OF_SOURCE_ROWS: dict[str, Any] = {
    "source_weights": None,
    "class_weights": None,
    "balance_sources": False,
    "label_shift": "none",
    "weight_column": None,
    "target_ratio": 1.0,
    "forward_by_domain": False,
}
REMEDY = "Pass the source as train_dataset, or leave it out."


def check_without_source(args: AdaptationConfig, target: Any) -> None:
    """Check of a run that has target rows and no source.

    Args:
        args: the run's settings.
        target: the target data set.

    Raises:
        ValueError: an objective or a setting that needs source rows, nothing to learn from, or a stream.
    """
    specs = [spec.without_source() for spec in args.objective_specs() if spec.weight]
    readers = [spec.name for spec in specs if spec.reads_source]
    if readers:
        verb = "needs" if len(readers) == 1 else "need"
        raise ValueError(
            f"train_dataset is missing: {', '.join(readers)} {verb} at least one labelled source. Without source rows "
            "a model learns from objectives that read the target alone, such as im and soft_labels."
        )
    if not (specs or args.reveal_target_labels):
        raise ValueError(
            "train_dataset is missing: pass at least one labelled source, or objectives that read the target alone, "
            "such as im. Without either there is nothing to learn from."
        )
    for name, neutral in OF_SOURCE_ROWS.items():
        value = getattr(args, name)
        if value and value != neutral:
            raise ValueError(f"{name}={value!r} is about source rows, and train_dataset is missing. {REMEDY}")
    if args.batch_norm == "separate":
        raise ValueError(f"batch_norm='separate' needs rows of two domains, and train_dataset is missing. {REMEDY}")
    if not hasattr(target, "__len__"):
        raise ValueError(
            "target_dataset is a stream, and train_dataset is missing: a run on the target alone needs rows with "
            "numbers. Load it map-style, not streaming."
        )


def label_space_of_model(model: Any, task: str | None, options: Mapping[str, Any] | None = None) -> LabelSpace:
    """Label space of a run without a source: the task and classes of the model's trained head.

    Args:
        model: as the user passed it.
        task: that the settings name; `None` for the model's.
        options: of `from_pretrained`.

    Raises:
        ValueError: the model has no trained head, or one for another task.
    """
    own_task, names = trained_task_and_labels(model, options)
    if task is not None and task != own_task:
        raise ValueError(f"task={task!r}, but the model was trained for {own_task}. Leave task out.")
    return LabelSpace(cast(Task, own_task), names)
