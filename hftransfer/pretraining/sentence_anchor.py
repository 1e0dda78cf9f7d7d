"""Sentence anchor: the mean of a text's hidden states stays near what the model made of it before training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..models.adapters import plain_model
from .plain_encoder import encoder_of
from .sentence_vectors import SentencePooling, row_vectors


class SentenceAnchor:
    r"""Distance of the means of hidden states from those of the model before training.

    \[
        L = \sum_i \left\lVert \frac{u_i}{\lVert u_i \rVert} - \frac{v_i}{\lVert v_i \rVert} \right\rVert^2
          = \sum_i 2\,(1 - \cos(u_i, v_i))
    \]

    for the mean \(u_i\) of row \(i\)'s last hidden states and that of the frozen model, \(v_i\), which reads the same
    masked row. It is 0 before the first step, dropout aside. What does not train is shared with the model.

    Args:
        model: an `AutoModelForMaskedLM` or an encoder as training begins, before an adapter is put on it.
        shares_all: nothing of the backbone will train (an adapter does).
        pooling: of a row's hidden states; the first one of each in place of the mean with `"cls"`.

    Raises:
        ValueError: the model has no backbone apart from its head.
    """

    def __init__(self, model: Any, shares_all: bool = False, pooling: SentencePooling = "mean"):
        backbone = encoder_of(model)
        if backbone is None:
            raise ValueError(
                f"sentence_anchor needs a model whose head stands apart from its backbone, which "
                f"{type(plain_model(model)).__name__} does not say. Leave it out."
            )
        self.pooling = pooling
        memo: dict[int, Any] = {id(p): p for p in backbone.parameters() if shares_all or not p.requires_grad}
        frozen = copy.deepcopy(backbone, memo).eval()
        for parameter in frozen.parameters():
            if id(parameter) not in memo:
                parameter.requires_grad_(False)
        self._frozen: tuple[nn.Module, ...] = (frozen,)  # no submodule: neither saved nor wrapped

    def __call__(
        self, inputs: dict[str, Any], hidden: torch.Tensor, segments: torch.Tensor, rows: int
    ) -> torch.Tensor:
        """Sum of the rows' distances.

        Args:
            inputs: of the model.
            hidden: (sequences, width, d) last hidden states of the model that trains.
            segments: (sequences, width) row of each position, -1 for padding.
            rows: how many there are.
        """
        (frozen,) = self._frozen
        frozen.to(hidden.device)
        with torch.no_grad():
            before = frozen(**inputs)[0]
        vectors = [row_vectors(states, segments, rows, self.pooling) for states in (hidden, before)]
        return anchor_distance(*vectors)


def anchor_distance(means: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Squared distance of unit vectors, summed over rows. Shapes: (n, d), (n, d) -> ().

    Example:
        >>> anchor_distance(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        tensor(2.)
    """
    units = [
        nn.functional.normalize(vectors.float() if vectors.dtype != torch.float64 else vectors, dim=-1)
        for vectors in (means, before)
    ]
    return (units[0] - units[1]).square().sum()
