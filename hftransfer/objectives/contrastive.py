"""Contrastive loss: a positive's share among candidates, in chunks of anchors."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint


def excluded_logit(x: torch.Tensor) -> float:
    """Logit of a candidate that does not count. Finite, so that a row without any candidate gives no NaN."""
    return torch.finfo(x.dtype).min / 2


def contrastive_loss(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    candidates: torch.Tensor,
    temperature: float,
    offsets: torch.Tensor | None = None,
    chunk: int = 0,
    skip_self: bool = False,
) -> torch.Tensor:
    r"""Contrastive loss of each anchor i, \(-\log\frac{\exp(z_i\cdot z_{p(i)}/\tau)}{\sum_a \exp(z_i\cdot z_a/\tau +
    o_a)}\).

    The mean over several positives is that of their mean vector: only the sum needs all pairs.

    Args:
        anchors, positives, candidates: (n, d), (n, d) and (m, d).
        temperature: τ.
        offsets: (m,) the logarithm of what a candidate counts; 0 for all if not given.
        chunk: so many anchors at a time, computed again in the backward pass, so that no more than chunk x m logits
            are alive at once; 0 takes all and keeps them.
        skip_self: candidate i is anchor i and left out.

    Shapes: -> (n,).
    """
    anchors = anchors / temperature
    if not chunk:
        return _block(anchors, positives, candidates, offsets, 0 if skip_self else None)
    blocks = [
        checkpoint(
            _block,
            *rows,
            candidates,
            offsets,
            chunk * i if skip_self else None,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing is drawn
        )
        for i, rows in enumerate(zip(anchors.split(chunk), positives.split(chunk), strict=True))
    ]
    return torch.cat(blocks)


def _block(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    candidates: torch.Tensor,
    offsets: torch.Tensor | None,
    diagonal: int | None,
) -> torch.Tensor:
    """Contrastive loss of one chunk of anchors. The first anchor's own candidate is number `diagonal`."""
    logits = anchors @ candidates.T if offsets is None else torch.addmm(offsets, anchors, candidates.T)
    logits = logits - (anchors * positives).sum(1, keepdim=True)
    if diagonal is not None:
        logits.diagonal(diagonal).fill_(-torch.inf)
    return logits.logsumexp(1)
