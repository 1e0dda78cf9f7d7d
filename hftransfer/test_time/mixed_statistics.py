"""Batch norm on statistics of the batch, or on a mean of those and of the running ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.batch_norm_statistics import batch_norms


@contextmanager
def mixed_statistics(model: nn.Module, prior_rows: float) -> Iterator[None]:
    r"""Statistics of the batch in a model's batch norms inside a `with` block, with gradient, as training has them.

    \[\mu = \frac{N\mu_{\text{running}} + n\mu_{\text{batch}}}{N + n},\qquad
      \sigma^2 = \frac{N\sigma^2_{\text{running}} + n\sigma^2_{\text{batch}}}{N + n}\]

    for n rows. The running statistics do not change. A layer that sees one value a channel, which has no variance,
    uses the running ones.

    Args:
        model: its batch norms with running statistics are meant.
        prior_rows: N; 0 for the batch alone.

    Paper: Schneider et al., Improving robustness against common corruptions by covariate shift adaptation, NeurIPS
    2020.
    """
    norms = list(batch_norms(model).values())
    former = [norm.__dict__.get("forward") for norm in norms]
    try:
        for norm in norms:
            norm.forward = partial(_normalise, norm, prior_rows)  # type: ignore[method-assign]
        yield
    finally:
        for norm, forward in zip(norms, former, strict=True):
            if forward is None:
                norm.__dict__.pop("forward", None)
            else:
                norm.forward = forward  # type: ignore[method-assign]


def _normalise(norm: _BatchNorm, prior_rows: float, x: torch.Tensor) -> torch.Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.float(), norm.running_var.float()
    if x.numel() >= 2 * x.shape[1]:
        batch_variance, batch_mean = torch.var_mean(x.float(), dim=[0, *range(2, x.ndim)], correction=0)
        share = len(x) / (len(x) + prior_rows)
        mean, variance = mean.lerp(batch_mean, share), variance.lerp(batch_variance, share)
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = (variance + norm.eps).rsqrt()
    out = (x.float() - mean.view(shape)) * scale.view(shape)
    if norm.weight is not None:
        out = out * norm.weight.float().view(shape) + norm.bias.float().view(shape)
    return out.to(x.dtype)
