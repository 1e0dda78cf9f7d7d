"""One module, one forward: what the `Trainer` sees while training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from ..models.tap import FeatureTap, Head
from ..objectives.base import Objective
from ..objectives.gather import gather_rows
from ..objectives.schedules import Schedule

IGNORE = -100
TOKENS_PER_ROW = 8  # words of a sentence that take part in a tagger's objectives: the same number for every row


@dataclass
class AdaptationOutput(ModelOutput):
    """Output of a joint training forward.

    Args:
        loss: `task + Σ weight · objective`, a scalar.
        logits: of the batch as it came, source rows first.
        parts: (1 + objectives,) detached values: the task loss, then each objective before its weight.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    parts: torch.Tensor | None = None


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
    """

    accepts_loss_kwargs = False  # for transformers' Trainer: this loss is a per-batch mean of its own
    progress: torch.Tensor

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
    ):
        super().__init__()
        self.model = model
        self.objectives = objectives if objectives is not None else nn.ModuleDict()
        self.weights, self.schedules = dict(weights or {}), dict(schedules or {})
        self.task, self.label_smoothing, self.batch_norm = task, label_smoothing, batch_norm
        self.tap = FeatureTap(model, head)
        self.needs = {name: type(o).needs() for name, o in self.objectives.items() if isinstance(o, Objective)}
        self.wants_view = any("target_view_features" in needs for needs in self.needs.values())
        self.register_buffer("progress", torch.zeros(()))

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
        task = self._task_loss(logits[:rows], labels, num_items)
        parts, total = [task], task
        if self.objectives:
            with torch.autocast(logits.device.type, enabled=False):
                for name, value in self._objective_values(features, logits, labels, word_mask, n, rows):
                    weight: Any = self.weights[name]
                    if "strength" not in self.needs[name]:
                        weight = weight * self.schedules[name](self.progress)
                    total = total + weight * value
                    parts.append(value)
        return AdaptationOutput(total, logits[:rows], torch.stack([p.detach().float() for p in parts]))

    def _run(self, inputs: dict[str, Any], n: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features of source, target and, if some objective wants it, the target's second view."""
        if self.wants_view:
            inputs = {k: torch.cat([v, v[n:]]) if _is_rows(v, rows) else v for k, v in inputs.items()}
        if self.batch_norm == "joint" or n == rows:
            logits = self.model(**inputs).logits
            return logits, self.tap.take(inputs)
        outs = []
        for part in (slice(0, n), slice(n, None)):
            total = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
            half = {k: v[part] if _is_rows(v, total) else v for k, v in inputs.items()}
            outs.append((self.model(**half).logits, self.tap.take(half)))
        return torch.cat([o[0] for o in outs]), torch.cat([o[1] for o in outs])

    def _task_loss(self, logits: torch.Tensor, labels: torch.Tensor, num_items: torch.Tensor | None) -> torch.Tensor:
        """The model's own loss, over labelled items only, as a sum divided by `num_items`.

        Rows without a label are masked, not dropped: shapes stay static and nothing waits for the device.
        """
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
            total = (loss.mean(1) * known).sum()
        else:
            known = labels != IGNORE
            total = F.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten(),
                ignore_index=IGNORE,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
        return total / (known.sum().clamp_min(1) if num_items is None else num_items)

    def _objective_values(
        self,
        features: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        word_mask: torch.Tensor | None,
        n: int,
        rows: int,
    ):
        """Yields each objective's name and value on the rows of all processes, in fp32."""
        view = features[rows:] if self.wants_view else None
        features, logits = features[:rows], logits[:rows]
        if word_mask is not None:
            view_mask = word_mask[n:]
            features, logits, labels = (pick_words(x, word_mask) for x in (features, logits, labels))
            if view is not None:
                view = pick_words(view, view_mask)
            n *= TOKENS_PER_ROW
        wanted = {need for needs in self.needs.values() for need in needs}
        available = {
            "source_features": lambda: features[:n].float(),
            "target_features": lambda: features[n:].float(),
            "source_logits": lambda: logits[:n].float(),
            "target_logits": lambda: logits[n:].float(),
            "source_labels": lambda: labels[:n],
            "target_view_features": lambda: view.float() if view is not None else features[:0],
        }
        given = {name: gather_rows(make()) for name, make in available.items() if name in wanted}
        for name, objective in self.objectives.items():
            arguments = {need: given[need] for need in self.needs[name] if need != "strength"}
            if "strength" in self.needs[name]:
                arguments["strength"] = self.schedules[name](self.progress)
            yield name, objective(**arguments)


def pick_words(x: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
    """(rows, tokens, …) -> (rows·k, …): k words of every row, evenly spaced over its words.

    The same number for each row keeps shapes equal on all processes; a short sentence repeats words. Which words
    depends on the row alone, so a batch may be cut anywhere.
    """
    rows, length = word_mask.shape
    seen = word_mask.cumsum(1)  # 1-based number of the word at each position
    count = seen[:, -1:].clamp_min(1)
    steps = torch.arange(TOKENS_PER_ROW, device=word_mask.device)
    number = 1 + (steps * count).div(TOKENS_PER_ROW, rounding_mode="floor")
    position = torch.searchsorted(seen.contiguous(), number.contiguous()).clamp_max(length - 1)
    return x[torch.arange(rows, device=x.device).unsqueeze(1), position].flatten(0, 1)


def _is_rows(value: Any, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows
