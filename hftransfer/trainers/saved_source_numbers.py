"""Source numbers of a trained run: counts on source validation rows that a saved model's config carries."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.domain_arguments import is_source_name
from ..data.label_space import column_names
from ..selection.source_numbers import SourceNumbers
from .prediction_pass import predict_rows


def source_numbers_of(trainer: Any) -> SourceNumbers | None:
    """Numbers of a trained model on the evaluation sets of its sources; every process must ask.

    Args:
        trainer: an `AdaptationTrainer`.

    Returns:
        `None` where `save_source_numbers` is off, where there is no labelled evaluation set of a source with a known
        length, or where rows are not classified as a whole.

    Example:
        >>> source_numbers_of(trainer).rows
        24
    """
    prepared = trainer.prepared
    if not trainer.args.save_source_numbers or prepared.label_space.task != "sequence-classification":
        return None
    sets = [
        rows
        for name, rows in (prepared.evaluation or {}).items()
        if is_source_name(name, prepared.source_names) and hasattr(rows, "__len__") and "labels" in column_names(rows)
    ]
    if not sets or not prepared.source_names:
        return None
    seen = [predict_rows(trainer, rows, features=None) for rows in sets]
    logits = np.concatenate([part.logits for part in seen])
    labels = np.concatenate([np.asarray(part.labels) for part in seen])
    return SourceNumbers.of(logits, labels, prepared.label_space.names)
