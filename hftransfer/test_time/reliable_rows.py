"""Rows that are learned from at test time, and what each counts: reliable ones, not redundant, agreed on."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ..objectives.probabilities import entropy
from .stream_settings import StreamSettings


class SelectedRows(NamedTuple):
    """Rows of a batch that are learned from.

    Args:
        chosen: (n,) bool.
        weights: (n,) what each counts, 0 for those that are not chosen; without gradient.
        bound: E0 in nats; infinite without a threshold.
    """

    chosen: torch.Tensor
    weights: torch.Tensor
    bound: float


def select_rows(
    log_p: torch.Tensor,
    settings: StreamSettings,
    moving_average: torch.Tensor | None = None,
    start_log_p: torch.Tensor | None = None,
) -> SelectedRows:
    r"""Rows that are learned from.

    A row is chosen where \(H(p) < E_0 = \) `entropy_threshold` · ln K, where the cosine of p and the moving average
    of predictions is below `redundancy_margin` / √K, and where the start weights predict the same class. It counts
    \(\exp(E_0 - H)\) with `entropy_weights`, else 1.

    Args:
        log_p: (n, K) log-probabilities.
        settings: of the stream.
        moving_average: (K,) of probabilities; `None` where there is none yet.
        start_log_p: (n, K) of the start weights; `None` where they were not asked.

    Paper: Niu et al., Efficient Test-Time Model Adaptation without Forgetting, ICML 2022.
    """
    log_p = log_p.detach()
    h, classes = entropy(log_p), log_p.shape[1]
    chosen, bound = torch.ones_like(h, dtype=torch.bool), math.inf
    if settings.entropy_threshold is not None:
        bound = settings.entropy_threshold * math.log(classes)
        chosen = chosen & (h < bound)
    if settings.redundancy_margin is not None and moving_average is not None:
        cosine = torch.cosine_similarity(log_p.exp(), moving_average.unsqueeze(0), dim=1)
        chosen = chosen & (cosine < settings.redundancy_margin / math.sqrt(classes))
    if settings.agreement and start_log_p is not None:
        chosen = chosen & (log_p.argmax(1) == start_log_p.argmax(1))
    weights = torch.exp(bound - h) if settings.entropy_weights else torch.ones_like(h)
    return SelectedRows(chosen, torch.where(chosen, weights, 0), bound)


def class_mix(log_p: torch.Tensor) -> torch.Tensor:
    r"""Mix of the classes that are predicted on a batch, a scalar from 0 (one class) to 1 (as even as chance has it).

    \[\frac{D - 1}{\bar D - 1},\qquad D = \frac{1}{\sum_k \bar p_k^2},\qquad \bar D = \frac{nK}{n + K - 1},\]

    at most 1, with p̄ the mean prediction and D̄ the inverse of the expectation of Σ p̄² over n independent rows of K
    equally frequent classes. A single row says nothing of the mix: 1. Statistics of a batch that holds few classes are
    those of these classes, and no sign of a shift.

    Args:
        log_p: (n, K) log-probabilities.
    """
    rows, classes = log_p.shape
    if rows == 1:
        return log_p.new_ones(())
    diversity = 1 / log_p.exp().mean(0).square().sum()
    return ((diversity - 1) / (rows * classes / (rows + classes - 1) - 1)).clamp(0, 1)


def mean_entropy(log_p: torch.Tensor, rows: SelectedRows) -> torch.Tensor:
    """Mean entropy of the chosen rows, each counted once, a scalar without gradient; 0 where none is chosen."""
    return torch.where(rows.chosen, entropy(log_p.detach()), 0).sum() / rows.chosen.sum().clamp_min(1)


def weighted_entropy(log_p: torch.Tensor, rows: SelectedRows) -> torch.Tensor:
    """Mean over the chosen rows of weight times entropy, a scalar with gradient; 0 where none is chosen."""
    return (rows.weights * entropy(log_p)).sum() / rows.chosen.sum().clamp_min(1)
