"""Held-out rows: texts or images to measure on, none of which stands among those that are trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..data.duplicate_rows import rows_without_copies
from ..data.hold_out import choose_rows
from ..data.row_origins import ORIGIN

Keys = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def hold_out_rows(
    dataset: Any, held_out: float, seed: int, keys: Keys, name: str, others: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """Rows to train on, and rows that are held out.

    Args:
        dataset: map-style or streaming.
        held_out: a share below 1, or a number of rows; the first ones of a stream.
        seed: of the draw.
        keys: of rows, which equal rows share, of data sets by name; such as `text_keys` and `image_keys` make.
        name: of the dataset, for messages.
        others: data sets that are trained on too, by name; none of their rows is held out.

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

        first = list(dataset.take(int(held_out) + 1))
        if len(first) <= held_out:
            raise ValueError(
                f"{name} is a stream of {len(first)} row(s), of which held_out={held_out:g} leaves none to train on. "
                "Lower it; 0 holds nothing out."
            )
        return dataset.skip(int(held_out)), Dataset.from_list(first[:-1])
    count = max(1, round(len(dataset) * held_out)) if held_out < 1 else int(held_out)
    if count >= len(dataset):
        raise ValueError(
            f"{name} has {len(dataset)} row(s), of which held_out={held_out:g} leaves none to train on. Lower it; 0 "
            "holds nothing out."
        )
    by_name = keys({name: dataset, **(others or {})})
    free = rows_without_copies(by_name[name], [by_name[other] for other in others or {}])
    if len(free) < count:
        raise ValueError(
            f"{name}: {count} rows are to be held out, and only {len(free)} of its {len(dataset)} rows stand there "
            "once and in no other data. Drop the copies, lower held_out, or set it to 0."
        )
    chosen = free[choose_rows(np.zeros(len(free), int), count, seed, False)]
    if ORIGIN not in dataset.column_names:
        dataset = dataset.add_column(ORIGIN, [str(row) for row in range(len(dataset))])
    kept = np.setdiff1d(np.arange(len(dataset)), chosen)
    return dataset.select(kept), dataset.select(chosen)
