"""Selection without source rows: whether an adapted model replaces the one that it started from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .contender_gates import collapse_sentence, lost_class_sentence
from .model_predictions import softmax
from .validators.prediction_entropy import entropies

START = "the start model"
MOST_ROWS = 4000  # of each kind that votes are counted over
KEPT = 0.2  # of five neighbours that bore the old name, one still does


@dataclass(frozen=True)
class SourceFreeJudgement:
    """What a rule decided about an adapted model, and why.

    Args:
        accepted: it replaces the start model.
        reasons: plain sentences.
        agreement: share of target rows on which both give the same class.
        votes: rows with different answers for which neighbours side with the adapted model, and with the start model.
        failed: names of the gates that it failed.
    """

    accepted: bool
    reasons: list[str]
    agreement: float
    votes: tuple[int, int]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceFreeRule:
    """Rule that decides between an adapted model and its start from predictions on unlabelled target rows alone.

    The start model stays unless the adapted one passes every gate. Collapse, diversity and a lost class are gates that
    no label is needed for, as in `SelectionRule`. A model that contradicts its start on most rows has become another
    one. And what it changed must be supported by something that neither classifier has shaped much: of each row that
    the two name differently, the nearest rows that they name alike are asked, in the features of an early layer. They
    must side with the adapted model clearly more often than with the start (`neighbour_votes`). In the final layer's
    features they would side with the model whose features these are.

    Args:
        class_share: share of target rows from which on a class that the start predicts may not be lost.
        nearly_absent: a class may be lost that is believed to have less than this part of an even share.
        diversity: smallest entropy of the mean prediction, as part of the start's; of the believed frequencies where
            theirs is smaller.
        agreement: smallest share of rows that both name alike.
        clear: standard errors by which votes for the adapted model must outnumber those for the start.
        neighbours: rows that are asked for each.
        kept: share of its rows that a class must keep, so that they can be asked.
        frequencies: by how much the adapted model's class frequencies may lie further from believed ones than the
            start's, in total variation, where it is known that they differ.
        layer: of the start model, whose features neighbours are found by: `"hidden:0"` is the first of its stack,
            `"hidden:-1"` the last, `"head"` what its final layer sees.

    Raises:
        ValueError: no such layer can be.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> labels = np.arange(300) % 3
        >>> features = 3 * np.eye(3)[labels] + draw.normal(size=(300, 3))
        >>> start = 4 * np.eye(3)[np.where(draw.random(300) < 0.8, labels, draw.integers(3, size=300))]
        >>> SourceFreeRule().judge(start, 4 * np.eye(3)[labels], features).accepted
        True
    """

    class_share: float = 0.01
    nearly_absent: float = 0.2
    diversity: float = 0.6
    agreement: float = 0.5
    clear: float = 2.0
    neighbours: int = 5
    kept: float = KEPT
    frequencies: float = 0.02
    layer: str = "hidden:0"

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str) or not re.fullmatch(r"head|hidden:-?\d+", self.layer):
            raise ValueError(f'layer={self.layer!r} must be "head" or "hidden:" and the number of a layer.')

    def judge(
        self,
        start_logits: np.ndarray,
        adapted_logits: np.ndarray,
        features: np.ndarray,
        believed: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        start: str = START,
        needs_gain: bool = True,
        space: str = "the features given",
        frequencies_differ: bool = False,
    ) -> SourceFreeJudgement:
        """Whether the adapted model replaces the start.

        Args:
            start_logits, adapted_logits: (m, K) of the same target rows.
            features: (m, d), of the same rows, that neighbours are found by.
            believed: (K,) class frequencies of the target, where an estimate of them is believed. They excuse a lost
                class and a smaller diversity.
            class_names: (K,) for the sentences; their numbers when empty.
            start: what sentences call the model that it started from.
            needs_gain: neighbours must side with it; without, as for a student, it only must not have lost anything.
            space: what sentences call the features.
            frequencies_differ: believed frequencies are known to differ from the source's: an adapted model that lies
                further from them than its start is refused. Without, they are only an estimate from counts, which
                takes a class that looks commoner for one that is.
        """
        before, after = (np.asarray(z, dtype=np.float64) for z in (start_logits, adapted_logits))
        if not np.isfinite(after).all():
            return SourceFreeJudgement(False, ["its predictions are not finite"], 0.0, (0, 0), ("finite",))
        was, now = before.argmax(1), after.argmax(1)
        agreement, changed = float((was == now).mean()), int((was != now).sum())
        votes = neighbour_votes(np.asarray(features, dtype=np.float64), was, now, self.neighbours, self.kept)
        asked = self._asked(votes, was, now, start, space, class_names)
        found = {
            "lost class": self._lost_class(before, after, believed, start, class_names),
            "collapse": self._collapse(before, after, believed, start),
            "agreement": self._agreement(agreement, start),
            "class frequencies": self._frequencies(was, now, before.shape[1], believed, start)
            if frequencies_differ
            else None,
            "neighbours": self._votes(votes, changed, asked, start) if needs_gain else None,
        }
        failed = {name: sentence for name, sentence in found.items() if sentence is not None}
        if failed:
            return SourceFreeJudgement(False, list(failed.values()), agreement, votes, tuple(failed))
        reasons = [
            f"it names {100 * agreement:.1f} % of target rows as {start} does, and has neither lost a class nor "
            "collapsed"
        ]
        if needs_gain:
            reasons.append(asked)
        return SourceFreeJudgement(True, reasons, agreement, votes)

    def _lost_class(
        self, before: np.ndarray, after: np.ndarray, believed: np.ndarray | None, start: str, names: Sequence[str]
    ) -> str | None:
        classes = before.shape[1]
        share, base_share = (np.bincount(z.argmax(1), minlength=classes) / len(z) for z in (after, before))
        lost = (share == 0) & (base_share >= self.class_share)
        if believed is not None:
            lost &= np.asarray(believed) > self.nearly_absent / classes
        return lost_class_sentence(lost, base_share, start, names) if lost.any() else None

    def _collapse(self, before: np.ndarray, after: np.ndarray, believed: np.ndarray | None, start: str) -> str | None:
        spread, base_spread = (float(entropies(softmax(z).mean(0))) for z in (after, before))
        expected = base_spread if believed is None else min(base_spread, float(entropies(np.asarray(believed))))
        if spread >= self.diversity * expected:
            return None
        return collapse_sentence(spread, base_spread, before.shape[1], start)

    def _agreement(self, agreement: float, start: str) -> str | None:
        if agreement >= self.agreement:
            return None
        return f"it names only {100 * agreement:.1f} % of target rows as {start} does, and has become another model"

    def _frequencies(
        self, was: np.ndarray, now: np.ndarray, classes: int, believed: np.ndarray | None, start: str
    ) -> str | None:
        if believed is None:
            return None
        gap, base_gap = (
            0.5 * float(np.abs(np.bincount(names, minlength=classes) / len(names) - believed).sum())
            for names in (now, was)
        )
        if gap <= base_gap + self.frequencies:
            return None
        return (
            f"its class frequencies lie {100 * gap:.1f} points from the estimate that is believed, those of {start} "
            f"{100 * base_gap:.1f}"
        )

    def _asked(
        self, votes: tuple[int, int], was: np.ndarray, now: np.ndarray, start: str, space: str, names: Sequence[str]
    ) -> str:
        """What neighbours said, in a sentence."""
        sentence = (
            f"of {(was != now).sum():,} rows that it names otherwise, the nearest rows that both name alike, by "
            f"{space}, side with it on {votes[0]:,} and with {start} on {votes[1]:,}"
        )
        emptied = emptied_classes(was, now, self.kept)
        if emptied.any():
            k = int(np.argmax(emptied * np.bincount(was, minlength=len(emptied))))
            name = repr(names[k]) if names else f"class {k}"
            others = "" if emptied.sum() == 1 else f", and of {emptied.sum() - 1} other classes as few"
            sentence += (
                f"; it leaves {((was == k) & (now == k)).sum():,} of {(was == k).sum():,} rows in {name}{others}, too "
                f"few to be asked, so that what it took from there counts for {start}"
            )
        return sentence

    def _votes(self, votes: tuple[int, int], changed: int, asked: str, start: str) -> str | None:
        better, worse = votes
        if better - worse > self.clear * np.sqrt(better + worse):
            return None
        if not changed:
            return f"it names every target row as {start} does: there is nothing to gain"
        return f"nothing shows that what it changed is better: {asked}"


def neighbour_votes(
    features: np.ndarray, was: np.ndarray, now: np.ndarray, neighbours: int = 5, kept: float = KEPT
) -> tuple[int, int]:
    """Rows with two names whose nearest neighbours, of those with one name, bear the new or the old one more often.

    Nearest is by the cosine of centred features. A row whose old class has been emptied (`emptied_classes`) counts for
    the old name: rows that were taken from a class cannot speak for it, and those of the class that it was merged with
    would. With fewer rows of one name than neighbours, nothing is counted.

    Args:
        features: (m, d), of a space in which rows of a class lie together, and which neither classifier has shaped
            much.
        was, now: (m,) class numbers.
        neighbours: that are asked.
        kept: share of its rows that a class must keep.

    Returns:
        Rows for the new names, rows for the old ones; a tie counts for neither.

    Paper: Wilson, Asymptotic Properties of Nearest Neighbor Rules Using Edited Data, 1972, where neighbours tell wrong
    labels.

    Example:
        >>> features = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [1.0, 0.2]])
        >>> neighbour_votes(features, np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 0]), neighbours=1)
        (1, 0)
    """
    changed, alike = np.flatnonzero(was != now), np.flatnonzero(was == now)
    draw = np.random.default_rng(0)
    changed, alike = (draw.permutation(rows)[:MOST_ROWS] for rows in (changed, alike))
    if not len(changed) or len(alike) < neighbours:
        return 0, 0
    x = features - features.mean(0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    nearest = np.argsort(-(x[changed] @ x[alike].T), axis=1, kind="stable")[:, :neighbours]
    names = was[alike][nearest]
    for_new, for_old = ((names == y[changed][:, None]).sum(1) for y in (now, was))
    emptied = emptied_classes(was, now, kept)[was[changed]]
    return int(((for_new > for_old) & ~emptied).sum()), int(((for_old > for_new) | emptied).sum())


def emptied_classes(was: np.ndarray, now: np.ndarray, kept: float = KEPT) -> np.ndarray:
    """Emptied classes: (K,) those of whose rows too small a share keeps its name.

    Args:
        was, now: (m,) class numbers.
        kept: the share.

    Example:
        >>> emptied_classes(np.array([0, 0, 1, 1, 1]), np.array([1, 0, 0, 0, 0]))
        array([False,  True])
    """
    classes = int(max(was.max(), now.max())) + 1
    before, still = (np.bincount(names, minlength=classes) for names in (was, was[was == now]))
    return np.asarray((still / np.maximum(before, 1) < kept) & (before > 0))
