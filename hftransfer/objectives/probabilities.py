"""Entropies and divergences from log-probabilities: finite, with finite gradients, at 0 and at 1."""

from __future__ import annotations

import math

import torch


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
