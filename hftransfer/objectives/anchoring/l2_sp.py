"""L2-SP: weights kept near their initial values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch

from ...settings import read_choice
from ..base import Objective, Range, TrainedWeight

Head = Literal["decay", "start"]


class L2SP(Objective):
    r"""L2-SP: squared distance of the weights from their initial values, and of a new head from 0.

    \[\frac\alpha2 \lVert w_S - w_S^0 \rVert^2 + \frac\beta2 \lVert w_{\bar S} \rVert^2\]

    \(w_S\) are the backbone's weights that move and \(w_S^0\) what they were before training; \(w_{\bar S}\) are the
    weights that had no start worth keeping: the head's, and those that the checkpoint lacked. With `head="start"` the
    head counts to \(w_S\): right for a model whose head was trained on the same classes.

    Of a LoRA layer, what moves is \(\Delta W = s B A\), and the distance is \(\lVert \Delta W - \Delta W^0 \rVert^2\)
    in the space of the weights, from the factors' Gram matrices: no weight-sized matrix is made.

    It takes the place of weight decay, which pulls to 0: with it, set `weight_decay` to 0.

    Args:
        alpha: of the distance.
        beta: of the head.
        head: `"decay"` draws it to 0, `"start"` to where it was.

    Shapes: a list of `TrainedWeight` -> ().

    Paper: Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML
    2018.
    """

    paper = "Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning, ICML 2018"
    search: ClassVar = {
        "weight": Range(0.01, 100.0, log=True),
        "alpha": Range(1e-4, 1.0, log=True),
        "beta": Range(1e-4, 1.0, log=True),
        "head": ("decay", "start"),
    }

    def __init__(self, alpha: float = 0.01, beta: float = 0.01, head: Head = "decay"):
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be a number of at least 0.")
        read_choice("head", head, Head)
        self.alpha, self.beta, self.head = alpha, beta, head

    def forward(self, trained_weights: list[TrainedWeight]) -> torch.Tensor:
        kept_near_start = [w for w in trained_weights if self.head == "start" or not w.fresh]
        drawn_to_zero = [w for w in trained_weights if self.head == "decay" and w.fresh]
        distance = _sum(w.squared_distance() for w in kept_near_start)
        return 0.5 * (self.alpha * distance + self.beta * _sum(w.squared_norm() for w in drawn_to_zero))


def _sum(values: Iterable[torch.Tensor]) -> Any:
    terms = list(values)
    return torch.stack(terms).sum() if terms else 0.0
