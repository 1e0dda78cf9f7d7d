"""CLIP and SigLIP losses of image-text pairs: on the pairs of all processes, in chunks."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from .contrastive import contrastive_loss
from .gathered_rows import gather_rows


def clip_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    groups: torch.Tensor | None = None,
    chunk: int = 0,
) -> torch.Tensor:
    r"""CLIP loss: each image's text among all texts, and each text's image among all images.

    \[L = \frac{1}{2n} \sum_i \Big(-\log\frac{e^{s\,u_i\cdot v_i}}{\sum_j e^{s\,u_i\cdot v_j}}
        -\log\frac{e^{s\,v_i\cdot u_i}}{\sum_j e^{s\,v_i\cdot u_j}}\Big)\]

    With `groups`, all texts of an image's group are its positives, in equal shares (UniCL): where captions are class
    names, a batch holds a name many times, and the plain loss would push equal texts away.

    Args:
        images, texts: (n, d) of this process, of length 1; row i of both is a pair.
        scale: \(s\), the inverse temperature.
        groups: (n,) integers; every pair is a group of its own when `None`.
        chunk: so many anchors at a time, computed again in the backward pass: chunk x (pairs of all processes) logits
            are alive at once, so memory is linear in the batch. 0 keeps all logits.

    Under several processes each returns its share: their mean, which DDP's average of gradients takes, is the loss of
    the batch of all. All must bring the same number of pairs.

    Shapes: -> ().

    Papers: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021; Yang et
    al., Unified Contrastive Learning in Image-Text-Label Space, CVPR 2022.

    Example:
        >>> pairs = torch.eye(2)
        >>> clip_loss(pairs, pairs, scale=1.0)  # log(1 + 1 / e)
        tensor(0.3133)
    """
    all_images, all_texts = gather_rows(images), gather_rows(texts)
    own_texts, own_images = texts, images
    if groups is not None:
        values, number = torch.unique(gather_rows(groups), return_inverse=True)
        own = torch.searchsorted(values, groups)
        own_texts, own_images = _means(all_texts, number)[own], _means(all_images, number)[own]
    of_images = contrastive_loss(images * scale, own_texts, all_texts, 1.0, chunk=chunk)
    of_texts = contrastive_loss(texts * scale, own_images, all_images, 1.0, chunk=chunk)
    return (of_images.mean() + of_texts.mean()) / 2


def siglip_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    bias: torch.Tensor | float,
    groups: torch.Tensor | None = None,
    chunk: int = 0,
) -> torch.Tensor:
    r"""SigLIP loss: of every image and every text, whether they belong together.

    \[L = -\frac1n \sum_i \sum_j \log\sigma\big(z_{ij}\,(s\,u_i\cdot v_j + b)\big)\]

    with \(z_{ij} = 1\) for pairs, or rows of one group, and -1 for others.

    Args:
        images, texts, scale, groups, chunk: as in `clip_loss`.
        bias: \(b\).

    Under several processes each returns its share, as in `clip_loss`.

    Shapes: -> ().

    Paper: Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023.

    Example:
        >>> pairs = torch.eye(2)
        >>> siglip_loss(pairs, pairs, scale=1.0, bias=0.0)  # log(1 + 1 / e) + log(2)
        tensor(1.0064)
    """
    all_texts = gather_rows(texts)
    if groups is None:
        first = torch.distributed.get_rank() * len(images) if len(all_texts) > len(texts) else 0
        groups, all_groups = (
            torch.arange(first, first + len(images), device=images.device),
            torch.arange(len(all_texts), device=images.device),
        )
    else:
        all_groups = gather_rows(groups)
    anchors = images * scale
    if not chunk:
        return _sigmoid_block(anchors, groups, all_texts, all_groups, bias).mean()
    blocks = [
        checkpoint(
            _sigmoid_block,
            *rows,
            all_texts,
            all_groups,
            bias,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing is drawn
        )
        for rows in zip(anchors.split(chunk), groups.split(chunk), strict=True)
    ]
    return torch.cat(blocks).mean()


def _sigmoid_block(
    anchors: torch.Tensor,
    groups: torch.Tensor,
    texts: torch.Tensor,
    text_groups: torch.Tensor,
    bias: torch.Tensor | float,
) -> torch.Tensor:
    """Sum over all texts, of one chunk of anchors."""
    logits = anchors @ texts.T + bias
    belong = groups[:, None] == text_groups
    return softplus(torch.where(belong, -logits, logits)).sum(1)


def _means(rows: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Mean of the rows of each number from 0."""
    count = torch.bincount(number)
    return rows.new_zeros(len(count), rows.shape[1]).index_add(0, number, rows) / count[:, None]
