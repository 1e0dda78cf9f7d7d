"""Decision on a round of self-training: whether its student is kept, or the one before it stays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..selection.rule import SelectionRule
from .candidate_run import CandidateOutcome
from .round_teaching import Member, Teaching


@dataclass(frozen=True)
class RoundDecision:
    """Whether a round is kept, and why, in one sentence each.

    Args:
        kept: whether its student competes, and a next round follows it.
        reason: what decided.
        wins: scores in which it is clearly better than the student before it, less those in which it is clearly worse.
        gain: what the round changes, in shares of right answers, as the source-taught predictions see it.
        changed: share of the judged target rows that it answers otherwise.
    """

    kept: bool
    reason: str
    wins: int = 0
    gain: float = 0.0
    changed: float = 0.0


def decide_round(outcome: CandidateOutcome, teaching: Teaching, rule: SelectionRule) -> RoundDecision:
    r"""Whether a round's student takes its place beside the one before it.

    It does if nothing speaks against it:

    - no gate of the rule refuses it, with the student before it in the place of source-only;
    - compared with that student by the rule's scores, it is clearly worse in no more of them than it is clearly better
      in;
    - on target rows that the two answer differently, predictions that no target row had a part in lean its way:
      \(\frac1m\sum_i q_{i\hat y'_i} - q_{i\hat y_i} \ge 0\), with q these predictions, calibrated and corrected as far
      as a shift is believed, \(\hat y\) and \(\hat y'\) the answers before and after.

    A student of its own answers grows surer of them, right or wrong, which scores that ask for sure answers reward.
    The last condition does not: it is of models that have never seen the target.

    Args:
        outcome: the round's student.
        teaching: what it has learnt from; the student before it is the last member.
        rule: of the run.
    """
    previous, new = teaching.members[-1], Member.of(outcome, [outcome])
    before, after = replace(previous.contender(), base=True), new.contender()
    contenders = [before, after]
    if teaching.source_taught.outcome.name != before.name:
        contenders.append(replace(teaching.source_taught.contender(), reference=True))
    assert outcome.model is not None
    judgement = rule.judge(contenders, teaching.shift, outcome.model.class_names)
    name, start = outcome.name, previous.outcome.name
    if name in judgement.refused:
        return RoundDecision(False, f"{name} is not kept, and {start} stays: {judgement.refused[name]}.")
    wins = judgement.wins[name]
    source_taught = teaching.source_taught
    assert source_taught.outcome.predictions is not None
    q = source_taught.probabilities()[source_taught.outcome.predictions.judged]
    old, now = (c.predictions.target_logits.argmax(1) for c in (before, after))
    rows = np.arange(len(q))
    gain, changed = float((q[rows, now] - q[rows, old]).mean()), float((now != old).mean())
    seen_by, points = source_taught.outcome.name, f"{100 * gain:+.2f}".replace("-", "\u2212")
    evidence = (
        f"it answers {100 * changed:.1f} % of the judged target rows otherwise than {start}, which {seen_by} sees as "
        f"{points} points, and is clearly better in {_scores(wins)} than it is clearly worse in"
    )
    if wins < 0 or gain < 0:
        return RoundDecision(False, f"{name} is not kept, and {start} stays: {evidence}.", wins, gain, changed)
    return RoundDecision(True, f"{name} is kept beside {start}: {evidence}.", wins, gain, changed)


def _scores(wins: int) -> str:
    """How many more scores, in words.

    Example:
        >>> _scores(1), _scores(0), _scores(-2)
        ('1 score more', 'as many scores', '2 scores fewer')
    """
    if wins == 0:
        return "as many scores"
    return f"{abs(wins)} score{'s' * (abs(wins) > 1)} {'more' if wins > 0 else 'fewer'}"
