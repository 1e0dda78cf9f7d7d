"""Inputs of objectives: the rows of all processes by argument name, in fp32, gathered once each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ...objectives.base import MaskedForward, PerturbedForward
from ...objectives.gathered_rows import gather_rows, num_processes
from ..batch_rows import BatchRows
from ..teachers.teacher import TeacherOutputs
from .ungathered_inputs import ReferenceInputs

TOKENS_PER_ROW = 8  # words of a sentence that take part in a tagger's objectives: the same number for every row


@dataclass(frozen=True)
class BatchOutputs:
    """Outputs of a joint batch.

    Args:
        rows: which are the source's and which the target's.
        features: (rows, d) by feature layer; (rows, tokens, d) in tagging.
        logits, labels, domain: of all rows, second views included in `logits` only.
        teachers: each teacher's outputs on the rows of `teacher_domains`.
        teacher_domains: `"all"`, `"source"` or `"target"`.
        soft_labels: (rows, K), 0 on source rows; `None` where the target has none.
        row_weights: (rows,) what source rows count of their own; `None` where they have no weights.
    """

    rows: BatchRows
    features: Mapping[str, torch.Tensor]
    logits: torch.Tensor
    labels: torch.Tensor
    domain: torch.Tensor
    teachers: Sequence[TeacherOutputs] = ()
    teacher_domains: str = "all"
    soft_labels: torch.Tensor | None = None
    row_weights: torch.Tensor | None = None

    def words(self, word_mask: torch.Tensor) -> BatchOutputs:
        """Outputs with words as rows, for tagging."""
        masks = torch.cat([word_mask, word_mask[self.rows.num_source :]])
        pick = lambda x: pick_words(x, masks[: len(x)])  # noqa: E731
        teacher_mask = word_mask[self.rows.of(self.teacher_domains)]
        spread = lambda x: x.unsqueeze(1).expand(-1, TOKENS_PER_ROW).flatten()  # noqa: E731
        pick_own = lambda x, own_mask: pick_words(x, teacher_mask, own_mask)  # noqa: E731
        return replace(
            self,
            rows=BatchRows(self.rows.num_source * TOKENS_PER_ROW, self.rows.total * TOKENS_PER_ROW),
            features={layer: pick(x) for layer, x in self.features.items()},
            logits=pick(self.logits),
            labels=pick(self.labels),
            domain=spread(self.domain),
            teachers=[t.words(partial(pick_own, own_mask=t.word_mask)) for t in self.teachers],
            soft_labels=None if self.soft_labels is None else pick(self.soft_labels),
            row_weights=None if self.row_weights is None else spread(self.row_weights),
        )


class ObjectiveInputs:
    """Inputs of objectives by name and feature layer; shared ones are gathered once.

    Every process must ask for the same inputs in the same order.

    Args:
        batch: this process' rows.
        row_weights: what rows with these labels, of these domains and with weights of their own, count; `None` for 1
            each.
        perturbed_forward: makes `perturbed_target_forward`.
        references: what is not gathered: of the weights, and means over this process' rows.
        averaged_logits: makes `averaged_target_logits` of this process' rows.
        masked_forward: makes `masked_target_forward`.
    """

    def __init__(
        self,
        batch: BatchOutputs,
        row_weights: Callable[..., torch.Tensor | None],
        perturbed_forward: Callable[[], PerturbedForward],
        references: ReferenceInputs,
        averaged_logits: Callable[[], torch.Tensor] | None = None,
        masked_forward: Callable[[], MaskedForward] | None = None,
    ):
        self.batch, self.row_weights, self.averaged_logits = batch, row_weights, averaged_logits
        self.perturbed_forward, self.references = perturbed_forward, references
        self.masked_forward = masked_forward
        self._values: dict[tuple[str, str], Any] = {}

    def get(self, name: str, feature_layer: str = "head", objective: str = "") -> Any:
        """One input from `INPUTS`; the feature layer matters to features, the objective's name to `layer_pairs`."""
        key = (name, feature_layer if name.endswith("features") else objective if name == "layer_pairs" else "")
        if key not in self._values:
            self._values[key] = self._make(name, feature_layer, objective)
        return self._values[key]

    def _make(self, name: str, feature_layer: str, objective: str) -> Any:
        if name == "perturbed_target_forward":
            return self.perturbed_forward()
        if name == "masked_target_forward":
            assert self.masked_forward is not None
            return self.masked_forward()
        if name in ReferenceInputs.NAMES:
            return self.references.get(name, objective)
        if name == "averaged_target_logits":
            assert self.averaged_logits is not None
            return gather_rows(self.averaged_logits())
        if name.startswith("teacher_"):
            return [gather_rows(x.float()) for x in self._of_teachers(name, feature_layer)]
        batch, rows = self.batch, self.batch.rows
        if name == "source_weights":
            own_weights = None if batch.row_weights is None else batch.row_weights[rows.source]
            weights = self.row_weights(batch.labels[rows.source], batch.domain[rows.source], own_weights=own_weights)
            if weights is None:  # one number, expanded: objectives can tell
                return torch.ones((), device=batch.logits.device).expand(rows.num_source * num_processes())
            return gather_rows(weights)
        x = {
            "source_features": lambda: batch.features[feature_layer][rows.source].float(),
            "target_features": lambda: batch.features[feature_layer][rows.target].float(),
            "target_view_features": lambda: batch.features[feature_layer][rows.views].float(),
            "target_view_logits": lambda: batch.logits[rows.views].float(),
            "source_logits": lambda: batch.logits[rows.source].float(),
            "target_logits": lambda: batch.logits[rows.target].float(),
            "target_soft_labels": lambda: _present(batch.soft_labels)[rows.target].float(),
            "source_labels": lambda: batch.labels[rows.source],
            "source_domains": lambda: batch.domain[rows.source],
            "features": lambda: batch.features[feature_layer][rows.of("all")].float(),
            "logits": lambda: batch.logits[rows.of("all")].float(),
        }[name]()
        return gather_rows(x)

    def _of_teachers(self, name: str, feature_layer: str) -> list[torch.Tensor]:
        """Outputs of each teacher on this process: rows of all, of the source or of the target."""
        batch = self.batch
        domains = "source" if "_source_" in name else "target" if "_target_" in name else "all"
        chosen = slice(None) if domains == batch.teacher_domains else batch.rows.of(domains)
        outputs = [t.features[feature_layer] if name.endswith("features") else t.logits for t in batch.teachers]
        return [x[chosen] for x in outputs]


