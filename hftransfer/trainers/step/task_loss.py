"""Task loss: the model's own loss over labelled rows, masked and weighted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ...ignored_label import IGNORE
from ...objectives.label_shift_weights import LabelShift


class TaskLoss(nn.Module):
    """Loss of the task on labelled rows; rows without a label are masked.

    Args:
        task: decides the loss: mean squared error, binary cross-entropy or cross-entropy.
        label_smoothing: of the cross-entropy.
        weight: what the task loss counts beside the objectives.
        source_weights: what a row of each source counts; nothing if all count 1.
        class_weights: what a source row of each class counts; nothing if all count 1.
        label_shift: estimates class weights, which the objectives are given as `source_weights`.
        weighs_classes: the rows of the task loss count by these class weights, too.
        weighs_rows: batches say what each source row counts.

    Example:
        >>> logits, labels = torch.zeros(3, 2), torch.tensor([0, 1, -100])
        >>> TaskLoss()(logits, labels, domain=torch.tensor([0, 0, -1]))  # log 2
        tensor(0.6931)
    """

    source_weights: torch.Tensor
    class_weights: torch.Tensor

    def __init__(
        self,
        task: str = "sequence-classification",
        label_smoothing: float = 0.0,
        weight: float = 1.0,
        source_weights: Sequence[float] = (),
        class_weights: Sequence[float] = (),
        label_shift: LabelShift | None = None,
        weighs_classes: bool = False,
        weighs_rows: bool = False,
    ):
        super().__init__()
        self.task, self.label_smoothing, self.weight = task, label_smoothing, weight
        self.label_shift, self.weighs_classes, self.weighs_rows = label_shift, weighs_classes, weighs_rows
        self.register_buffer("source_weights", torch.tensor(list(source_weights)), persistent=False)
        self.register_buffer("class_weights", torch.tensor(list(class_weights)), persistent=False)

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        domain: torch.Tensor,
        num_items: torch.Tensor | int | None = None,
        own_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Weighted sum over labelled items, divided by `num_items`, or by their number when that is `None`.

        `own_weights` (rows,) are what rows count of their own; a tagger's words count what their row does. Rows
        without a label are masked, not dropped: shapes stay static and nothing waits for the device.
        """
        if self.weighs_rows and own_weights is None:
            raise ValueError(
                "The source has weights of rows, and a training batch came without 'row_weights'. If a data_collator "
                "of yours makes batches, leave what `trainer.prepared.collator(rows)` returns under that name in them."
            )
        # A tagger's items are tokens.
        by_item = lambda x: x.view(-1, *[1] * (logits.ndim - 2)).expand(logits.shape[:-1])  # noqa: E731
        own_weights = None if own_weights is None else by_item(own_weights)
        weights = self.row_weights(labels, by_item(domain), self.weighs_classes, own_weights)
        logits = logits.float()
        if self.task in ("regression", "multi-label-classification"):
            total, count = self._vector_loss(logits, labels, weights)
        else:
            total, count = self._class_loss(logits, labels, weights)
        return total / (count.clamp_min(1) if num_items is None else num_items)

    def row_weights(
        self,
        labels: torch.Tensor,
        domain: torch.Tensor,
        classes: bool = True,
        own_weights: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Weights of rows, in the shape of `domain`: by source, by class and, with `classes`, by label shift.

        They multiply, and their own with them. Target rows count 1. `None` if all rows do.
        """
        weights = own_weights
        if len(self.source_weights):
            by_source = self.source_weights[domain]
            weights = by_source if weights is None else weights * by_source
        if len(self.class_weights):
            by_class = self.class_weights[labels.clamp_min(0)]
            weights = by_class if weights is None else weights * by_class
        if classes and self.label_shift is not None:
            class_weights = self.label_shift.of(labels)
            weights = class_weights if weights is None else weights * class_weights
        return weights if weights is None else torch.where(domain >= 0, weights, 1.0)

    def _vector_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over rows and number of labelled rows, where a label is a number or one a class."""
        labels = labels.view(len(labels), -1)
        is_labelled = ~torch.isnan(labels).any(1)
        filled = torch.where(is_labelled.unsqueeze(1), labels, 0.0)
        logits = logits.view(len(labels), -1)
        loss = (
            F.mse_loss(logits, filled, reduction="none")
            if self.task == "regression"
            else F.binary_cross_entropy_with_logits(logits, filled, reduction="none")
        )
        return (loss.mean(1) * (is_labelled if weights is None else is_labelled * weights)).sum(), is_labelled.sum()

    def _class_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over items and number of labelled items, where a label is a class."""
        total = F.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            ignore_index=IGNORE,
            reduction="sum" if weights is None else "none",
            label_smoothing=self.label_smoothing,
        )
        return total if weights is None else (total * weights.flatten()).sum(), (labels != IGNORE).sum()
