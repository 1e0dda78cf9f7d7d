"""Paired decision: whether another model is better than the one that stands, on the same labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .answers import AnsweredScores

LEVEL = 0.02  # of all comparisons together: a wrong step costs points, and the one that stands has evidence of its own
PLANNED_LEVEL = 0.2  # of the one comparison that was planned: with a model that was trained on answers, either way
EXACT, DRAWS = 12, 9999  # up to 2^12 signs are all tried; of more, so many are drawn


@dataclass(frozen=True)
class PairedComparison:
    """Comparison of a model with the one that stands.

    Args:
        name, standing: of the two.
        gain: estimated accuracy of the first less that of the second, in shares.
        p: one-sided, of its quadratic score not being better.
        level: that p has to keep below.
        wins: whether it is clearly better.
        p_worse: one-sided, of its quadratic score not being worse.
    """

    name: str
    standing: str
    gain: float
    p: float
    level: float
    wins: bool
    p_worse: float = 1.0

    @property
    def harms(self) -> bool:
        """Whether it is clearly worse: right less often by the estimate, and of a worse quadratic score."""
        return self.gain < -1e-12 and self.p_worse <= self.level

    def taken(self, refused: bool) -> bool:
        """Whether a model that was trained on answers is taken: unless it is clearly worse, or no gain and refused.

        Args:
            refused: by a gate that reads no target label.

        Example:
            >>> unclear = PairedComparison("trained", "student", gain=0.02, p=0.4, level=0.2, wins=False, p_worse=0.6)
            >>> unclear.taken(refused=False), unclear.taken(refused=True)
            (True, False)
        """
        return self.wins or not (self.harms or refused)

    def __str__(self) -> str:
        points = 100 * self.gain
        beside = f"{points:+.1f}".replace("-", "\u2212")
        return f"{self.name} beside {self.standing}: {beside} points, p = {self.p:.2g} of at most {self.level:.2g}"


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    """Paired permutation test: the one-sided p of a mean of differences above 0.

    Under the null, each difference might as well have the other sign. All signs are tried up to 12 differences; of
    more, 9,999 draws.

    Args:
        differences: (n,), weighted. Zeros tell nothing.
        seed: of the draws.

    Paper: Fisher, The Design of Experiments, 1935, section 21.

    Example:
        >>> sign_flip_test(np.array([1.0, 1.0, 1.0, 0.0]))  # one of eight
        0.125
    """
    d = differences[differences != 0]
    if not len(d):
        return 1.0
    if len(d) <= EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
        return float((signs @ d >= d.sum() - 1e-12).mean())
    signs = 2 * np.random.default_rng(seed).integers(2, size=(DRAWS, len(d)), dtype=np.int8) - 1
    return float((1 + (signs @ d >= d.sum() - 1e-12).sum()) / (1 + DRAWS))


def compare(
    other: AnsweredScores, standing: AnsweredScores, weights: np.ndarray, level: float = PLANNED_LEVEL
) -> PairedComparison:
    """Comparison of two models on the same answers.

    Quadratic scores are tested, which tell more by row than whether it is right. A model whose estimated accuracy is
    lower does not win, whatever they say.

    Args:
        other, standing: scores of the two on the same rows.
        weights: (n,), from `answer_weights`.
        level: that p has to keep below.
    """
    total = weights @ standing.units
    gain = float(weights @ (other.right - standing.right) / total) if total > 0 else 0.0
    p, p_worse = (sign_flip_test(sign * weights * (standing.loss - other.loss)) for sign in (1, -1))
    return PairedComparison(other.name, standing.name, gain, p, level, gain >= -1e-12 and p <= level, p_worse)


def decide(
    contenders: Sequence[AnsweredScores], standing: str, weights: np.ndarray, level: float = LEVEL
) -> tuple[str, list[PairedComparison]]:
    """The model to keep among several that have not seen the answers: the one that stands, unless another is better.

    Each of the others is compared with it at its part of the level (Bonferroni); of those that win, the one with the
    best weighted quadratic score takes its place. So a model that stands by other evidence is not dropped by chance.

    Args:
        contenders: all models, with the standing one among them.
        standing: name of the model that stands.
        weights: (n,), from `answer_weights`.
        level: of all comparisons together.

    Returns:
        Its name, and the comparisons.

    Example:
        >>> labels, good = np.zeros(40, int), np.log([[0.9, 0.1]] * 40)
        >>> models = [
        ...     AnsweredScores("a", np.zeros(40), np.ones(40), np.full(40, 1.6)),
        ...     AnsweredScores("b", np.ones(40), np.ones(40), np.full(40, 0.02)),
        ... ]
        >>> decide(models, "a", np.ones(40))[0]
        'b'
    """
    (stands,) = (c for c in contenders if c.name == standing)
    others = [c for c in contenders if c.name != standing]
    comparisons = [compare(other, stands, weights, level / len(others)) for other in others]
    winning = {c.name for c in comparisons if c.wins and c.gain > 0}
    winners = [other for other in others if other.name in winning]
    if not winners:
        return standing, comparisons
    return min(winners, key=lambda c: float(weights @ c.loss)).name, comparisons
