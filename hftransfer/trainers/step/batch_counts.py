"""Batch counts: labels, predictions and discriminators' answers in training, read from the device once a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...data.text_encoder import WORD_MASK
from ...ignored_label import IGNORE
from ...objectives.moments import class_membership

if TYPE_CHECKING:
    from accelerate.accelerator import Accelerator


@dataclass(frozen=True)
class Counts:
    """Counts of some batches, of all processes; sums of two are `+`.

    Args:
        values: (4 K + 1 + 2 · objectives,) as `BatchCounts` lays them out.
        classes: K.
        objectives: names of those whose discriminators are counted.

    Example:
        >>> counts = Counts(np.array([3.0, 1, 2, 2, 0, 4, 0.5, 3.5, 3]), classes=2)
        >>> counts.source_labels, counts.target_predicted, counts.source_accuracy
        (array([3., 1.]), array([0., 4.]), 0.75)
    """

    values: np.ndarray
    classes: int
    objectives: tuple[str, ...] = ()

    @classmethod
    def none(cls, classes: int, objectives: tuple[str, ...] = ()) -> Counts:
        """Counts of no batch."""
        return cls(np.zeros(4 * classes + 1 + 2 * len(objectives)), classes, objectives)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.values + other.values, self.classes, self.objectives)

    def _block(self, number: int) -> np.ndarray:
        return self.values[number * self.classes : (number + 1) * self.classes]

    @property
    def source_labels(self) -> np.ndarray:
        """(K,) source items by label."""
        return self._block(0)

    @property
    def source_predicted(self) -> np.ndarray:
        """(K,) the same items by the class that the model names."""
        return self._block(1)

    @property
    def target_predicted(self) -> np.ndarray:
        """(K,) target items by the class that the model names."""
        return self._block(2)

    @property
    def target_probability(self) -> np.ndarray:
        """(K,) sum of the predictions on target items."""
        return self._block(3)

    @property
    def source_accuracy(self) -> float:
        """Share of source items that the model names right; 0 without one."""
        return float(self.values[4 * self.classes] / max(self.source_labels.sum(), 1))

    def discriminator_accuracy(self, objective: str) -> float | None:
        """Mean accuracy of an objective's discriminator; `None` if it has none or was not asked."""
        start = 4 * self.classes + 1 + 2 * self.objectives.index(objective)
        total, batches = self.values[start : start + 2]
        return float(total / batches) if batches else None


class BatchCounts:
    """Sums over training batches on the device; nothing waits for it until `take`.

    An item is a row, or a word in tagging.

    Args:
        accelerator: adds up the processes' sums.
        classes: K.
        objectives: names of those whose discriminators are counted.
    """

    def __init__(self, accelerator: Accelerator, classes: int, objectives: Sequence[str] = ()):
        self.accelerator, self.classes, self.objectives = accelerator, classes, tuple(objectives)
        self.sums: torch.Tensor | None = None

    @torch.no_grad()
    def add(
        self,
        logits: torch.Tensor,
        inputs: Mapping[str, Any],
        domain_accuracies: Mapping[str, torch.Tensor | None] | None = None,
    ) -> None:
        """One training batch more, of this process.

        Args:
            logits: (rows, K), or (rows, tokens, K), source rows first.
            inputs: of `JointModel.forward`.
            domain_accuracies: () by objective, of its discriminator on this batch; `None` where there is none.
        """
        labels = inputs["labels"]
        num_source = inputs.get("num_source")
        n = len(logits) if num_source is None else int(num_source)
        predicted = logits.argmax(-1)
        labelled = labels[:n] != IGNORE
        source_labels, source_predicted = (x[:n].masked_fill(~labelled, IGNORE) for x in (labels, predicted))
        probability, target_predicted = logits[n:].float().softmax(-1), predicted[n:]
        if logits.ndim == 3:
            word_mask = inputs.get(WORD_MASK)
            is_word = torch.zeros_like(target_predicted) if word_mask is None else word_mask[n : len(logits)]
            target_predicted = target_predicted.masked_fill(is_word == 0, IGNORE)
            probability = probability * is_word.unsqueeze(-1)
        sums = [self._histogram(x) for x in (source_labels, source_predicted, target_predicted)]
        sums.append(probability.reshape(-1, self.classes).sum(0))
        sums.append((labelled & (source_predicted == labels[:n])).sum().float().unsqueeze(0))
        for name in self.objectives:
            accuracy = (domain_accuracies or {}).get(name)
            counted = sums[0].new_zeros(2) if accuracy is None else torch.stack([accuracy, accuracy.new_ones(())])
            sums.append(counted.float())
        total = torch.cat(sums)
        self.sums = total if self.sums is None else self.sums + total

    def take(self) -> Counts:
        """Sums since the last call, of all processes; every process must ask."""
        none = Counts.none(self.classes, self.objectives)
        if self.sums is None:
            return none
        sums, self.sums = self.sums, None
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums, "sum")
        return Counts(sums.double().cpu().numpy(), self.classes, self.objectives)

    def _histogram(self, ids: torch.Tensor) -> torch.Tensor:
        return class_membership(ids.flatten(), self.classes).sum(0).float()
