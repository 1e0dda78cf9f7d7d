"""Held-out texts: rows to measure perplexity on, none of which stands among those that are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.duplicate_rows import rows_without_copies, text_keys
from ..data.hold_out import choose_rows
from ..data.row_origins import ORIGIN
from ..data.text_encoder import TextColumns


def hold_out_rows(
    dataset: Any, held_out: float, seed: int, columns: TextColumns, name: str, others: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """Rows to train on, and rows that are held out.

    Args:
        dataset: map-style or streaming.
        held_out: a share below 1, or a number of rows; the first ones of a stream.
        seed: of the draw.
        columns: where texts are.
        name: of the dataset, for messages.
        others: data sets that are trained on too, by name; none of their texts is held out.

    Raises:
        ValueError: a share of a stream, a number that is not whole, too few rows, or rows that all stand there twice.
    """
    if held_out >= 1 and held_out != int(held_out):
        raise ValueError(f"held_out={held_out:g} must be a share below 1 or a whole number of rows.")
    if not hasattr(dataset, "__len__"):
        if held_out < 1:
            raise ValueError(
                f"{name} is a stream, whose length is not known: set held_out to a number of rows, such as 500, or "
                "to 0."
            )
        from datasets import Dataset

        first = list(dataset.take(int(held_out)))
        return dataset.skip(int(held_out)), Dataset.from_list(first)
    count = max(1, round(len(dataset) * held_out)) if held_out < 1 else int(held_out)
    if count >= len(dataset):
        raise ValueError(
            f"{name} has {len(dataset)} row(s), of which held_out={held_out:g} leaves none to train on. Lower it; 0 "
            "holds nothing out."
        )
    column = columns.input_column(dataset, False, name)
    free = rows_without_copies(
        text_keys(dataset, [column]),
        [text_keys(other, [columns.input_column(other, False, key)]) for key, other in (others or {}).items()],
    )
    if len(free) < count:
        raise ValueError(
            f"{name}: {count} rows are to be held out, and only {len(free)} of its {len(dataset)} rows stand there "
            "once and in no other texts. Drop the copies, lower held_out, or set it to 0."
        )
    chosen = free[choose_rows(np.zeros(len(free), int), count, seed, False)]
    if ORIGIN not in dataset.column_names:
        dataset = dataset.add_column(ORIGIN, [str(row) for row in range(len(dataset))])
    kept = np.setdiff1d(np.arange(len(dataset)), chosen)
    return dataset.select(kept), dataset.select(chosen)
