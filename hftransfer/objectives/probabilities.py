"""Entropies, divergences and pseudo-labels from log-probabilities: finite, with finite gradients, at 0 and at 1."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..ignored_label import IGNORE


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Entropies in nats, (…, K) log-probabilities -> (…,)."""
    return -(log_p.exp() * log_p).sum(-1)


def log_mean(log_p: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean prediction, (m, K) log-probabilities -> (K,); finite for a class that is never
    predicted."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergences KL(p ‖ q), (…, K) log-probabilities twice -> (…,)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def check_threshold(threshold: Any) -> None:
    """Check that a threshold is a probability. Raises a `ValueError`."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold!r} must be between 0 and 1.")


def pseudo_labels(logits: torch.Tensor, threshold: float) -> torch.Tensor:
    """Pseudo-labels, (m, K) logits -> (m,) predicted classes; -100 where the largest probability is below the
    threshold. No gradient."""
    confidence, predicted = logits.detach().softmax(-1).max(-1)
    return torch.where(confidence >= threshold, predicted, IGNORE)
