"""Pair sampling: pairs of labelled rows of one class and of two, drawn without listing them all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Sampling = Literal["oversampling", "undersampling", "unique"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows.

    Attributes:
        first, second: (pairs,) row numbers; never the same in a pair.
        same: (pairs,) whether both rows are of one class.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def __len__(self) -> int:
        return len(self.same)

    def part(self, start: int, stop: int) -> Pairs:
        """Pairs from `start` up to `stop`."""
        return Pairs(self.first[start:stop], self.second[start:stop], self.same[start:stop])


def count_pairs(classes: np.ndarray) -> tuple[int, int]:
    """Number of different pairs of one class, and of two.

    Args:
        classes: (n,) class of each row.

    Example:
        >>> count_pairs(np.array([0, 0, 1]))
        (1, 2)
    """
    _, counts = np.unique(classes, return_counts=True)
    of_one = int((counts.astype(object) * (counts.astype(object) - 1)).sum()) // 2
    return of_one, len(classes) * (len(classes) - 1) // 2 - of_one


def kept_pairs(classes: np.ndarray, sampling: Sampling, max_pairs: int) -> tuple[int, int]:
    """Number of pairs of one class and of two that `draw_pairs` draws.

    Args:
        classes, sampling, max_pairs: as there.

    Raises:
        ValueError: there is none.
    """
    counts = count_pairs(classes)
    of_one, of_two = counts
    if sampling != "unique":
        of_each = max(counts) if sampling == "oversampling" else min(counts)
        of_one, of_two = (of_each if there else 0 for there in counts)
    total = of_one + of_two
    if not total:
        raise ValueError(
            f"sampling={sampling!r} leaves no pair: each class has one row, or there is one class only. Give two rows "
            "a class, or take sampling='oversampling'."
        )
    if total > max_pairs:
        of_one = max(1, round(max_pairs * of_one / total)) if of_one else 0
        of_two = max_pairs - of_one
    return of_one, of_two


def draw_pairs(classes: np.ndarray, sampling: Sampling, max_pairs: int, seed: int) -> Pairs:
    """Pairs of one epoch, in random order.

    `"oversampling"` takes as many pairs of one class as of two, and repeats those of which there are fewer;
    `"undersampling"` takes as many of both as there are of the fewer; `"unique"` takes each pair once. Where these are
    more than `max_pairs`, as many are drawn, in the same proportion. Memory is linear in the rows and in `max_pairs`.

    A row is not paired with itself. So where each class has one row, all pairs are of two classes.

    Args:
        classes: (n,) class of each row.
        sampling: see above.
        max_pairs: at most.
        seed: of the draw.

    Raises:
        ValueError: there is no pair.

    Example:
        >>> pairs = draw_pairs(np.array([0, 0, 1]), "oversampling", max_pairs=100, seed=0)
        >>> len(pairs), int(pairs.same.sum())
        (4, 2)
    """
    of_one, of_two = kept_pairs(classes, sampling, max_pairs)
    order = np.argsort(classes, kind="stable")
    _, counts = np.unique(classes, return_counts=True)
    places = np.arange(len(classes))
    ends = np.repeat(np.cumsum(counts), counts)  # of each place's class
    draw = random.Random(seed)
    parts = [
        _drawn(of_one, places + 1, ends - places - 1, draw),  # partners: later rows of the class
        _drawn(of_two, ends, len(classes) - ends, draw),  # partners: rows of later classes
    ]
    first, second = (order[np.concatenate(columns)] for columns in zip(*parts, strict=True))
    same = np.repeat([True, False], [of_one, of_two])
    shuffled = np.random.default_rng(seed).permutation(len(same))
    turned = np.random.default_rng([seed, 1]).random(len(same)) < 0.5
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    return Pairs(first[shuffled], second[shuffled], same[shuffled])


def _drawn(
    wanted: int, starts: np.ndarray, partners: np.ndarray, draw: random.Random
) -> tuple[np.ndarray, np.ndarray]:
    """Places of both rows of so many pairs, each pair as often as any other, by one.

    Args:
        wanted: number of pairs.
        starts: (n,) first partner of each place.
        partners: (n,) how many follow it.
        draw: of what is left over.
    """
    ends = np.cumsum(partners)
    total = int(ends[-1])
    if not wanted:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    whole, rest = divmod(wanted, total)
    again = np.tile(np.arange(total), whole) if whole else np.empty(0, np.int64)
    numbers = np.concatenate([again, np.array(draw.sample(range(total), rest), dtype=np.int64)])
    first = np.searchsorted(ends, numbers, side="right")
    return first, starts[first] + numbers - (ends - partners)[first]
