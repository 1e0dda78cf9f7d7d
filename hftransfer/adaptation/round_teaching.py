"""What a round of self-training learns from: soft labels of several members within quotas, and who teaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..selection.class_frequencies import LabelShiftEstimate
from ..selection.rule import Contender, SelectionRule
from .candidate_predictions import JUDGE_SEED
from .candidate_run import CandidateOutcome, SoftLabels
from .class_quotas import within_quotas
from .corrections import Correction, calibration, soft_probabilities, training_weights
from .judging import estimate_shift, predicts_as_the_source_taught, trained_weights


@dataclass(frozen=True)
class Member:
    """A candidate that teaches a round, with the correction of its predictions.

    Args:
        outcome: the candidate.
        correction: calibration and, where its own estimate of class frequencies is believed, these.
        weights: (K,) class weights that it is corrected for or was trained with.
        shift: the estimate of its predictions; `None` of one that was trained with target rows.
    """

    outcome: CandidateOutcome
    correction: Correction
    weights: np.ndarray | None
    shift: LabelShiftEstimate | None = None

    @classmethod
    def of(cls, outcome: CandidateOutcome, outcomes: Sequence[CandidateOutcome]) -> Member:
        """Member from a candidate among all that are made."""
        assert outcome.predictions is not None
        assert outcome.model is not None
        if predicts_as_the_source_taught(outcome, outcomes):
            shift = estimate_shift(outcome.predictions)
            weights = shift.weights if shift.believed else None
            return cls(outcome, Correction(shift.temperature, weights), weights, shift)
        weights = trained_weights(outcome, outcome.model.class_names)
        return cls(outcome, calibration(outcome.predictions, weights), weights)

    def contender(self, base: bool = False) -> Contender:
        """What gates and scores read of it, with its correction."""
        assert self.outcome.predictions is not None
        seen = self.outcome.predictions.map_logits(self.correction).predictions(JUDGE_SEED)
        return Contender(self.outcome.name, seen, base, self.weights, bool(self.outcome.recipe.mean_of))

    def probabilities(self) -> np.ndarray:
        """(m, K) on the predicted target rows, calibrated and corrected."""
        assert self.outcome.predictions is not None
        return soft_probabilities(self.outcome.predictions, self.correction)


@dataclass(frozen=True)
class Teaching:
    """Teachers of a round.

    Args:
        members: those that teach; the student that the round follows is the last.
        left_out: candidate -> why it does not.
        source_taught: the one whose predictions no target row had a part in: a member, or plain source-only.
    """

    members: list[Member]
    left_out: dict[str, str]
    source_taught: Member

    @property
    def shift(self) -> LabelShiftEstimate:
        """Estimate of the target's class frequencies, from predictions that no target row had a part in."""
        assert self.source_taught.shift is not None
        return self.source_taught.shift

    def probabilities(self) -> np.ndarray:
        """(m, K) mean of the members' predictions on the target."""
        return np.mean([member.probabilities() for member in self.members], axis=0)

    def soft_labels(self) -> SoftLabels:
        """Soft labels of the rows within quotas, with the class weights of source rows.

        Quotas are for the believed estimate's class frequencies, or else those that the members predict. In tagging a
        sentence is taken if at least half of its words are within quotas.
        """
        last = self.members[-1].outcome
        assert last.predictions is not None
        assert last.model is not None
        probabilities: Any = self.probabilities()
        frequencies = self.shift.target_frequencies if self.shift.believed else probabilities.mean(0)
        kept, rows = within_quotas(probabilities, frequencies), last.predictions.target_rows
        if last.model.task == "token-classification":
            rows, starts, sizes = np.unique(rows, return_index=True, return_counts=True)
            mostly = np.add.reduceat(kept.astype(int), starts) * 2 >= sizes
            chosen = np.flatnonzero(mostly)
            probabilities = [probabilities[starts[k] : starts[k] + sizes[k]] for k in chosen]
            rows = rows[chosen]
        else:
            probabilities, rows = probabilities[kept], rows[kept]
        weights = training_weights(self.shift, np.array(last.model.class_counts))
        named = {} if weights is None else dict(zip(last.model.class_names, map(float, weights), strict=True))
        return SoftLabels(rows, probabilities, named)


def choose_teachers(names: Sequence[str], outcomes: Sequence[CandidateOutcome], rule: SelectionRule) -> Teaching:
    """Teachers of a round: the named candidates that there are and that pass the gates of the rule.

    Args:
        names: candidates, the student that the round follows last.
        outcomes: all that are made, plain source-only among them.
        rule: whose gates they pass beside plain source-only.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    base = Member.of(next(o for o in outcomes if o.recipe.base and o.recipe.seed == 0), outcomes)
    assert base.outcome.model is not None
    members, left_out = [], {}
    for name in dict.fromkeys(names):
        outcome = by_name[name]
        if outcome.predictions is None:
            left_out[name] = outcome.failure or outcome.set_aside
        elif outcome.set_aside:
            left_out[name] = outcome.set_aside
        else:
            members.append(base if name == base.outcome.name else Member.of(outcome, outcomes))
    source_taught = next((member for member in members if member.shift is not None), base)
    shift = source_taught.shift
    believed = shift.weights if shift is not None and shift.believed else None
    gates = rule.gates(base.outcome.model.class_names)
    contenders = [member.contender(member is base) for member in members]
    first = base.contender(True)
    for contender in contenders:
        others = [c for c in (first, *contenders) if not c.reference and c.finite]
        refusal = gates.refusal(contender, first, others, believed)
        if refusal:
            left_out[contender.name] = refusal
    return Teaching([m for m in members if m.outcome.name not in left_out], left_out, source_taught)
