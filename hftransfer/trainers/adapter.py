"""One module, one forward: what the `Trainer` sees while training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from ..models.layer_tap import HEAD, LayerTap
from ..models.tap import FeatureTap, Head
from ..objectives.base import Objective
from ..objectives.label_shift import LabelShift
from ..objectives.schedules import Schedule
from .inputs import JointRows, ObjectiveInputs, TargetRerun

IGNORE = -100


@dataclass
class AdaptationOutput(ModelOutput):
    """Output of a joint training forward.

    Args:
        loss: `task + Σ weight · objective`, a scalar.
        logits: of the batch as it came, source rows first.
        parts: (1 + objectives,) detached values: the task loss, then each objective before its weight.
        extent: (4,) detached: the largest absolute feature of the source and of the target, and the same of logits.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    parts: torch.Tensor | None = None
    extent: torch.Tensor | None = None


class DomainAdapter(nn.Module):
    """Holds the user's model and the objectives; runs source and target rows through the model once.

    Without `domain` it is the plain model: evaluation, prediction and everything else pass straight through, and
    attributes that it lacks are the model's.

    Args:
        model: plain or PEFT-wrapped, with a linear head.
        head: from `find_head`.
        objectives: modules by name.
        weights: their weights.
        schedules: their schedules.
        task: decides the task loss.
        label_smoothing: of the task's cross-entropy.
        batch_norm: `"joint"` runs both domains in one forward; `"separate"` in two, so that batch norm sees each
            domain by itself.
        features: where in the model an objective's features come from, by its name; the head's input if not given.
        source_weights: what a row of each source counts; nothing if all count 1.
        label_shift: estimates class weights, which the objectives are given as `source_weights`.
        weigh_task: weigh the rows of the task loss by them, too.
    """

    accepts_loss_kwargs = False  # for transformers' Trainer: this loss is a per-batch mean of its own
    progress: torch.Tensor
    source_weights: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        objectives: nn.ModuleDict | None = None,
        weights: Mapping[str, float] | None = None,
        schedules: Mapping[str, Schedule] | None = None,
        task: str = "sequence-classification",
        label_smoothing: float = 0.0,
        batch_norm: str = "joint",
        features: Mapping[str, str] | None = None,
        source_weights: Sequence[float] = (),
        label_shift: LabelShift | None = None,
        weigh_task: bool = False,
    ):
        super().__init__()
        self.model = model
        self.objectives = objectives if objectives is not None else nn.ModuleDict()
        self.weights, self.schedules = dict(weights or {}), dict(schedules or {})
        self.task, self.label_smoothing, self.batch_norm = task, label_smoothing, batch_norm
        self.tap = FeatureTap(model, head)
        self.features = dict(features or {})
        self.layer_taps = {where: LayerTap(model, where) for where in {*self.features.values()} - {HEAD}}
        self.label_shift, self.weigh_task = label_shift, weigh_task
        self.needs = {name: type(o).needs() for name, o in self.objectives.items() if isinstance(o, Objective)}
        self.wants_view = any("target_view_features" in needs for needs in self.needs.values())
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("source_weights", torch.tensor(list(source_weights)), persistent=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    @property
    def part_names(self) -> list[str]:
        return ["task", *self.objectives]

    def forward(
        self,
        labels: torch.Tensor | None = None,
        domain: torch.Tensor | None = None,
        num_source: int | None = None,
        word_mask: torch.Tensor | None = None,
        num_items: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Runs a joint batch when `domain` is given, the plain model otherwise.

        Args:
            labels: (rows,) or (rows, tokens) or (rows, classes); -100 or NaN where there is none.
            domain: (rows,) source number, -1 for the target; sources come first.
            num_source: how many rows are source.
            word_mask: (rows, tokens), tagging only: 1 on first sub-words.
            num_items: labelled items that the task loss is divided by; the batch's own count when `None`.
            **inputs: model inputs.
        """
        if domain is None:
            return self.model(**inputs) if labels is None else self.model(labels=labels, **inputs)
        rows = len(domain)
        n = rows if num_source is None else num_source
        logits, features = self._run(inputs, n, rows)
        if labels is None:
            raise ValueError("A training batch has no labels: source rows need a label column.")
        task = self._task_loss(logits[:rows], labels, domain, num_items)
        parts, total = [task], task
        if self.objectives or self.label_shift is not None:
            kind = logits.device.type
            precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            with torch.autocast(kind, enabled=False):
                batch = JointRows(features, logits, labels, domain, n, rows)
                rerun = partial(self._rerun, inputs, word_mask, precision, n, rows)
                given = ObjectiveInputs(
                    batch if word_mask is None else batch.words(word_mask), self._row_weights, rerun
                )
                for name, value in self._objective_values(given):
                    weight: Any = self.weights[name]
                    if "strength" not in self.needs[name]:
                        weight = weight * self.schedules[name](self.progress)
                    total = total + weight * value
                    parts.append(value)
        values = torch.stack([p.detach().float() for p in parts])
        return AdaptationOutput(total, logits[:rows], values, _extent(features[HEAD], logits, n, rows))

    def _run(self, inputs: dict[str, Any], n: int, rows: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and features of source, target and, if some objective wants it, the target's second view."""
        if self.wants_view:
            inputs = {k: torch.cat([v, v[n:]]) if _is_rows(v, rows) else v for k, v in inputs.items()}
        if self.batch_norm == "joint" or n == rows:
            logits = self.model(**inputs).logits
            return logits, self._take(inputs)
        outs = []
        for part in (slice(0, n), slice(n, None)):
            total = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
            half = {k: v[part] if _is_rows(v, total) else v for k, v in inputs.items()}
            outs.append((self.model(**half).logits, self._take(half)))
        (logits, features), (more_logits, more) = outs
        return torch.cat([logits, more_logits]), {k: torch.cat([v, more[k]]) for k, v in features.items()}

    def _take(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Features of the last forward by place; the taps let go of them."""
        head = self.tap.take(inputs)
        return {HEAD: head} | {where: tap.take(inputs, head.ndim == 2) for where, tap in self.layer_taps.items()}

    def _row_weights(self, labels: torch.Tensor, domain: torch.Tensor, classes: bool = True) -> torch.Tensor | None:
        """What source rows count, in the shape of `domain`; target rows count 1. `None` if all rows count 1."""
        weights = self.source_weights[domain] if len(self.source_weights) else None
        if classes and self.label_shift is not None:
            of_class = self.label_shift.of(labels)
            weights = of_class if weights is None else weights * of_class
        return weights if weights is None else torch.where(domain >= 0, weights, 1.0)

    def _task_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, domain: torch.Tensor, num_items: torch.Tensor | None
    ) -> torch.Tensor:
        """The model's own loss, over labelled items only, as a weighted sum divided by `num_items`.

        Rows without a label are masked, not dropped: shapes stay static and nothing waits for the device.
        """
        per_item = domain.view(-1, *[1] * (logits.ndim - 2)).expand(logits.shape[:-1])  # a tagger's items are tokens
        weights = self._row_weights(labels, per_item, classes=self.weigh_task)
        logits = logits.float()
        if self.task in ("regression", "multi-label-classification"):
            labels = labels.view(len(labels), -1)
            known = ~torch.isnan(labels).any(1)
            filled = torch.where(known.unsqueeze(1), labels, 0.0)
            logits = logits.view(len(labels), -1)
            loss = (
                F.mse_loss(logits, filled, reduction="none")
                if self.task == "regression"
                else F.binary_cross_entropy_with_logits(logits, filled, reduction="none")
            )
            total = (loss.mean(1) * (known if weights is None else known * weights)).sum()
        else:
            known = labels != IGNORE
            total = F.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten(),
                ignore_index=IGNORE,
                reduction="sum" if weights is None else "none",
                label_smoothing=self.label_smoothing,
            )
            total = total if weights is None else (total * weights.flatten()).sum()
        return total / (known.sum().clamp_min(1) if num_items is None else num_items)

    def _objective_values(self, given: ObjectiveInputs) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields each objective's name and value on the rows of all processes, in fp32."""
        for name, objective in self.objectives.items():
            where, needs = self.features.get(name, HEAD), self.needs[name]
            arguments = {need: given.get(need, where) for need in needs if need != "strength"}
            if "strength" in needs:
                arguments["strength"] = self.schedules[name](self.progress)
            yield name, objective(**arguments)
        if self.label_shift is not None and self.training:
            seen = ("source_logits", "source_labels", "target_logits")
            self.label_shift.observe(*(given.get(name) for name in seen))

    def _rerun(
        self,
        inputs: dict[str, Any],
        word_mask: torch.Tensor | None,
        precision: torch.dtype | None,
        n: int,
        rows: int,
    ) -> TargetRerun:
        target = {k: v[n:rows] if _is_rows(v, rows) else v for k, v in inputs.items()}
        words = None if word_mask is None else word_mask[n:rows]
        return TargetRerun(self.model, target, words, precision, partial(self._take, target))


def _extent(features: torch.Tensor, logits: torch.Tensor, n: int, rows: int) -> torch.Tensor:
    """What to look at when a part breaks: which domain ran away, and whether before the head or in it."""
    sides = [x.detach()[part] for x in (features, logits) for part in (slice(0, n), slice(n, rows))]
    return torch.stack([x.abs().amax().float() if x.numel() else x.new_zeros((), dtype=torch.float) for x in sides])


def _is_rows(value: Any, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows
