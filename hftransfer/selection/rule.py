"""The selection rule: which candidate is handed over, decided without a target label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from .class_frequencies import LabelShiftEstimate
from .contender_gates import Gates
from .contender_scores import ContenderScores, ScoreSample
from .contenders import Contender, believed_weights, first_base, mean_probabilities

__all__ = ["Contender", "Judgement", "SelectionRule"]

SCORES = ("mixval_inter", "nuclear_norm", "information", "ensemble_confidence")  # the source's accuracy is a gate


@dataclass(frozen=True)
class Judgement:
    """What a rule decided, and why.

    Args:
        chosen: name of the contender to hand over.
        scores: contender -> name of a score -> value, accuracy on source validation rows among them; without those
            that could not be computed.
        wins: contender -> in how many comparisons it is clearly better, less those in which it is clearly worse; a
            comparison is of one score with one other contender that passed the gates.
        ranks: contender -> place by wins, 1 the best, of those that passed the gates.
        refused: contender -> the gate that it failed, in one sentence.
        reasons: why the chosen one was chosen, in plain sentences.
    """

    chosen: str
    scores: dict[str, dict[str, float]]
    wins: dict[str, int]
    ranks: dict[str, int]
    refused: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SelectionRule:
    """Selection without target labels: gates, then comparisons by several scores of which only clear ones count.

    Those that pass the gates are compared in pairs, score by score. One that is clearly better wins a point of the
    other, where clearly means by more than two standard errors of the difference, from a jackknife over rows. Ranks
    are by points; where these are equal, by the mean rank over the scores. A contender that ranks above plain
    source-only replaces it if it is clearly better than that in more scores than it is clearly worse in. Predictions
    are calibrated first. Scores are computed for the class frequencies that are expected of the target, those of a
    believed estimate or else the source's: `information` and `nuclear_norm` ask for these in place of even ones, and
    source rows count by the weight of their class.

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

    def judge(
        self,
        contenders: Sequence[Contender],
        shift: LabelShiftEstimate | None = None,
        class_names: Sequence[str] = (),
    ) -> Judgement:
        """The contender to hand over, with scores, ranks and reasons.

        Args:
            contenders: at least one of them a base. Predictions that are not finite are refused.
            shift: estimate of the target's class frequencies; ignored unless it is believed. Without one that is,
                class weights of the contenders say what is believed.
            class_names: (K,) for the sentences; their numbers when empty.

        Raises:
            ValueError: no base with finite predictions, a name twice, predictions of other rows, or an unknown score.
        """
        base = first_base(contenders)
        believed = believed_weights(contenders, shift)
        finite = [contender for contender in contenders if contender.finite]
        models = [contender for contender in finite if not contender.reference]
        gates = self.gates(class_names)
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
        competing = [contender.name for contender in passed if not contender.reference]
        samples = {name: scoring.sample(seen[name]) for name in competing}
        gate = ContenderScores(("source_accuracy",), labels, classes, believed)
        scores = {
            name: gate(contender) | (samples[name].scores if name in samples else scoring(contender))
            for name, contender in seen.items()
        }
        wins = self._wins(samples)
        means = mean_ranks(competing, {name: sample.scores for name, sample in samples.items()})
        order = sorted(competing, key=lambda name: (-wins[name], means[name]))
        ranks = {name: place for place, name in enumerate(order, 1)}

        reasons = []
        if shift is not None and shift.believed:
            reasons.append("Scores are for the class frequencies of the estimate.")
        elif believed is not None:
            reasons.append("Scores are for the class frequencies that corrected models were corrected for.")
        above = order[: order.index(base.name)]
        for name in above:
            better, worse = samples[name].clear_differences(samples[base.name], self.clear)
            evidence = f"clearly better in {listed(better)} and clearly worse in {listed(worse)}"
            if len(better) - len(worse) >= min(self.more_scores, len(samples[name].scores)):
                reasons.append(
                    f"{name} ranks {ranks[name]} of {len(order)}, {base.name} {ranks[base.name]}: compared with each "
                    f"other by each score, it wins {wins[name]} more than it loses; only clear differences count."
                )
                reasons.append(f"Beside {base.name} it is {evidence}.")
                return Judgement(name, scores, wins, ranks, refused, reasons)
            reasons.append(f"{name} ranks above {base.name}, but is {evidence}: too little to replace it.")
        if len(ranks) == 1:
            reasons.append(f"{base.name} stays: no other contender passed the gates.")
        elif not above:
            reasons.append(f"{base.name} stays: no other contender ranks above it.")
        else:
            reasons.append(f"{base.name} stays: the evidence for another is not clear.")
        return Judgement(base.name, scores, wins, ranks, refused, reasons)

    def gates(self, class_names: Sequence[str] = ()) -> Gates:
        """The rule's gates, which call classes by these names."""
        return Gates(
            self.source_accuracy_within,
            self.source_errors,
            self.class_share,
            self.nearly_absent,
            self.diversity,
            class_names,
        )

    def _wins(self, samples: Mapping[str, ScoreSample]) -> dict[str, int]:
        """Clear comparisons that each contender wins, less those that it loses."""
        wins = dict.fromkeys(samples, 0)
        for first, second in combinations(samples, 2):
            better, worse = samples[first].clear_differences(samples[second], self.clear)
            wins[first] += len(better) - len(worse)
            wins[second] -= len(better) - len(worse)
        return wins

    def __str__(self) -> str:
        return (
            "Gates: finite predictions; accuracy on source validation rows at most "
            f"{100 * self.source_accuracy_within:g} points and {plural(self.source_errors, 'standard error')} below "
            f"the best; no class lost that source-only predicts on {100 * self.class_share:g} % of target rows or "
            f"more; diversity at least {self.diversity:g} of source-only's; a believed shift excuses the last two. "
            f"Then comparisons in pairs by {listed(self.scores)}, each won by {plural(self.clear, 'standard error')} "
            "or more; most wins rank first. It replaces source-only when it wins at least "
            f"{plural(self.more_scores, 'score')} more against it than it loses."
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
