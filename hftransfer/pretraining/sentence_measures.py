"""Alignment and uniformity of sentence vectors (Wang and Isola 2020), summed over batches of held-out texts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .sentence_contrast import two_reading_loss

CONTRAST_SUMS = 5  # numbers that `contrast_sums` gives


def contrast_sums(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Sums over a batch from which `contrast_scores` makes means, in float64. Shapes: (n, d), (n, d) -> (5,).

    The contrast of each text, \(\lVert u_i - v_i \rVert^2\), the number of texts, \(e^{-2 \lVert u_i - u_j
    \rVert^2}\) of each pair of different texts, the number of pairs; \(u\) and \(v\) are unit vectors.
    A text alone counts nowhere.

    Args:
        first, second: two readings of the same texts.
        temperature: of the contrast.
    """
    loss = two_reading_loss(first.double(), second.double(), temperature)
    u, v = (F.normalize(x.double(), dim=-1) for x in (first, second))
    rows = len(u)
    if rows < 2:
        return u.new_zeros(CONTRAST_SUMS)
    apart = torch.pdist(u).square()
    counts = u.new_tensor([rows, rows * (rows - 1) / 2])
    aligned = (u - v).square().sum()
    return torch.stack([loss * rows, aligned, counts[0], torch.exp(-2 * apart).sum(), counts[1]])


def contrast_scores(sums: torch.Tensor) -> dict[str, float]:
    r"""Contrast, alignment and uniformity from the sums of all batches.

    \[
        \text{alignment} = \frac1n \sum_i \lVert u_i - v_i \rVert^2, \qquad
        \text{uniformity} = \log \frac1m \sum_{i<j} e^{-2 \lVert u_i - u_j \rVert^2}
    \]

    Both are better when lower: readings of a text near each other, and texts spread over the sphere. The contrast is
    among the texts of a batch, and so are the pairs.

    Args:
        sums: (5,) from `contrast_sums`.

    Example:
        >>> sums = contrast_sums(torch.eye(2), torch.eye(2), 0.05)
        >>> {name: round(value, 2) for name, value in contrast_scores(sums).items()}
        {'sentence_contrast': 0.0, 'alignment': 0.0, 'uniformity': -4.0}

    Paper: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, ICML 2020.
    """
    loss, aligned, rows, together, pairs = sums.tolist()
    uniformity = math.log(together / pairs)
    return {"sentence_contrast": loss / rows, "alignment": aligned / rows, "uniformity": uniformity}
