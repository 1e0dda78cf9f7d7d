"""Row index of stored features: which row of a set an input is, by its hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np

INDEX = "index.npy"
LARGEST = 2_000_000  # rows of a set that has an index: 48 MB; larger sets are known by their chunks alone


class RowIndex:
    """Index of the rows of one set, memory-mapped.

    Args:
        folder: of the set.

    Raises:
        OSError, ValueError: it has none that can be read.
    """

    def __init__(self, folder: Path):
        self.table: np.ndarray = np.load(folder / INDEX, mmap_mode="r", allow_pickle=False)
        if self.table.ndim != 2 or self.table.shape[0] != 3 or self.table.dtype != np.uint64:
            raise ValueError(f"{folder / INDEX} is no index.")

    @staticmethod
    def write(folder: Path, hashes: np.ndarray) -> None:
        """Index of rows, written to the folder of their set.

        Args:
            folder: of the set.
            hashes: (rows, 16) bytes, in the order of the rows.
        """
        halves = _halves(hashes)
        order = np.argsort(halves[0], kind="stable")
        np.save(folder / INDEX, np.stack([halves[0][order], halves[1][order], order.astype(np.uint64)]))

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """(queries,) rows of the set by their hashes, -1 where it does not hold one.

        Args:
            hashes: (queries, 16) bytes.
        """
        first, second = _halves(hashes)
        place = np.searchsorted(self.table[0], first)
        inside = np.minimum(place, self.table.shape[1] - 1)
        same = (self.table[0, inside] == first) & (self.table[1, inside] == second)
        return np.where(same, self.table[2, inside].astype(np.int64), -1)


def _halves(hashes: np.ndarray) -> np.ndarray:
    """(2, rows) first and second half of hashes, as numbers."""
    return np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2).T
