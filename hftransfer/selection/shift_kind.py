"""Kind of shift that the predictions of a source-only model suggest, in plain sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .calibration import calibrated
from .class_frequencies import LabelShiftEstimate
from .explained_gap import ABOVE_CHANCE
from .model_predictions import Predictions

DISTINCT = 0.25  # of the proxy A-distance, beyond what class frequencies explain: 56 % of rows told right
UNSEEN = "Whether the same inputs carry other labels in the target cannot be seen without target labels."


@dataclass(frozen=True)
class ShiftKind:
    """A kind of shift, and the evidence for it in one sentence each.

    Args:
        kind: `"none visible"`, `"covariate"`, `"label"` or `"both"`.
        sentences: what was seen; the last says what cannot be.
    """

    kind: Literal["none visible", "covariate", "label", "both"]
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.sentences)


def describe_shift(
    source_only: Predictions, shift: LabelShiftEstimate, proxy_a_distance: float | None = None
) -> ShiftKind:
    r"""Covariate shift, label shift, both or none visible, from predictions of a source-only model.

    It is label shift where the estimate is believed. It is covariate shift where predictions on the domains differ
    more than chance shows and class frequencies do not explain it, or where features tell the domains apart better
    than class frequencies alone could:

    \[d_A > \sum_k \lvert \pi^T_k - \pi^S_k \rvert + 0.25\]

    since a classifier of domains that knows only the class has \(d_A \le \sum_k \lvert \pi^T_k - \pi^S_k \rvert\).

    Args:
        source_only: predictions of the model trained on the source alone.
        shift: what `estimate_label_shift` says of them.
        proxy_a_distance: 2 (1 - 2ε) of a classifier of domains on frozen features with held-out error ε, between 0
            and 2.

    Papers: Moreno-Torres et al., A Unifying View on Dataset Shift in Classification, Pattern Recognition 2012;
    Ben-David et al., Analysis of Representations for Domain Adaptation, NeurIPS 2006 (A-distance).

    Example:
        >>> from hftransfer import estimate_label_shift
        >>> draw = np.random.default_rng(0)
        >>> labels = draw.integers(2, size=800)
        >>> logits = 2 * np.eye(2)[labels] + draw.normal(size=(800, 2))
        >>> p = Predictions(logits[:400], labels[:400], logits[400:])
        >>> describe_shift(p, estimate_label_shift(p)).kind
        'none visible'
    """
    chance = max(shift.gap_by_chance, 1e-12)
    times, times_left = shift.gap / chance, shift.gap_left / chance
    label = shift.believed
    moved = float(np.abs(shift.target_frequencies - shift.source_frequencies).sum()) if label else 0.0
    distinct = proxy_a_distance is not None and proxy_a_distance > moved + DISTINCT
    unexplained = times_left >= ABOVE_CHANCE if label else times >= ABOVE_CHANCE

    sentences = []
    if label:
        sentences.append(
            f"Class frequencies differ (label shift): they explain {100 * shift.explained:.0f} % of a gap between "
            f"predictions that is {times:.1f} times what chance shows."
        )
    if unexplained:
        sure = [
            float(calibrated(logits, shift.temperature).max(1).mean())
            for logits in (source_only.source_logits, source_only.target_logits)
        ]
        apart = f"{times_left:.1f} times as far apart as chance shows even with class frequencies made equal"
        sentences.append(
            "Inputs differ (covariate shift): predictions on source and target are "
            f"{apart if label else f'{times:.1f} times as far apart as chance shows'}, and the model's confidence is "
            f"{sure[0]:.2f} on the source and {sure[1]:.2f} on the target."
        )
        if not shift.enough_rows:
            sentences.append(f"Whether class frequencies differ cannot be told: {shift.few_rows}.")
        elif not label and shift.explained > 0:
            sentences.append(
                f"Other class frequencies would explain {100 * shift.explained:.0f} % of that, too little or with too "
                "much left to be believed."
            )
    if distinct:
        right = 100 * (0.5 + (proxy_a_distance or 0.0) / 4)
        sentences.append(
            f"{'Inputs differ (covariate shift): features' if not unexplained else 'Features'} tell the domains of "
            f"{right:.0f} % of rows{', more than class frequencies could' if label else ''}."
        )
        if not label and not unexplained:
            sentences.append("Predictions differ no more than by chance, so the model may not be affected.")
    kind: Literal["none visible", "covariate", "label", "both"] = "none visible"
    if unexplained or distinct:
        kind = "both" if label else "covariate"
    elif label:
        kind = "label"
    else:
        sentences.append(f"No shift is visible: predictions differ {times:.1f} times as much as chance shows.")
    return ShiftKind(kind, (*sentences, UNSEEN))
