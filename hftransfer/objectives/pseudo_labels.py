"""Pseudo-labels of target rows: predicted classes of which the model is sure, by a threshold that follows its
confidence on the source or, without source rows, on the target itself, for every class alike or by how far it is
learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from ..ignored_label import IGNORE
from ..settings import read_choice
from .moments import class_membership, mean

Reference = Literal["source", "target"]
RELATIVE: dict[Reference, float] = {"source": 0.9, "target": 1.0}  # the relative threshold where none is given
DECAY = 0.99  # of running shares: what a batch counts after the next one
LEAST_SCALE = 0.5  # of a class's threshold beside that of all


class RunningMean(nn.Module):
    """Running mean of rows of numbers over batches, kept in buffers: the latest batches count most, all rows of one
    batch alike.

    Args:
        width: numbers of a row.
        decay: what a batch counts after the next one.

    Example:
        >>> running = RunningMean(2, decay=0.5)
        >>> running(torch.tensor([[1.0, 0.0]])), running(torch.tensor([[0.0, 0.0]]))
        (tensor([1., 0.]), tensor([0.3333, 0.0000]))
    """

    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, width: int, decay: float = DECAY):
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(width))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, rows: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Mean with these rows, (n, width) and their (n,) weights -> (width,); 0 without any row that counts."""
        rows, weights = rows.detach(), rows.new_ones(len(rows)) if weights is None else weights.detach()
        self.total.mul_(self.decay).add_(weights @ rows)
        self.count.mul_(self.decay).add_(weights.sum())
        return self.total / self.count.clamp_min(torch.finfo(rows.dtype).tiny)


