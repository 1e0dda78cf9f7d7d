"""Teachers and initial weights that differ from the model, without a trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import families
import tiny
from torch import nn

from hftransfer.models.feature_hook import Head, find_head
from hftransfer.models.layer_hook import HEAD, layer_widths
from hftransfer.models.model_structure import layer_stack
from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.specification import ObjectiveSpec
from hftransfer.trainers.teachers.initial_weights import InitialWeights, WeightsFingerprint, frozen_copy
from hftransfer.trainers.teachers.inputs_from_teachers import teacher_inputs, teacher_rows
from hftransfer.trainers.teachers.teacher import Teacher, TeacherSet


def teacher_set(
    model: nn.Module, make_other: Callable[[], nn.Module], head: Head, specs: Sequence[ObjectiveSpec]
) -> TeacherSet | None:
    """Teacher and initial weights of another model of the same shape; `None` if the objectives ask for neither."""
    asked = {need for spec in specs for need in spec.reads().values()}
    made_by_teachers = teacher_inputs(specs)
    if not made_by_teachers and "trained_weights" not in asked:
        return None
    other = make_other()
    attention = "attention_pairs" in asked
    if attention:
        for m in (model, other):
            m.set_attn_implementation("eager")
    batch, total = families.batch(), len(layer_stack(model)[1])
    depths = {s.name: d for s in specs if (d := REGISTRY[s.kind].layer_indices(s.settings, total))}
    widths = {HEAD: head.in_features} | layer_widths(other, {s.features for s in specs}, batch)
    stack = list(layer_widths(other, [f"hidden:{i}" for i in range(total)], batch).values())
    copied = frozen_copy(other)
    teacher = Teacher(
        "the other", copied, find_head(copied, batch), tiny.LABELS, tiny.LABELS, widths, range(total), stack, attention
    )
    initial_weights = InitialWeights(other, head) if "trained_weights" in asked else None
    teachers = (teacher,) if made_by_teachers else ()
    fingerprint = WeightsFingerprint(copied.parameters())
    return TeacherSet(teachers, initial_weights, teacher_rows(made_by_teachers), fingerprint, depths, attention)
