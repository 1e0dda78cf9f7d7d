"""Joint model: the user's model and the objectives in one module, with one forward for source and target rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers.utils import ModelOutput

from ...data.text_encoder import without_other_tokenizations
from ...models.adapters import is_peft
from ...models.batch_norm_statistics import batch_statistics_without_dropout, freeze_batch_norms
from ...models.feature_hook import Head
from ...models.freezing import frozen_modules
from ...models.layer_hook import HEAD
from ...models.module_mode import module_mode
from ..batch_rows import BatchRows, Span
from ..teachers.teacher import TeacherOutputs, TeacherSet
from ..teachers.weight_average import WeightAverage
from .feature_forward import ForwardOutputs
from .forward_chain import JointForward, build_forward
from .frozen_layers_forward import without_states
from .masked_forward import MaskedTargetForward, WordHiding
from .objective_inputs import BatchOutputs, ObjectiveInputs, pick_words
from .objective_set import ObjectiveSet
from .perturbed_forward import PerturbedTargetForward
from .task_loss import TaskLoss
from .ungathered_inputs import ReferenceInputs


@dataclass
class AdaptationOutput(ModelOutput):
    """Output of a joint training forward.

    Args:
        loss: `task + Σ weight · objective`, a scalar.
        logits: of the batch as it came, source rows first.
        losses: (1 + objectives,) detached values: the task loss, then each objective before its weight.
        largest_values: (4,) detached: the largest absolute feature of the source and of the target, and the same of
            logits.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    losses: torch.Tensor | None = None
    largest_values: torch.Tensor | None = None