class PseudoLabels(nn.Module):
    r"""Pseudo-labels of target rows by a threshold of confidence.

    A row's label is its likeliest class if that has at least the probability

    \[\tau\,\frac{\sum_i w_i \max_k p^S_{ik}}{\sum_i w_i}\]

    where \(p^S\) are predictions on the labelled source rows of the batch, of all processes, and w their weights. A
    model that is as sure of the target as of the source has labels for most rows, however high or low the numbers are.
    Without a labelled source row the source counts as certain: τ. `threshold` sets a fixed bar instead.

    With `relative_to="target"` the bar is \(\tau\,\bar c^T\), with \(\bar c^T\) the running mean of
    \(\max_k p^T_{ik}\) over the target rows themselves: FreeMatch's self-adaptive threshold, where τ is 1. No source
    row is read, and a model that is sure of nothing labels the rows that it is surest of.

    With `per_class` a class k whose rows pass less often than those of the class that passes most has a lower bar:

    \[c_k = c\,\max\Big(\tfrac12,\ \frac{\beta_k}{2-\beta_k}\Big),\qquad
      \beta_k = \frac{\sigma_k}{\max(\max_l \sigma_l,\ 1-\sum_l\sigma_l)}\]

    with \(\sigma_k\) the running share of target rows that pass the bar c of all classes and are of class k. The paper
    counts rows of the whole data set and has no least scale; here batches count, the latest most, and no class's bar
    falls below half.

    Args:
        num_classes: width of the logits; only `per_class` needs it.
        threshold: a fixed probability; relative to the source when `None`.
        relative_threshold: τ; when both are `None` 0.9, and 1 relative to the target.
        per_class: scale the bar by class.
        relative_to: `"source"` or `"target"`.

    Shapes: (m, K), (n, K), (n,), (n,) -> (m,), -100 where a row has no label. No gradient.

    Paper: Berthelot et al., AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation, ICLR 2022;
    by class: Zhang et al., FlexMatch, NeurIPS 2021; relative to the target: Wang et al., FreeMatch, ICLR 2023.

    Example:
        >>> labels = PseudoLabels(relative_threshold=0.9)
        >>> source, target = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.75, 0.25], [0.4, 0.6]]).log()
        >>> labels(target, source)
        tensor([   0, -100])
    """

    def __init__(
        self,
        num_classes: int | None = None,
        threshold: float | None = None,
        relative_threshold: float | None = None,
        per_class: bool = False,
        relative_to: Reference = "source",
    ):
        super().__init__()
        read_choice("relative_to", relative_to, Reference)
        for name, value in (("threshold", threshold), ("relative_threshold", relative_threshold)):
            if value is not None:
                check_probability(name, value)
        if threshold is not None and relative_threshold is not None:
            raise ValueError(
                f"threshold={threshold} is a fixed bar and relative_threshold={relative_threshold} one that follows "
                f"the confidence on the {relative_to}. Give one of them."
            )
        if not isinstance(per_class, bool):
            raise ValueError(f"per_class={per_class!r} must be true or false.")
        if per_class and num_classes is None:
            raise ValueError("per_class=True needs num_classes, the width of the logits.")
        self.threshold = threshold
        self.relative_threshold = RELATIVE[relative_to] if relative_threshold is None else relative_threshold
        self.own_confidence = RunningMean(1) if threshold is None and relative_to == "target" else None
        self.passing = RunningMean(num_classes) if per_class and num_classes is not None else None

    def forward(
        self,
        target_logits: torch.Tensor,
        source_logits: torch.Tensor | None = None,
        source_labels: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        confidence, predicted = target_logits.detach().softmax(-1).max(-1)
        if self.own_confidence is None:
            bar = self.bar(source_logits, source_labels, source_weights)
        else:
            bar = self.relative_threshold * self.own_confidence(confidence.unsqueeze(1))
        if self.passing is None:
            return torch.where(confidence >= bar, predicted, IGNORE)
        passed = class_membership(predicted, target_logits.shape[1]) & (confidence >= bar).unsqueeze(1)
        scales = class_scales(self.passing(passed.to(confidence.dtype)))
        return torch.where(confidence >= bar * scales[predicted], predicted, IGNORE)

    def bar(
        self,
        source_logits: torch.Tensor | None,
        source_labels: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor | float:
        """() least probability of a pseudo-label, fixed or relative to the source, before it is scaled by class.

        Raises:
            ValueError: the bar is relative, and there are no predictions on the source.
        """
        if self.threshold is not None:
            return self.threshold
        if source_logits is None:
            raise ValueError("A threshold relative to the source needs source_logits; give a fixed threshold instead.")
        confidence = source_logits.detach().softmax(-1).amax(-1)
        weights = torch.ones_like(confidence) if source_weights is None else source_weights.detach()
        if source_labels is not None:
            weights = weights * (source_labels >= 0)
        return self.relative_threshold * torch.where(weights.sum() > 0, mean(confidence, weights), 1.0)


def class_scales(passing: torch.Tensor) -> torch.Tensor:
    """Scales of the classes' thresholds, (K,) shares of rows that pass -> (K,) from 1/2 to 1."""
    learnt = passing / torch.maximum(passing.amax(), 1 - passing.sum()).clamp_min(torch.finfo(passing.dtype).tiny)
    return (learnt / (2 - learnt)).clamp_min(LEAST_SCALE)


def without_source_logits(settings: Mapping[str, Any], reads: dict[str, str]) -> dict[str, str]:
    """What an objective reads, without predictions on the source where its threshold is fixed or relative to the
    target: they are not gathered for nothing."""
    if settings.get("threshold") is None and settings.get("relative_to") != "target":
        return reads
    return {argument: name for argument, name in reads.items() if name != "source_logits"}


def without_relative_threshold(settings: Mapping[str, Any], search: dict[str, Any]) -> dict[str, Any]:
    """Search ranges, without those of the relative threshold where the threshold is fixed."""
    fixed = settings.get("threshold") is not None
    return {name: values for name, values in search.items() if not (fixed and name == "relative_threshold")}


def check_probability(name: str, value: Any) -> None:
    """Check that a setting is a probability. Raises a `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r} must be between 0 and 1.")
