"""FixMatch: pseudo-labels of one view of the target rows are learnt on another, stronger view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from ..base import Objective, Range
from ..moments import mean
from ..pseudo_labels import (
    PseudoLabels,
    Reference,
    RunningMean,
    without_relative_threshold,
    without_source_logits,
)
from ..second_view import SecondView, View


class FixMatch(Objective):
    r"""Weak-to-strong consistency (FixMatch): the class that the model sees in a target row is learnt on a stronger
    view of the row.

    \[-\frac1m\sum_i \mathbb 1[\hat y_i \text{ is sure}]\,\log p_{\hat y_i}(\text{strong view of row } i),\qquad
      \hat y_i = \arg\max_k \tilde q_{ik}\]

    where q is the prediction on the weak view, which is the row in the joint batch, without gradient. A row that is
    not sure counts 0 and stays in m. `PseudoLabels` says what is sure: nearly as likely as classes of source rows are,
    as in AdaMatch, or as target rows have been of late, as in FreeMatch, or more than a fixed `threshold`, as in
    FixMatch; with `per_class` the bar is lower for classes that are learnt late, as in FlexMatch.

    With `distribution_alignment` predictions are corrected for what the model favours,

    \[\tilde q_{ik} \propto q_{ik}\,\frac{\bar p^S_k}{\bar q_k}\]

    with \(\bar p^S, \bar q\) the running mean predictions on source rows, weighted, and on target rows. It makes the
    target's classes as frequent as the source's: use it where they are, or with `label_shift`, whose weights turn the
    source's frequencies into the target's. Without it \(\tilde q = q\).

    The strong view is another dropout mask and a span of tokens hidden from attention (texts), strong augmentation
    (pictures), or what your function makes of the model inputs; see `SecondView`.

    Args:
        num_classes: width of the logits.
        relative_threshold: least probability of a pseudo-label as a share of the mean confidence on source rows; 0.9
            when both are `None`. Relative to the target, of the running mean confidence on target rows; 1.
        threshold: a fixed least probability instead.
        per_class: lower the bar of classes whose rows seldom pass it.
        distribution_alignment: correct predictions for the classes that the model favours.
        view, cutoff, function: of the strong view; see `SecondView`.
        relative_to: `"source"` or `"target"`; when `None` the source, or the target in a run without one.

    Shapes: (m, K), (m, K), (n, K), (n,), (n,) -> ().

    Paper: Sohn et al., FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, NeurIPS 2020;
    Zhang et al., FlexMatch, NeurIPS 2021; relative thresholds and alignment across domains: Berthelot et al.,
    AdaMatch, ICLR 2022; relative to the target: Wang et al., FreeMatch, ICLR 2023; hidden spans: Shen et al., A Simple
    but Tough-to-Beat Data Augmentation Approach for Natural Language Understanding and Generation (Cutoff), 2020.

    Example:
        >>> weak, strong = torch.tensor([[3.0, 0.0], [0.1, 0.0]]), torch.zeros(2, 2)
        >>> FixMatch(2, threshold=0.9)(weak, strong)
        tensor(0.3466)
    """

    paper = "Sohn et al., FixMatch: Simplifying Semi-Supervised Learning, NeurIPS 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    imports = ("function",)
    search: ClassVar = {
        "weight": Range(0.01, 1.0, log=True),
        "relative_threshold": (None, 0.7, 0.8, 1.0),
        "per_class": (False, True),
    }

    def __init__(
        self,
        num_classes: int,
        relative_threshold: float | None = None,
        threshold: float | None = None,
        per_class: bool = False,
        distribution_alignment: bool = False,
        view: View = "strong",
        cutoff: float | None = None,
        function: Any = None,
        relative_to: Reference | None = None,
    ):
        super().__init__()
        SecondView(view, cutoff, function)
        if threshold is not None and relative_to is not None:
            raise ValueError(
                f"threshold={threshold} is a fixed bar, which is relative to nothing: leave relative_to="
                f"{relative_to!r} out, or give relative_threshold instead."
            )
        if not isinstance(distribution_alignment, bool):
            raise ValueError(f"distribution_alignment={distribution_alignment!r} must be true or false.")
        self.pseudo_labels = PseudoLabels(
            num_classes, threshold, relative_threshold, per_class, "source" if relative_to is None else relative_to
        )
        self.source_mean = RunningMean(num_classes) if distribution_alignment else None
        self.target_mean = RunningMean(num_classes) if distribution_alignment else None

    @classmethod
    def second_view(cls, settings: Mapping[str, Any]) -> SecondView:
        return SecondView.from_settings(settings)

    @classmethod
    def search_ranges(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return without_relative_threshold(settings, super().search_ranges(settings))

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        reads = super().reads(settings)
        if settings.get("distribution_alignment"):
            return reads
        reads = without_source_logits(settings, reads)
        return reads if "source_logits" in reads else {k: v for k, v in reads.items() if not k.startswith("source_")}

    @classmethod
    def without_source(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        is_open = settings.get("threshold") is None and settings.get("relative_to") is None
        return {**settings, "relative_to": "target"} if is_open else dict(settings)

    def forward(
        self,
        target_logits: torch.Tensor,
        target_view_logits: torch.Tensor,
        source_logits: torch.Tensor | None = None,
        source_labels: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        weak = target_logits.detach()
        if self.source_mean is not None and self.target_mean is not None:
            weak = self._aligned(
                weak, self.source_mean, self.target_mean, source_logits, source_labels, source_weights
            )
        pseudo = self.pseudo_labels(weak, source_logits, source_labels, source_weights)
        log_p = target_view_logits.log_softmax(-1)
        values = -log_p.gather(1, pseudo.clamp_min(0).unsqueeze(1)).squeeze(1)
        return mean(torch.where(pseudo >= 0, values, 0))

    @staticmethod
    def _aligned(
        weak: torch.Tensor,
        source_mean: RunningMean,
        target_mean: RunningMean,
        source_logits: torch.Tensor | None,
        source_labels: torch.Tensor | None,
        source_weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Log-probabilities, up to a constant a row, with the classes' means moved to the source's."""
        if source_logits is None:
            raise ValueError("distribution_alignment needs source_logits, the predictions on source rows.")
        weights = source_logits.new_ones(len(source_logits)) if source_weights is None else source_weights
        if source_labels is not None:
            weights = weights * (source_labels >= 0)
        frequent = source_mean(source_logits.detach().softmax(-1), weights)
        favoured = target_mean(weak.softmax(-1))
        tiny = torch.finfo(weak.dtype).tiny
        shift = frequent.clamp_min(tiny).log() - favoured.clamp_min(tiny).log()
        return weak.log_softmax(-1) + torch.where(source_mean.count > 0, shift, 0)
