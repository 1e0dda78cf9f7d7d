"""Monitor of a stream: moving averages of predictions and entropies, and what they say of a collapse."""

from __future__ import annotations

import math

import torch

from ..objectives.probabilities import entropy
from .stream_settings import StreamSettings

KEPT = 0.9  # what a moving average keeps over `full_step_rows` rows
AVERAGES = ("adapted", "start", "learned", "entropy", "spread")


class StreamMonitor:
    r"""Moving averages over a stream.

    After n rows an average is \(a \leftarrow d\,a + (1 - d)\,\bar x\) with \(d = 0.9^{n / R}\), R the rows of a full
    step: batches of one row and of 64 remember equally many rows. The first mean is taken whole.

    Attributes:
        adapted, start: (K,) mean probabilities of the adapted model and of the start weights.
        learned: (K,) those of rows that were learned from.
        entropy: () mean entropy of rows that were learned from, at the weights that the step was taken for.
        spread: (2,) terms of the correlation of rows within a batch; see `correlation`.
    """

    adapted: torch.Tensor | None
    start: torch.Tensor | None
    learned: torch.Tensor | None
    entropy: torch.Tensor | None
    spread: torch.Tensor | None

    def __init__(self, settings: StreamSettings):
        self.settings = settings
        self.forget()

    def forget(self) -> None:
        """No averages, as at the beginning."""
        for name in AVERAGES:
            setattr(self, name, None)

    def add(self, name: str, mean: torch.Tensor, rows: int) -> None:
        """A batch's mean, added to an average.

        Args:
            name: of the average.
            mean: over the rows.
            rows: how many.
        """
        average, mean = getattr(self, name), mean.detach().float()
        kept = KEPT ** (rows / self.settings.full_step_rows)
        setattr(self, name, mean.clone() if average is None else kept * average + (1 - kept) * mean)

    def add_spread(self, log_p: torch.Tensor) -> None:
        """A batch's part in `correlation`; a single row, and a first batch, have none.

        Args:
            log_p: (n, K) log-probabilities of the adapted model, on statistics in which each row counts.
        """
        rows, average = len(log_p), self.adapted
        if rows == 1 or average is None:
            return
        away = log_p.detach().exp().float() - average
        total, between = away.square().sum(1).mean(), away.mean(0).square().sum()
        self.add("spread", torch.stack([rows * between - total, (rows - 1) * total]), rows)

    def correlation(self) -> float:
        r"""Intraclass correlation of predictions within batches, from 0 (rows as if drawn at random) to 1 (all alike).

        \[\rho = \frac{\overline{n B - T}}{\overline{(n - 1)\,T}},\qquad
          T = \frac1n\sum_i\lVert p_i - a\rVert^2,\qquad B = \lVert \bar p - a\rVert^2\]

        with a the moving average of predictions. Rows that are drawn independently have B = T/n in expectation.
        """
        if self.spread is None:
            return 0.0
        numerator, denominator = self.spread.tolist()
        return min(max(numerator / denominator, 0.0), 1.0) if denominator > 0 else 0.0

    def diversity(self, name: str) -> float:
        """Number of classes that are predicted, exp H of an average: 1 to K; not a number where there is none yet."""
        average = getattr(self, name)
        return math.nan if average is None else math.exp(float(entropy(average.clamp_min(1e-30).log())))

    def collapse(self) -> str | None:
        """Reason to start again; `None` while all is well."""
        least, bound = self.settings.least_diversity, self.settings.reset_entropy
        if least is not None and self.start is not None:
            adapted, start = self.diversity("adapted"), self.diversity("start")
            if adapted < least * start:
                return f"{adapted:.1f} classes are predicted, and {start:.1f} by the start weights"
        if bound is not None and self.entropy is not None and self.adapted is not None:
            value, limit = float(self.entropy), bound * math.log(len(self.adapted))
            if value < limit:
                return f"the entropy is {value:.2g}, below {limit:.2g}"
        return None
