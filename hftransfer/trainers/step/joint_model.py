"""One module, one forward: what the `Trainer` sees while training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from ...data.text import without_readings
from ...ignored_label import IGNORE
from ...models.adapters import is_peft
from ...models.feature_hook import FeatureHook, Head
from ...models.freezing import frozen_modules
from ...models.layer_hook import HEAD, LayerHook
from ...models.norm_statistics import hold_still, unrecorded
from ...models.stochastic_norm import ChannelMix
from ...objectives.base import Objective
from ...objectives.class_weights import LabelShift
from ...objectives.schedules import Schedule
from ..teachers.layer_pairs import ATTENTION, attention_pairs, layer_pairs
from ..teachers.teacher import Anchors, TeacherOutputs
from .chunked_forward import in_chunks
from .objective_inputs import JointRows, ObjectiveInputs
from .per_domain_forward import Span, in_turn, is_rows
from .perturbed_forward import TargetRerun

MAP = "map:"  # what is taken from a forward beside the features


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


class JointModel(nn.Module):
    """Holds the user's model and the objectives; runs source and target rows through the model once.

    Without `domain` it is the plain model: evaluation, prediction and everything else pass straight through, and
    attributes that it lacks are the model's.

    Args:
        model: plain or PEFT-wrapped, with a linear head.
        head: from `find_head`.
        objectives: modules by name.
        weights: theirs at the end of their schedules.
        schedules: their shapes.
        task: decides the task loss.
        label_smoothing: of the task's cross-entropy.
        batch_norm: `"joint"` runs both domains in one forward; `"separate"` in two, so that batch norm sees each
            domain by itself, and its running statistics are the target's; `"frozen"` in one, with the running
            statistics as they are; `"stochastic"` in one, with `batch_norm_mix`.
        features: where in the model an objective's features come from, by its name; the head's input if not given.
        source_weights: what a row of each source counts; nothing if all count 1.
        label_shift: estimates class weights, which the objectives are given as `source_weights`.
        weigh_task: weigh the rows of the task loss by them, too.
        task_weight: what the task loss counts beside the objectives.
        anchors: teachers and start weights that objectives ask for. Only their mark is part of this module.
        forward_rows: how many rows the model runs on at a time while training; all of a batch when `None`.
        batch_norm_mix: chooses the channels of batch norms that use their running statistics while training.
        by_domain: run the model on source rows and on the others in turn, each without the other's padding.

    Example:
        >>> trainer.model(**batch).logits.shape  # without `domain`: the plain model's answer
        torch.Size([2, 3])
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
        task_weight: float = 1.0,
        anchors: Anchors | None = None,
        forward_rows: int | None = None,
        batch_norm_mix: ChannelMix | None = None,
        by_domain: bool = False,
    ):
        super().__init__()
        self.model = model
        self.objectives = objectives if objectives is not None else nn.ModuleDict()
        self.weights, self.schedules = dict(weights or {}), dict(schedules or {})
        self.task, self.label_smoothing, self.batch_norm = task, label_smoothing, batch_norm
        self.tap = FeatureHook(model, head)
        self.features = dict(features or {})
        self.layer_taps = {where: LayerHook(model, where) for where in {*self.features.values()} - {HEAD}}
        self.label_shift, self.weigh_task, self.task_weight = label_shift, weigh_task, task_weight
        self.needs = {
            name: dict(o.inputs if o.inputs is not None else o.reads({}))  # argument -> input
            for name, o in self.objectives.items()
            if isinstance(o, Objective)
        }
        self.wants_view = any("target_view_features" in needs.values() for needs in self.needs.values())
        self.anchors, self.forward_rows = anchors, forward_rows
        self.map_taps: dict[int, LayerHook] = {}
        if anchors is not None:
            self.anchor_mark = anchors.mark
            compared = {i for indices in anchors.depths.values() for i in indices}
            self.map_taps = {i: LayerHook(model, f"hidden:{i}") for i in sorted(compared)}
        self.batch_norm_mix, self.by_domain = batch_norm_mix, by_domain
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("source_weights", torch.tensor(list(source_weights)), persistent=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def train(self, mode: bool = True) -> JointModel:
        """As in any module, but parts of the model that do not move run as in evaluation: dropout there would be
        noise that nothing learns from. An adapter's base keeps its dropout, as in PEFT. Batch norm that is frozen
        keeps its statistics in either."""
        super().train(mode)
        if mode and not is_peft(self.model):
            for module in frozen_modules(self.model):
                module.eval()
        if mode:
            hold_still(self.model, everywhere=self.batch_norm == "frozen")
        return self

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
        spans: Sequence[Span] | None = None,
        **inputs: Any,
    ) -> Any:
        """Runs a joint batch when `domain` is given, the plain model otherwise.

        Args:
            labels: (rows,) or (rows, tokens) or (rows, classes); -100 or NaN where there is none.
            domain: (rows,) source number, -1 for the target; sources come first.
            num_source: how many rows are source.
            word_mask: (rows, tokens), tagging only: 1 on first sub-words.
            num_items: labelled items that the task loss is divided by; the batch's own count when `None`.
            spans: which positions of source rows, and of the others, are not padding; for `by_domain`.
            **inputs: model inputs of all rows; the target's second views may follow them.
        """
        if domain is None:
            return self.model(**inputs) if labels is None else self.model(labels=labels, **inputs)
        batch_inputs, inputs = inputs, without_readings(inputs)  # teachers may have a reading of their own
        rows = len(domain)
        n = rows if num_source is None else num_source
        logits, seen = self._run(inputs, n, rows, spans)
        features = {where: seen[where] for where in (HEAD, *self.layer_taps)}
        taught = [] if self.anchors is None else self.anchors.teach(batch_inputs, n, rows)
        if labels is None:
            raise ValueError(
                "A training batch came to the model without labels. If a `compute_loss` of yours takes them out of "
                'its inputs, read `inputs["labels"]` and leave them there instead of `inputs.pop`.'
            )
        task = self._task_loss(logits[:rows], labels, domain, num_items)
        parts, total = [task], task if self.task_weight == 1 else self.task_weight * task
        if self.objectives or self.label_shift is not None:
            kind = logits.device.type
            precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            with torch.autocast(kind, enabled=False):
                part = "all" if self.anchors is None else self.anchors.part or "all"
                batch = JointRows(features, logits, labels, domain, n, rows, taught, part)
                rerun = partial(self._rerun, inputs, word_mask, precision, n, rows)
                mask = {k: v[:rows] for k, v in inputs.items() if k == "attention_mask"}
                given = ObjectiveInputs(
                    batch if word_mask is None else batch.words(word_mask),
                    self._row_weights,
                    rerun,
                    self._local(seen, taught, mask, rows),
                )
                for name, value in self._objective_values(given):
                    total = total + (value if "strength" in self.needs[name] else self._weight(name) * value)
                    parts.append(value)
        values = torch.stack([p.detach().float() for p in parts])
        return AdaptationOutput(total, logits[:rows], values, _extent(features[HEAD], logits, n, rows))

    def _run(
        self, inputs: dict[str, Any], n: int, rows: int, spans: Sequence[Span] | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and features of source, target and, if some objective wants it, the target's second view."""
        if self.wants_view and not any(is_rows(v, 2 * rows - n) for v in inputs.values()):  # they may bring it along
            inputs = {k: torch.cat([v, v[n:]]) if is_rows(v, rows) else v for k, v in inputs.items()}
        if self.batch_norm_mix is not None and self.training:
            with self.batch_norm_mix.mixing(self.model):
                return self._forward(inputs)
        separate = self.batch_norm == "separate"
        if n == rows or not (separate or self.by_domain):
            return self._forward(inputs)
        # Of batch norm's statistics, the target's are kept, saved and used.
        return in_turn(self._forward, inputs, n, spans, unrecorded(self.model) if separate else nullcontext())

    def _forward(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.forward_rows is None:
            return self._at_once(inputs)
        return in_chunks(self._at_once, inputs, self.forward_rows)

    def _at_once(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.anchors is None or not self.anchors.attention:
            logits = self.model(**inputs).logits
            return logits, self._take(inputs)
        out = self.model(**inputs, output_attentions=True)
        return out.logits, {**self._take(inputs), ATTENTION: out.attentions[-1]}

    def _take(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Features of the last forward by place; the taps let go of them."""
        head = self.tap.take(inputs)
        places = {where: tap.take(inputs, head.ndim == 2) for where, tap in self.layer_taps.items()}
        return {HEAD: head, **places, **{f"{MAP}{i}": tap.take_map(inputs) for i, tap in self.map_taps.items()}}

    def _local(
        self,
        seen: Mapping[str, torch.Tensor],
        taught: Sequence[TeacherOutputs],
        mask: Mapping[str, torch.Tensor],
        rows: int,
    ) -> dict[str, Callable[[], Any]]:
        """Inputs that are not gathered: of the weights, which all processes share, and means over rows."""
        found: dict[str, Callable[[], Any]] = {"class_vectors": self._class_vectors}
        anchors = self.anchors
        if anchors is None:
            return found
        maps = {i: seen[f"{MAP}{i}"][:rows] for i in self.map_taps}
        if anchors.start is not None:
            found["moved_weights"] = partial(anchors.start.pairs, self.model)
        if anchors.attention:
            found["attention_pairs"] = lambda: attention_pairs(seen[ATTENTION][:rows], taught, mask)
        for name, depths in anchors.depths.items():
            found[f"layer_pairs of {name}"] = partial(layer_pairs, maps, taught[0], mask, depths)
        return found

    def _class_vectors(self) -> torch.Tensor:
        head: Any = self.model.get_submodule(self.tap.head.name)
        return head.weight.float()

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
            arguments = {}
            for argument, need in needs.items():
                if need != "strength":
                    own = f"{need} of {name}" if need == "layer_pairs" else need  # each names its layers
                    arguments[argument] = given.get(own, where)
            if "strength" in needs:
                arguments["strength"] = self._weight(name)
            yield name, objective(**arguments)
        if self.label_shift is not None and self.training:
            seen = ("source_logits", "source_labels", "target_logits")
            self.label_shift.observe(*(given.get(name) for name in seen))

    def _weight(self, name: str) -> torch.Tensor:
        """What an objective counts at this point of the run."""
        return self.weights[name] * self.schedules[name](self.progress)

    def _rerun(
        self,
        inputs: dict[str, Any],
        word_mask: torch.Tensor | None,
        precision: torch.dtype | None,
        n: int,
        rows: int,
    ) -> TargetRerun:
        both = rows, 2 * rows - n  # with second views, if the batch brought them along
        target = {k: v[n:rows] if is_rows(v, both[0]) or is_rows(v, both[1]) else v for k, v in inputs.items()}
        words = None if word_mask is None else word_mask[n:rows]
        return TargetRerun(self.model, target, words, precision, partial(self._take, target))


def _extent(features: torch.Tensor, logits: torch.Tensor, n: int, rows: int) -> torch.Tensor:
    """What to look at when a part breaks: which domain ran away, and whether before the head or in it."""
    sides = [x.detach()[part] for x in (features, logits) for part in (slice(0, n), slice(n, rows))]
    return torch.stack([x.abs().amax().float() if x.numel() else x.new_zeros((), dtype=torch.float) for x in sides])