class JointModel(nn.Module):
    """The user's model and the objectives in one module; source and target rows go through the model once.

    Without `domain` it is the plain model: evaluation, prediction and everything else pass straight through, and
    attributes that it lacks are the model's. The callback `Clock` sets `progress`, the share of the training that is
    done, before each update; objectives' schedules read it.

    Args:
        model: plain or PEFT-wrapped, with a linear head.
        head: from `find_head`.
        task_loss: of labelled rows; cross-entropy if not given.
        objectives: none if not given.
        forward: from `build_forward`, with the same model, objectives and teachers; all rows at once if not given.
        teachers: teachers and initial weights that objectives ask for. Only their fingerprint is part of this module.
        weight_average: moving average of the model's weights, if an objective follows it.
        word_hiding: masks words of target rows, if an objective learns to predict them.

    Example:
        >>> from hftransfer.objectives.alignment.mmd import MMD
        >>> head, objectives = find_head(model, batch), ObjectiveSet({"mmd": MMD()}, weights={"mmd": 0.1})
        >>> forward = build_forward(model, head, objectives)
        >>> joint_model = JointModel(model, head, TaskLoss(), objectives, forward=forward)
        >>> labels, domain = torch.tensor([1, -100]), torch.tensor([0, -1])  # a source row, then a target row
        >>> output = joint_model(**batch, labels=labels, domain=domain, num_source=1)
        >>> output.loss.backward()
        >>> dict(zip(joint_model.loss_names, output.losses.tolist()))
        {'task': ..., 'mmd': ...}
        >>> joint_model(**batch).logits.shape  # without `domain`: the plain model's answer
        torch.Size([2, 3])
    """

    accepts_loss_kwargs = False  # for transformers' Trainer: this loss is a per-batch mean of its own
    progress: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        task_loss: TaskLoss | None = None,
        objectives: ObjectiveSet | None = None,
        *,
        forward: JointForward | None = None,
        teachers: TeacherSet | None = None,
        weight_average: WeightAverage | None = None,
        word_hiding: WordHiding | None = None,
    ):
        super().__init__()
        self.model = model
        self.objectives = ObjectiveSet() if objectives is None else objectives
        self.task_loss = TaskLoss() if task_loss is None else task_loss
        self.joint_forward = build_forward(model, head, self.objectives, teachers) if forward is None else forward
        self.batch_norm_mix = self.joint_forward.batch_norm_mix
        self.strong_views = self.joint_forward.strong_views
        self.word_hiding = word_hiding
        self.weight_average = weight_average
        if weight_average is not None:  # the same on all processes: DDP need not send it with every step
            names = [f"weight_average.{name}" for name in weight_average.names]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, names)
        self.teachers = teachers
        if teachers is not None:
            self.reference_fingerprint = teachers.fingerprint
        self.head_name = head.name
        self.register_buffer("progress", torch.zeros(()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def train(self, mode: bool = True) -> JointModel:
        """As in any module, but frozen modules stay in evaluation mode: dropout there would be noise alone.

        An adapter's base keeps its dropout, as in PEFT. Frozen batch norm keeps its statistics in either mode.
        """
        super().train(mode)
        if mode and not is_peft(self.model):
            for module in frozen_modules(self.model):
                module.eval()
        if mode:
            freeze_batch_norms(self.model, everywhere=self.joint_forward.frozen_batch_norm)
        return self

    @property
    def loss_names(self) -> list[str]:
        """Names of `AdaptationOutput.losses`, in order."""
        return ["task", *self.objectives]

    def forward(
        self,
        labels: torch.Tensor | None = None,
        domain: torch.Tensor | None = None,
        num_source: int | None = None,
        word_mask: torch.Tensor | None = None,
        num_items: torch.Tensor | None = None,
        spans: Sequence[Span] | None = None,
        soft_labels: torch.Tensor | None = None,
        row_weights: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Joint forward when `domain` is given; otherwise the plain model's.

        Args:
            labels: (rows,) or (rows, tokens) or (rows, classes); -100 or NaN where there is none.
            domain: (rows,) source number, -1 for the target; sources come first.
            num_source: how many rows are source.
            word_mask: (rows, tokens), tagging only: 1 on first sub-words.
            num_items: labelled items that the task loss is divided by; the batch's own count when `None`.
            spans: which positions of source rows, and of the others, are not padding; for the per-domain forward.
            soft_labels: (rows, K) or (rows, tokens, K) distributions of target rows, for the objective of that name.
            row_weights: (rows,) what source rows count of their own, in the task and in the objectives.
            **inputs: model inputs of all rows; the target's second views may follow them. What frozen layers give for
                the rows may stand beside them, as `frozen_states`.
        """
        if domain is None:
            inputs = inputs if labels is None else {"labels": labels, **inputs}
            average = self.weight_average
            if average is not None and average.keeps_teacher and not self.training:
                return average.run(self.model, inputs)
            return self.model(**inputs)
        rows = BatchRows(len(domain) if num_source is None else num_source, len(domain), spans)
        model_inputs = without_other_tokenizations(inputs)
        outputs = self.joint_forward(self.model, model_inputs, rows)
        teacher_outputs = [] if self.teachers is None else self.teachers.outputs(inputs, rows)
        if labels is None:
            raise ValueError(
                "A training batch came to the model without labels. If a `compute_loss` of yours takes them out of "
                'its inputs, read `inputs["labels"]` and leave them there instead of `inputs.pop`.'
            )
        logits = outputs.logits[: rows.total]
        task = self.task_loss(logits, labels, domain, num_items, row_weights)
        losses, total = [task], task if self.task_loss.weight == 1 else self.task_loss.weight * task
        if self.objectives or self.task_loss.label_shift is not None:
            kind = logits.device.type
            precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            with torch.autocast(kind, enabled=False):
                batch = BatchOutputs(
                    rows,
                    outputs.features,
                    outputs.logits,
                    labels,
                    domain,
                    teacher_outputs,
                    "all" if self.teachers is None else self.teachers.domains or "all",
                    soft_labels,
                    row_weights,
                )
                objective_inputs = ObjectiveInputs(
                    batch if word_mask is None else batch.words(word_mask),
                    self.task_loss.row_weights,
                    partial(self._build_perturbed_forward, model_inputs, rows, word_mask, precision),
                    self._reference_inputs(model_inputs, rows, outputs, teacher_outputs),
                    partial(self._averaged_logits, model_inputs, rows, word_mask, precision),
                    partial(self._build_masked_forward, model_inputs, rows, precision),
                )
                for _, value, weight in self.objectives.evaluate(objective_inputs, self.progress):
                    total = total + weight * value
                    losses.append(value)
                self._observe_label_shift(objective_inputs)
        values = torch.stack([loss.detach().float() for loss in losses])
        return AdaptationOutput(total, logits, values, _largest_values(outputs, rows))

    def _reference_inputs(
        self,
        inputs: dict[str, Any],
        rows: BatchRows,
        outputs: ForwardOutputs,
        teacher_outputs: Sequence[TeacherOutputs],
    ) -> ReferenceInputs:
        mask = {k: v[: rows.total] for k, v in inputs.items() if k == "attention_mask"}
        return ReferenceInputs(self.model, self.head_name, self.teachers, outputs, teacher_outputs, rows, mask)

    def _build_perturbed_forward(
        self, inputs: dict[str, Any], rows: BatchRows, word_mask: torch.Tensor | None, precision: torch.dtype | None
    ) -> PerturbedTargetForward:
        target = rows.pick(without_states(inputs), "target")
        target_mask = None if word_mask is None else word_mask[rows.target]
        release_hooks = partial(self.joint_forward.features.take, target)
        return PerturbedTargetForward(self.model, target, target_mask, precision, release_hooks)

    def _build_masked_forward(
        self, inputs: dict[str, Any], rows: BatchRows, precision: torch.dtype | None
    ) -> MaskedTargetForward:
        assert self.word_hiding is not None
        target = rows.pick(without_states(inputs), "target")
        release_hooks = partial(self.joint_forward.features.take, target)
        return MaskedTargetForward(self.model, self.word_hiding, target, precision, release_hooks)

    def _averaged_logits(
        self, inputs: dict[str, Any], rows: BatchRows, word_mask: torch.Tensor | None, precision: torch.dtype | None
    ) -> torch.Tensor:
        """Logits of this process' target rows by the average of the weights, without dropout and gradient. Batch norms
        use the statistics of these rows: the running ones are those of other weights, and of both domains."""
        assert self.weight_average is not None
        target = rows.pick(without_states(inputs), "target")
        mode = module_mode if rows.total - rows.num_source == 1 else batch_statistics_without_dropout
        autocast = torch.autocast(self.progress.device.type, precision, enabled=precision is not None)
        with torch.no_grad(), mode(self.model), autocast:
            logits = self.weight_average.run(self.model, target).logits.float()
        self.joint_forward.features.take(target)  # hooks let go of what they keep
        return logits if word_mask is None else pick_words(logits, word_mask[rows.target])

    def _observe_label_shift(self, inputs: ObjectiveInputs) -> None:
        """Estimate of class weights, updated with predictions and labels of all processes."""
        if self.task_loss.label_shift is not None and self.training:
            names = ("source_logits", "source_labels", "target_logits")
            self.task_loss.label_shift.observe(*(inputs.get(name) for name in names))


def _largest_values(outputs: ForwardOutputs, rows: BatchRows) -> torch.Tensor:
    """Largest values of features and logits by domain: they show where a loss that is not finite came from."""
    tensors = (outputs.features[HEAD], outputs.logits)
    sides = [x.detach()[rows_of_domain] for x in tensors for rows_of_domain in (rows.source, rows.target)]
    return torch.stack([x.abs().amax().float() if x.numel() else x.new_zeros((), dtype=torch.float) for x in sides])