def _present(soft_labels: torch.Tensor | None) -> torch.Tensor:
    if soft_labels is None:
        raise ValueError(
            "The objective soft_labels needs 'soft_labels' in training batches. If a data_collator of yours makes "
            "them, leave what `trainer.prepared.collator(rows)` returns under that name in them."
        )
    return soft_labels


def pick_words(x: torch.Tensor, word_mask: torch.Tensor, own_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Words of every row, k each, evenly spaced: (rows, tokens, …) -> (rows·k, …).

    The same number for each row keeps shapes equal on all processes; a short sentence repeats words. Which words
    depends on the row alone, so a batch may be cut anywhere. `own_mask` says where the same words are in `x` if it
    comes of other tokens than `word_mask`.
    """
    rows, length = word_mask.shape
    word_numbers = word_mask.cumsum(1)  # 1-based number of the word at each position
    count = word_numbers[:, -1:].clamp_min(1)
    steps = torch.arange(TOKENS_PER_ROW, device=word_mask.device)
    chosen = 1 + (steps * count).div(TOKENS_PER_ROW, rounding_mode="floor")
    if own_mask is not None:
        word_numbers, length = own_mask.cumsum(1), own_mask.shape[1]
    position = torch.searchsorted(word_numbers.contiguous(), chosen.contiguous()).clamp_max(length - 1)
    return x[torch.arange(rows, device=x.device).unsqueeze(1), position].flatten(0, 1)
