"""DELTA: feature maps of the layers kept near those of the initial model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..base import LayerPair, Objective, Range, TeacherFacts, check_count, is_positive
from .row_selection import setting_or_default
from .teacher_head import check_single_teacher

RIDGE = 1e-3  # on the weights of the classifiers that tell channels' worth; features are standardised


class Delta(Objective):
    r"""DELTA: distance of the layers' feature maps from the initial model's, on the same rows.

    With \(F^l_{ipc}\) layer l's output for row i at position p (token or pixel) in channel c, and \(F^{0,l}\) that of
    the start model, without gradient,

    \[\frac1{2r}\sum_i\sum_l\operatorname{mean}_p\sum_c a^l_c\,\big(F^l_{ipc} - F^{0,l}_{ipc}\big)^2,\]

    over positions that are no padding. Plain: a = 1. With `attention`, channels that the task can do without may move:

    \[a^l = C_l\,\mathrm{softmax}\Big(\frac{\Delta^l}{T\,\mathrm{sd}(\Delta^l)}\Big),\]

    where \(\Delta^l_c\) is by how much the loss of a linear classifier of the labels rises when channel c of the start
    model's layer is replaced by its mean. It is fitted on labelled rows, averaged over positions, once before
    training: no forward is added to a step. The paper removes each filter from the network instead, one forward over
    the data a filter, and takes \(\mathrm{softmax}(\Delta/5)\); dividing by the spread makes T mean the same for every
    layer.

    What the paper adds for a new head, \(\beta\lVert w\rVert^2\), is `l2_sp` with `alpha` 0.

    Args:
        teachers: of the run: the start model, or another of the same shape.
        layers: how many layers of the stack, evenly spaced, the last among them; 0 takes all.
        attention: weigh channels.
        temperature: T.

    Shapes: a list of `LayerPair` -> ().

    Paper: Li et al., DELTA: Deep Learning Transfer using Feature Map with Attention, ICLR 2019.
    """

    importance: torch.Tensor
    paper = "Li et al., DELTA: Deep Learning Transfer using Feature Map with Attention, ICLR 2019"
    search: ClassVar = {
        "weight": Range(1e-4, 1.0, log=True),
        "layers": (0, 1, 4),
        "attention": (False, True),
        "temperature": (0.5, 1.0, 2.0),
    }

    def __init__(
        self,
        teachers: Sequence[TeacherFacts] = (),
        layers: int = 4,
        attention: bool = False,
        temperature: float = 1.0,
    ):
        super().__init__()
        check_count("layers", layers, least=0)
        if not isinstance(attention, bool):
            raise ValueError(f"attention={attention!r} must be true or false.")
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_single_teacher(teachers, "delta")
        self.temperature = temperature
        widths = teachers[0].layer_widths if teachers and attention else ()
        self.widths = [widths[i] for i in self.layer_indices({"layers": layers}, len(widths))] if widths else []
        self.register_buffer("importance", torch.ones(sum(self.widths)))

    @classmethod
    def fit_inputs(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return super().fit_inputs(settings) if setting_or_default(cls, settings, "attention") is True else ()

    @classmethod
    def layer_indices(cls, settings: Mapping[str, Any], total: int) -> list[int]:
        """Evenly spaced layers, the last among them."""
        count = setting_or_default(cls, settings, "layers")
        check_count("layers", count, least=0)
        k = min(count or total, total)
        return [(i + 1) * total // k - 1 for i in range(k)]

    def fit(self, teacher_layers: list[torch.Tensor], labels: torch.Tensor) -> None:
        """Weights of the channels, fitted to the labels."""
        self.importance.copy_(torch.cat([channel_importance(x, labels, self.temperature) for x in teacher_layers]))

    def forward(self, layer_pairs: list[LayerPair]) -> torch.Tensor:
        weights = self.importance.split(self.widths) if self.widths else [None] * len(layer_pairs)
        total = torch.stack([self._of(pair, a) for pair, a in zip(layer_pairs, weights, strict=True)]).sum()
        return 0.5 * total

    def _of(self, pair: LayerPair, importance: torch.Tensor | None) -> torch.Tensor:
        squared = (pair.current - pair.teacher).square()
        per_position = squared.sum(2) if importance is None else squared @ importance
        return (per_position * pair.share).sum(1).mean()


def channel_importance(x: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Importance of channels, (rows, channels), (rows,) -> (channels,) weights with mean 1; rows with a label below 0
    do not count."""
    x, y = x[labels >= 0].double().cpu(), labels[labels >= 0].cpu()
    z = (x - x.mean(0)) / x.std(0).clamp_min(1e-12)
    classes = int(y.max()) + 1
    w = torch.zeros(z.shape[1], classes, dtype=z.dtype, requires_grad=True)
    b = torch.zeros(classes, dtype=z.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(z @ w + b, y) + RIDGE * w.square().sum()
            loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        logits = z @ w + b
        loss_of_all = F.cross_entropy(logits, y)
        rises = [F.cross_entropy(logits - z[:, c : c + 1] * w[c], y) - loss_of_all for c in range(z.shape[1])]
        rise = torch.stack(rises)
        deviation = rise.std(unbiased=False).clamp_min(1e-12)
        return (len(rise) * (rise / (temperature * deviation)).softmax(0)).float()
