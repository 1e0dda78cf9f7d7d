"""Packing: the texts of a batch in few sequences, each kept apart from the others (Krell et al. 2021).

A packed batch holds the same rows as a padded one, so that the loss is the same; what differs is where they stand.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

PADDING = -1  # segment of a position that holds no text


@dataclass(frozen=True)
class Layout:
    """Places of rows in sequences.

    Attributes:
        sequences: rows of each sequence, in the order in which they stand.
        width: tokens of the longest sequence.
    """

    sequences: tuple[tuple[int, ...], ...]
    width: int


def padded_layout(lengths: Sequence[int]) -> Layout:
    """Layout with a sequence for each row, as wide as the longest."""
    return Layout(tuple((row,) for row in range(len(lengths))), max(lengths))


def packed_layout(lengths: Sequence[int], pack_length: int) -> Layout:
    """Layout with few sequences of nearly equal length.

    As few sequences as hold all tokens are filled longest row first, each row into the emptiest sequence (Graham
    1969); if one becomes longer than `pack_length`, there is one sequence more.

    Args:
        lengths: of the rows, in tokens.
        pack_length: tokens of a sequence at most; more where a row is longer.

    Example:
        >>> packed_layout([5, 9, 4, 3], 12)
        Layout(sequences=((1, 3), (0, 2)), width=12)
    """
    limit = max(pack_length, *lengths)
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    count = math.ceil(sum(lengths) / limit)
    while True:
        filled = [(0, i) for i in range(count)]
        sequences: list[list[int]] = [[] for _ in range(count)]
        for row in order:
            length, i = heapq.heappop(filled)
            sequences[i].append(row)
            heapq.heappush(filled, (length + lengths[row], i))
        width = max(length for length, _ in filled)
        if width <= limit:
            return Layout(tuple(tuple(rows) for rows in sequences if rows), width)
        count += 1


def place_rows(rows: Sequence[Any], layout: Layout, pad_id: int) -> dict[str, torch.Tensor]:
    """Tokens of rows at their places.

    Args:
        rows: token ids of each, a sequence of numbers.
        layout: of these rows.
        pad_id: fills up the sequences.

    Returns:
        `input_ids`; `segments`, the number of the row that each position belongs to, -1 for padding; `places`, the
        number of each token in its row, 0 for padding: (sequences, width) each. And `starts`, (rows,): where each row
        begins, in the sequences laid end to end.

    Example:
        >>> placed = place_rows([[7, 8], [9]], Layout(((0, 1),), 4), pad_id=0)
        >>> placed["input_ids"].tolist(), placed["segments"].tolist(), placed["places"].tolist()
        ([[7, 8, 9, 0]], [[0, 0, 1, -1]], [[0, 1, 0, 0]])
    """
    shape = (len(layout.sequences), layout.width)
    ids = torch.full(shape, pad_id)
    segments, places = torch.full(shape, PADDING), torch.zeros(shape, dtype=torch.long)
    starts = torch.zeros(len(rows), dtype=torch.long)
    for i, sequence in enumerate(layout.sequences):
        start = 0
        for row in sequence:
            end = start + len(rows[row])
            ids[i, start:end] = torch.as_tensor(rows[row])
            segments[i, start:end] = row
            places[i, start:end] = torch.arange(end - start)
            starts[row] = i * layout.width + start
            start = end
    return {"input_ids": ids, "segments": segments, "places": places, "starts": starts}


def same_segment(segments: torch.Tensor) -> torch.Tensor:
    """(sequences, 1, width, width): whether a position may read another, which belongs to the same row. Padding reads
    padding, so that no position is left without any."""
    return (segments[:, None, :, None] == segments[:, None, None, :]).contiguous()


def row_means(hidden: torch.Tensor, segments: torch.Tensor, rows: int) -> torch.Tensor:
    """Mean hidden state of each row. Shapes: (sequences, width, d), (sequences, width) -> (rows, d).

    Example:
        >>> row_means(torch.tensor([[[1.0], [3.0], [8.0], [5.0]]]), torch.tensor([[0, 0, 1, -1]]), 2)
        tensor([[2.],
                [8.]])
    """
    flat, row = hidden.reshape(-1, hidden.shape[-1]), segments.reshape(-1)
    bins = torch.where(row == PADDING, rows, row)  # one more than there are rows takes the padding
    sums = flat.new_zeros(rows + 1, flat.shape[-1]).index_add(0, bins, flat)
    counts = flat.new_zeros(rows + 1).index_add(0, bins, torch.ones_like(row, dtype=flat.dtype))
    return sums[:rows] / counts[:rows, None].clamp_min(1)


def padding_share(placed: dict[str, Any]) -> float:
    """Share of a batch's positions that hold no text."""
    return float((placed["segments"] == PADDING).float().mean())
