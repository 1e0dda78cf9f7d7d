"""Judging by answers: accuracy on the target, a paired decision among candidates, and one that is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..reporting.console import print_lines
from ..selection.answers import AnsweredScores, accuracy_of_answers, answer_weights, answered_scores
from ..selection.paired_decision import LEVEL, PLANNED_LEVEL, PairedComparison, compare, decide
from ..selection.target_accuracy import AccuracyEstimate, estimate_accuracy
from ..trainers.saving.process_agreement import failed_everywhere
from .answer_probe import PROBED, AnswerProbe
from .answer_reading import Answers
from .answer_training import FEWEST, FOLDS, HALF, TRAINED_ON, WHOLE, AnswerRunner
from .candidate_maker import is_of_the_disk
from .candidate_run import CandidateOutcome, CandidateRunner
from .judging import Entry, Verdicts

Judge = Callable[[Sequence[CandidateOutcome]], Verdicts]


@dataclass(frozen=True)
class AnswerFindings:
    """What the answers came to.

    Args:
        answers: that were read.
        judged: how many of them judge: in tagging, sentences that the tokenizer cuts do not.
        accuracy, base_accuracy: of the chosen model and of plain source-only, with 80 % intervals.
        without_labels: the label-free estimate for the chosen model.
        comparisons: with the model that stood before.
        sentences: what was decided, for the report.
    """

    answers: Answers
    judged: int
    accuracy: AccuracyEstimate
    base_accuracy: AccuracyEstimate
    without_labels: AccuracyEstimate | None
    comparisons: list[PairedComparison]
    sentences: list[str]


class AnsweredRows:
    """Answered rows as candidates' stored predictions have them.

    Args:
        answers: that were read.
        target_rows: (m,) target row of each stored prediction; in tagging, of each word.
    """

    def __init__(self, answers: Answers, target_rows: np.ndarray):
        self.answers = answers
        places = [np.flatnonzero(target_rows == row) for row in answers.rows]
        self.kept = np.array(
            [k for k, (at, label) in enumerate(zip(places, answers.labels, strict=True)) if len(at) == len(label)],
            dtype=int,
        )
        self.places = [places[k] for k in self.kept]
        self.labels = [answers.labels[k] for k in self.kept]
        weights = answer_weights(answers.numbers, answers.chances, answers.population, answers.asked)
        self.weights = weights[self.kept]

    def scores(self, entry: Entry) -> AnsweredScores:
        """Scores of a candidate by its stored predictions."""
        return self._scores(entry, [entry.predictions.target_logits[at] for at in self.places])

    def cross_fitted(self, entry: Entry, logits: Sequence[np.ndarray]) -> AnsweredScores:
        """Scores of a candidate by its `cross_fitted_logits`, calibrated as it is."""
        return self._scores(entry, [entry.correction(logits[k]) for k in self.kept])

    def _scores(self, entry: Entry, log_probabilities: Sequence[np.ndarray]) -> AnsweredScores:
        row_of = np.repeat(np.arange(len(self.labels)), [len(label) for label in self.labels])
        return answered_scores(entry.name, np.concatenate(log_probabilities), np.concatenate(self.labels), row_of)


def check_answers(answers: Answers, predicted: np.ndarray, names: Sequence[str]) -> None:
    """Check that answers can be used in a run, before anything is trained.

    Args:
        answers: that were read.
        predicted: numbers of the target rows that candidates predict.
        names: of the candidates.

    Raises:
        ValueError: rows that are not predicted, or a candidate's name that is taken.
    """
    for taken in (TRAINED_ON, PROBED):
        if taken in names:
            raise ValueError(f"A candidate is called {taken!r}, which is one that answers make. Rename it.")
    unknown = np.setdiff1d(answers.rows, predicted)
    if len(unknown):
        raise ValueError(
            f"{answers.path} has answers to {len(unknown)} target rows that this run does not predict, such as row "
            f"{unknown[0]}: an effort with other candidates predicts other rows. Use the effort that they were asked "
            "for with."
        )


def judge_with_answers(
    answers: Answers, verdicts: Verdicts, outcomes: Sequence[CandidateOutcome], runner: CandidateRunner, judge: Judge
) -> tuple[Verdicts, list[CandidateOutcome], AnswerFindings]:
    """Verdicts after answers.

    First, the candidates that have not seen the answers are compared on them (`decide`); the label-free choice stays
    unless another is better. The one that stands is then trained further on the answers. What comes of it has to be
    better on answers that it was not trained on (`cross_fitted_logits`); the gates, which guess by the source how a
    model does on the target, do not bind it. Where a linear probe is among the candidates, another one is fitted with
    the answers. It takes the place of what stands by then where it is clearly better; where a probe stood before, it
    is that probe with the answers, and takes the place unless it is clearly worse, as training does.

    Args:
        answers: that were read.
        verdicts: from `judge`, without them.
        outcomes: all candidates.
        runner: of candidates.
        judge: `judge` of outcomes with all else that it takes.

    Raises:
        ValueError: no answer that can judge.
    """
    rows = AnsweredRows(answers, verdicts.base.outcome.predictions.target_rows)  # type: ignore[union-attr]
    if not len(rows.kept):
        raise ValueError(f"{answers.path}: the tokenizer cuts each of the answered sentences. Raise max_length.")
    scores = {e.name: rows.scores(e) for e in verdicts.entries if _competes(e, verdicts)}
    name, comparisons = decide(list(scores.values()), verdicts.chosen.name, rows.weights)
    chosen = _named(verdicts, name)
    sentences = [_decided(verdicts.chosen.name, name, comparisons, len(rows.kept))]
    base_scores = rows.scores(verdicts.base)  # it may have failed a gate

    def clearly_better(logits: Sequence[np.ndarray]) -> bool:
        return compare(rows.cross_fitted(chosen, logits), scores[name], rows.weights, LEVEL).wins

    trained, logits, sentence = _trained_on(answers, chosen, verdicts, runner, clearly_better)
    sentences += [sentence] * bool(sentence)
    all_outcomes = [*outcomes, *([trained] if trained is not None else [])]
    judged = verdicts
    if trained is not None and trained.predictions is not None:
        judged = judge(all_outcomes)
        entry, chosen = _named(judged, TRAINED_ON), _named(judged, name)
        scores[TRAINED_ON] = rows.cross_fitted(entry, logits)
        comparison = compare(scores[TRAINED_ON], scores[name], rows.weights)
        comparisons = [*comparisons, comparison]
        refusal = judged.judgement.refused.get(TRAINED_ON, "")
        taken = comparison.taken(bool(refusal))
        sentences += _of_answers(comparison, taken, refusal, len(answers), "trained")
        chosen = entry if taken else chosen
    probed, logits, sentence = _probed(answers, outcomes, runner)
    sentences += [sentence] * bool(sentence)
    if probed is not None:
        all_outcomes = [*all_outcomes, probed]
        judged = judge(all_outcomes)
        entry, chosen = _named(judged, PROBED), _named(judged, chosen.name)
        scores[PROBED] = rows.cross_fitted(entry, logits)
        planned = _named(verdicts, name).outcome.recipe.probe  # it is what stood, with the answers
        comparison = compare(scores[PROBED], scores[chosen.name], rows.weights, PLANNED_LEVEL if planned else LEVEL)
        comparisons = [*comparisons, comparison]
        refusal = judged.judgement.refused.get(PROBED, "")
        taken = probe_is_taken(comparison, planned, bool(refusal))
        sentences += _of_answers(comparison, taken, refusal, len(answers), "fitted")
        chosen = entry if taken else chosen
    refused = {other: why for other, why in judged.judgement.refused.items() if other != chosen.name}
    reasons = [*verdicts.judgement.reasons, *sentences]
    judgement = replace(judged.judgement, chosen=chosen.name, refused=refused, reasons=reasons)
    accuracy = accuracy_of_answers(scores[chosen.name], rows.weights)
    base_accuracy = accuracy_of_answers(base_scores, rows.weights)
    without = (
        verdicts.accuracy if chosen.name == verdicts.chosen.name else estimate_accuracy(chosen.seen(), chosen.weights)
    )
    final = replace(judged, chosen=chosen, judgement=judgement, accuracy=accuracy, base_accuracy=base_accuracy)
    findings = AnswerFindings(answers, len(rows.kept), accuracy, base_accuracy, without, comparisons, sentences)
    return final, all_outcomes, findings


def probe_is_taken(comparison: PairedComparison, planned: bool, refused: bool) -> bool:
    """Whether a linear probe that was fitted with answers is taken.

    Args:
        comparison: with what stands.
        planned: a probe stood before the answers, and this is that probe with them: taken unless it is clearly worse.
        refused: by a gate that reads no target label.
    """
    return comparison.taken(refused) if planned else comparison.wins and comparison.gain > 0


def _named(verdicts: Verdicts, name: str) -> Entry:
    return next(entry for entry in verdicts.entries if entry.name == name)


def _competes(entry: Entry, verdicts: Verdicts) -> bool:
    return not entry.reference and entry.name not in verdicts.judgement.refused


def _trained_on(
    answers: Answers,
    chosen: Entry,
    verdicts: Verdicts,
    runner: CandidateRunner,
    clearly_better: Callable[[Sequence[np.ndarray]], bool],
) -> tuple[CandidateOutcome | None, list[np.ndarray], str]:
    """Candidate that is trained on the answers, its cross-fitted logits, and what there is to say.

    The trained weights are averaged with those before them, unless the cross-fitted logits of the whole step are
    clearly better than the model before. There is none where answers are too few; one that breaks is noted, as others
    are.
    """
    if len(answers) < FEWEST:
        return None, [], f"Nothing is trained on fewer than {FEWEST} answers."
    own = AnswerRunner(runner, chosen, answers, verdicts)
    print_lines("", f"{TRAINED_ON}: {own.recipe.about}")
    try:
        logits = own.cross_fitted_logits()
        own.share = WHOLE if clearly_better(logits[WHOLE]) else HALF
        return own.make(), logits[own.share], ""
    except Exception as error:
        if is_of_the_disk(error) or not failed_everywhere(runner.inputs.args.world_size):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        print_lines(f"{TRAINED_ON} failed and is left out: {reason}")
        return CandidateOutcome(own.recipe, failure=reason), [], ""


def _probed(
    answers: Answers, outcomes: Sequence[CandidateOutcome], runner: CandidateRunner
) -> tuple[CandidateOutcome | None, list[np.ndarray], str]:
    """Linear probe that is fitted with the answers, its cross-fitted logits, and what there is to say.

    There is none without a linear probe among the candidates, or where answers are too few.
    """
    if len(answers) < FEWEST or not any(o.recipe.probe and o.predictions is not None for o in outcomes):
        return None, [], ""
    own = AnswerProbe(runner, answers)
    print_lines("", f"{PROBED}: {own.recipe.about}")
    try:
        return own.make(), own.cross_fitted_logits(), ""
    except Exception as error:
        if is_of_the_disk(error) or not failed_everywhere(runner.inputs.args.world_size):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        print_lines(f"{PROBED} failed and is left out: {reason}")
        return None, [], f"{PROBED} failed and is left out: {reason}"


def _decided(standing: str, chosen: str, comparisons: Sequence[PairedComparison], answers: int) -> str:
    """Sentence on the decision among the candidates that have not seen the answers."""
    by = f"By {answers} labelled target rows"
    if chosen != standing:
        comparison = next(c for c in comparisons if c.name == chosen)
        return f"{by}, {chosen} takes the place of {standing}: it is {_beside(comparison)}."
    if not comparisons:
        return f"{by}, {standing} has no other to be compared with."
    best = min(comparisons, key=lambda c: (c.p, -c.gain))
    return f"{by}, {standing} stays: no other is clearly better. The nearest, {best.name}, is {_beside(best)}."


def _of_answers(c: PairedComparison, taken: bool, refusal: str, answers: int, made: str) -> list[str]:
    """Sentences on whether a model that was made with the answers, `"trained"` or `"fitted"`, is taken, and why."""
    folds = min(FOLDS, answers)
    takes = "takes the place" if taken else "does not take the place"
    sentences = [
        f"{c.name} {takes} of {c.standing}: {made} on {folds - 1} of {folds} parts of the answers and compared on "
        f"the part left out, it is {_gained(c)} (paired tests: p = {c.p:.2g} of no gain, {c.p_worse:.2g} of no loss; "
        f"{c.level:.2g} is clear)."
    ]
    if refusal and not c.wins:
        sentences.append(f"The gates, which read no target label, refuse {c.name}: {refusal}.")
    elif refusal:
        sentences.append(f"The gates, which read no target label, would have refused {c.name}: {refusal}.")
    elif taken and not c.wins:
        sentences.append(
            f"That is no clear gain. {c.name} is taken because labels of the target are what the others lack, and "
            "nothing speaks against it."
        )
    return sentences


def _gained(c: PairedComparison) -> str:
    return f"{100 * abs(c.gain):.1f} points {'better' if c.gain >= 0 else 'worse'}"


def _beside(c: PairedComparison) -> str:
    """What a comparison showed, after "it is"."""
    return f"{_gained(c)} (paired test: p = {c.p:.2g}, at most {c.level:.2g} is asked for)"
