"""The selection rule: which candidate is handed over, decided without a target label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .class_frequencies import LabelShiftEstimate
from .contender_gates import Gates
from .contender_scores import ContenderScores
from .contenders import Contender, believed_weights, first_base, mean_probabilities

__all__ = ["Contender", "Judgement", "SelectionRule"]

SCORES = (
    "mixval_inter",
    "nuclear_norm",
    "information",
    "source_accuracy",
    "ensemble_agreement",
    "ensemble_confidence",
)


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

    A contender that passes the gates and ranks above plain source-only replaces it where the evidence is clear: it
    must be clearly better in more scores than it is clearly worse in. Clearly means by more than two standard errors
    of the difference, from a jackknife over rows. Predictions are calibrated first. Scores are computed for the class
    frequencies that are expected of the target, those of a believed estimate or else the source's: `information` and
    `nuclear_norm` ask for these in place of even ones, and source rows count by the weight of their class.

    Args:
        scores: names of validators, each of which counts as much as another. Those that lack an input are left out.
        source_accuracy_within: how far accuracy on source validation rows may lie below that of any other contender,
            between 0 and 1. Rows are weighted by the class weights of the contender in question: a right correction
            costs accuracy on the source's own class frequencies.
        source_errors: standard errors of the difference that this gate allows on top.
        clear: standard errors beyond which a difference of a score counts.
        more_scores: by how many scores clearly better must outnumber clearly worse.
        class_share: share of target rows from which on a class that source-only predicts may not be lost.
        nearly_absent: a class may be lost that is believed to have less than this part of an even share.
        diversity: smallest entropy of the mean prediction, as part of source-only's; of the believed frequencies where
            theirs is smaller.

    Example:
        >>> import numpy as np
        >>> from hftransfer import Predictions
        >>> labels = np.arange(200) % 2
        >>> def model(strength, seed):
        ...     noise = np.random.default_rng(seed).normal(size=(200, 2))
        ...     return Predictions(strength * np.eye(2)[labels] + noise, labels, strength * np.eye(2)[labels] + noise)
        >>> better = Contender("better", model(4.0, 1))
        >>> judgement = SelectionRule().judge([Contender("source-only", model(1.0, 0), base=True), better])
        >>> judgement.chosen
        'better'
    """

    scores: tuple[str, ...] = SCORES
    source_accuracy_within: float = 0.03
    source_errors: float = 1.0
    clear: float = 2.0
    more_scores: int = 1
    class_share: float = 0.01
    nearly_absent: float = 0.2
    diversity: float = 0.6

    def judge(self, contenders: Sequence[Contender], shift: LabelShiftEstimate | None = None) -> Judgement:
        """The contender to hand over, with scores, ranks and reasons.

        Args:
            contenders: at least one of them a base. Predictions that are not finite are refused.
            shift: estimate of the target's class frequencies; ignored unless it is believed. Without one that is,
                class weights of the contenders say what is believed.

        Raises:
            ValueError: no base with finite predictions, a name twice, predictions of other rows, or an unknown score.
        """
        base = first_base(contenders)
        believed = believed_weights(contenders, shift)
        finite = [contender for contender in contenders if contender.finite]
        models = [contender for contender in finite if not contender.reference]
        gates = Gates(
            self.source_accuracy_within, self.source_errors, self.class_share, self.nearly_absent, self.diversity
        )
        refused = {c.name: why for c in contenders if (why := gates.refusal(c, base, models, believed))}
        passed = [contender for contender in finite if contender.name not in refused]
        calibrated = {contender.name: contender.calibrated() for contender in finite}
        mean = mean_probabilities([c for c in passed if c.reference] or passed, calibrated, believed)
        seen = {
            contender.name: replace(
                contender, predictions=replace(contender.predictions, reference_probabilities=mean)
            )
            for contender in finite
        }
        labels, classes = base.predictions.source_labels, base.predictions.source_logits.shape[1]
        scoring = ContenderScores(self.scores, labels, classes, believed)
        scores = {name: scoring(contender) for name, contender in seen.items()}
        ranks = mean_ranks([contender.name for contender in passed if not contender.reference], scores)

        reasons = []
        if shift is not None and shift.believed:
            reasons.append("Scores are for the class frequencies of the estimate.")
        elif believed is not None:
            reasons.append("Scores are for the class frequencies that corrected models were corrected for.")
        above = sorted((name for name in ranks if ranks[name] < ranks[base.name]), key=ranks.__getitem__)
        for name in above:
            differences = scoring.differences(seen[name], seen[base.name])
            better = [s for s, (d, error) in differences.items() if d > max(1e-9, self.clear * error)]
            worse = [s for s, (d, error) in differences.items() if -d > max(1e-9, self.clear * error)]
            evidence = f"clearly better in {listed(better)} and clearly worse in {listed(worse)}"
            if len(better) - len(worse) >= min(self.more_scores, len(differences)):
                reasons.append(
                    f"{name} has a mean rank of {ranks[name]:.1f}, {base.name} of {ranks[base.name]:.1f}; it is "
                    f"{evidence}."
                )
                return Judgement(name, scores, ranks, refused, reasons)
            reasons.append(f"{name} ranks above {base.name}, but is {evidence}: too little to replace it.")
        if len(ranks) == 1:
            reasons.append(f"{base.name} stays: no other contender passed the gates.")
        elif not above:
            reasons.append(f"{base.name} stays: no other contender ranks above it.")
        else:
            reasons.append(f"{base.name} stays: the evidence for another is not clear.")
        return Judgement(base.name, scores, ranks, refused, reasons)

    def __str__(self) -> str:
        return (
            "Gates: finite predictions; accuracy on source validation rows at most "
            f"{100 * self.source_accuracy_within:g} points and {plural(self.source_errors, 'standard error')} below "
            f"the best; no class lost that source-only predicts on {100 * self.class_share:g} % of target rows or "
            f"more; diversity at least {self.diversity:g} of source-only's; a believed shift excuses the last two. "
            f"Then the best mean rank over {listed(self.scores)}. It replaces source-only when it is better by "
            f"{plural(self.clear, 'standard error')} in at least {plural(self.more_scores, 'score')} more than it is "
            "worse in."
        )


def mean_ranks(names: Sequence[str], scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean rank of each name over the scores that all of them have: 1 is the best, ties share their mean."""
    from scipy.stats import rankdata

    shared = [score for score in scores[names[0]] if all(score in scores[name] for name in names)]
    columns = [rankdata([-round(scores[name][score], 9) for name in names]) for score in shared]
    return {name: float(sum(column[i] for column in columns) / max(1, len(columns))) for i, name in enumerate(names)}


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["snd", "dev", "cot"]), listed([])
        ('snd, dev and cot', 'none')
    """
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def plural(number: float, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> plural(1.0, "score"), plural(2.5, "score")
        ('1 score', '2.5 scores')
    """
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
