"""The selection rule: which candidate is handed over, decided without a target label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .calibration import fit_temperature
from .class_frequencies import LabelShiftEstimate
from .model_predictions import Predictions
from .validators import get_validator
from .validators.prediction_entropy import entropies

SCORES = ("mixval_inter", "nuclear_norm", "information", "source_accuracy", "ensemble_agreement")


@dataclass
class Contender:
    """One model, or a correction of one, that may be handed over.

    Args:
        name: that the judgement calls it by.
        predictions: logits that include its corrections: the log of calibrated, prior-corrected probabilities where it
            is corrected, its own logits elsewhere. All contenders predict the same rows.
        base: a plain source-only run. The first of them stays unless the evidence for another is clear.
        weights: (K,) target over source class frequencies that it was corrected or trained with, where they are
            believed.
        reference: an ensemble: shown, and taken as the mean of all, but never handed over.
        superseded: shown, but never handed over and no part of the mean: its correction, which a test of its own
            believes, takes its place.
    """

    name: str
    predictions: Predictions
    base: bool = False
    weights: np.ndarray | None = None
    reference: bool = False
    superseded: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a rule decided, and why.

    Args:
        chosen: name of the contender to hand over.
        scores: contender -> name of a score -> value; without those that could not be computed.
        ranks: contender -> mean rank over the scores, 1 the best, of those that passed the gates.
        refused: contender -> the gate that it failed, in one sentence.
        reasons: why the chosen one was chosen, in plain sentences.
    """

    chosen: str
    scores: dict[str, dict[str, float]]
    ranks: dict[str, float]
    refused: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SelectionRule:
    """Selection without target labels: gates, then a rank average of several scores, then clear evidence.

    Args:
        scores: names of validators, each of which counts as much as another.
        source_accuracy_within: how far accuracy on source validation rows may lie below the best, between 0 and 1.
            Rows are weighted by the class weights that a contender is corrected for: a right correction costs
            accuracy on the source's own class frequencies.
        class_share: share of target rows from which on a class that source-only predicts may not be lost.
        nearly_absent: a class may be lost where the believed estimate gives it less than this part of an even share.
        diversity: smallest diversity of the predictions, as part of source-only's.
        most_scores: share of the scores in which a contender must be better than source-only to replace it.
    """

    scores: tuple[str, ...] = SCORES
    source_accuracy_within: float = 0.03
    class_share: float = 0.01
    nearly_absent: float = 0.2
    diversity: float = 0.6
    most_scores: float = 0.5

    def judge(self, contenders: Sequence[Contender], shift: LabelShiftEstimate | None = None) -> Judgement:
        """The contender to hand over, with scores, ranks and reasons.

        Args:
            contenders: at least one of them a base.
            shift: estimate of the target's class frequencies; ignored unless it is believed.

        Raises:
            ValueError: no base with finite predictions, a name twice, or predictions of other rows.
        """
        shift = shift if shift is not None and shift.believed else None
        base = self._base(contenders)
        refused = {c.name: why for c in contenders if (why := self._broken(c) or self._unfit(c, base, shift))}
        sound = [c for c in contenders if self._broken(c) is None]
        passed = [c for c in sound if c.name not in refused]
        scores = self._scores(sound, passed, shift)
        eligible = [c.name for c in passed if not c.reference and not c.superseded]
        ranks = self._ranks(eligible, scores)
        best = min(eligible, key=lambda name: (ranks[name], name != base.name))
        if best == base.name:
            return Judgement(best, scores, ranks, refused, [f"No other contender ranks above {best}."])
        names = [name for name in scores[best] if name in scores[base.name]]
        better = [name for name in names if scores[best][name] > scores[base.name][name]]
        if len(better) <= self.most_scores * len(names):
            only = f"{best} ranks best but is better than {base.name} in {len(better)} of {len(names)} scores only."
            return Judgement(base.name, scores, ranks, refused, [only])
        why = f"{best} ranks best and is better than {base.name} in {len(better)} of {len(names)} scores."
        return Judgement(best, scores, ranks, refused, [why])

    def _base(self, contenders: Sequence[Contender]) -> Contender:
        names = [c.name for c in contenders]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"Two contenders are called {name!r}: give each a name of its own.")
        sound = [c for c in contenders if c.base and not (c.reference or c.superseded or self._broken(c))]
        if not sound:
            raise ValueError("No source-only run with finite predictions is among the contenders: pass one as base.")
        base = sound[0]
        shapes = base.predictions.source_logits.shape, base.predictions.target_logits.shape
        for c in contenders:
            own = c.predictions.source_logits.shape, c.predictions.target_logits.shape
            if own != shapes or (c.predictions.source_labels != base.predictions.source_labels).any():
                raise ValueError(f"{c.name} and {base.name} predict different rows: a judge compares the same ones.")
        return base

    @staticmethod
    def _broken(contender: Contender) -> str | None:
        p = contender.predictions
        if np.isfinite(p.source_logits).all() and np.isfinite(p.target_logits).all():
            return None
        return "Its predictions are not finite."

    def _unfit(self, contender: Contender, base: Contender, shift: LabelShiftEstimate | None) -> str | None:
        if contender.base:
            return None
        p, plain = contender.predictions, base.predictions
        accuracies = [_source_accuracy(q, contender.weights) for q in (p, plain)]
        if accuracies[0] < accuracies[1] - self.source_accuracy_within:
            return (
                f"Its accuracy on source validation rows is {100 * accuracies[0]:.1f} where {base.name} has "
                f"{100 * accuracies[1]:.1f}."
            )
        classes = plain.target_logits.shape[1]
        shares = [np.bincount(q.target_logits.argmax(1), minlength=classes) / len(q.target_logits) for q in (p, plain)]
        expected = np.full(classes, np.inf) if shift is None else shift.target_frequencies
        lost = (shares[0] == 0) & (shares[1] >= self.class_share) & (expected > self.nearly_absent / classes)
        if lost.any():
            k = int(lost.argmax())
            return f"It never predicts class {k}; {base.name} does on {100 * shares[1][k]:.1f} % of target rows."
        spread, plain_spread = (float(entropies(q.target_probabilities.mean(0))) for q in (p, plain))
        if shift is not None:
            plain_spread = min(plain_spread, float(entropies(shift.target_frequencies)))
        if spread < self.diversity * plain_spread:
            return f"Its predictions have collapsed: diversity is {spread / np.log(max(2, classes)):.2f}."
        return None

    def _scores(
        self, sound: Sequence[Contender], passed: Sequence[Contender], shift: LabelShiftEstimate | None
    ) -> dict[str, dict[str, float]]:
        calibrated = {c.name: _calibrated(c) for c in sound}
        references = [c for c in passed if c.reference] or [c for c in passed if not c.superseded]
        mean = np.mean([calibrated[c.name].target_probabilities for c in references], axis=0)
        scores: dict[str, dict[str, float]] = {}
        for c in sound:
            p = replace(calibrated[c.name], reference_probabilities=mean)
            scores[c.name] = {}
            for name in self.scores:
                if name == "source_accuracy":
                    scores[c.name][name] = _source_accuracy(p, None if shift is None else shift.weights)
                elif all(getattr(p, need) is not None for need in get_validator(name).needs()):
                    scores[c.name][name] = get_validator(name).score(p)
        return scores

    @staticmethod
    def _ranks(names: Sequence[str], scores: dict[str, dict[str, float]]) -> dict[str, float]:
        from scipy.stats import rankdata

        shared = [score for score in scores[names[0]] if all(score in scores[name] for name in names)]
        ranks = np.mean([rankdata([-scores[name][score] for name in names]) for score in shared], axis=0)
        return dict(zip(names, map(float, ranks), strict=True))

    def __str__(self) -> str:
        return (
            f"Gates: accuracy on source validation rows at most {100 * self.source_accuracy_within:g} points below "
            f"source-only's; no class lost that source-only predicts on {100 * self.class_share:g} % of target rows "
            f"or more; diversity at least {self.diversity:g} of source-only's. Then the best mean rank over "
            f"{', '.join(self.scores)}; it replaces source-only when it is better in more than "
            f"{100 * self.most_scores:g} % of them."
        )


def _source_accuracy(predictions: Predictions, weights: np.ndarray | None) -> float:
    """Accuracy on source validation rows, weighted by (K,) class weights."""
    labels = predictions.source_labels
    rows = None if weights is None else np.asarray(weights, dtype=np.float64)[labels]
    return float(np.average(predictions.source_logits.argmax(1) == labels, weights=rows))


def _calibrated(contender: Contender) -> Predictions:
    """The contender's predictions over one temperature; those of corrected logits are calibrated already."""
    p = contender.predictions
    if contender.weights is not None:
        return p
    temperature = fit_temperature(p.source_logits, p.source_labels)
    return replace(p, source_logits=p.source_logits / temperature, target_logits=p.target_logits / temperature)
