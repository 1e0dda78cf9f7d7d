"""A teacher and a start that differ from the model, without a trainer."""

from __future__ import annotations

from collections.abc import Sequence

import families
import tiny
from torch import nn

from hftransfer.models.feature_hook import Head, find_head
from hftransfer.models.layer_hook import HEAD, layer_widths
from hftransfer.models.structure import layers
from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.specification import ObjectiveSpec
from hftransfer.trainers.teachers.initial_weights import StartMark, StartWeights, frozen_copy
from hftransfer.trainers.teachers.teacher import OF_TEACHER, Anchors, Teacher, rows_asked_of


def anchors(model: nn.Module, other: nn.Module, head: Head, specs: Sequence[ObjectiveSpec]) -> Anchors | None:
    """What the objectives ask for, of another model of the same shape; `None` if they ask for nothing."""
    asked = {need for spec in specs for need in spec.reads().values()}
    of_teacher = {need for need in asked if need.startswith(OF_TEACHER)}
    if not of_teacher and "moved_weights" not in asked:
        return None
    attention = "attention_pairs" in asked
    if attention:
        for m in (model, other):
            m.set_attn_implementation("eager")
    batch, total = families.batch(), len(layers(model)[1])
    depths = {s.name: d for s in specs if (d := REGISTRY[s.kind].depths(s.settings, total))}
    widths = {HEAD: head.in_features} | layer_widths(other, {s.features for s in specs}, batch)
    stack = list(layer_widths(other, [f"hidden:{i}" for i in range(total)], batch).values())
    kept = frozen_copy(other)
    teacher = Teacher(
        "the other", kept, find_head(kept, batch), tiny.LABELS, tiny.LABELS, widths, range(total), stack, attention
    )
    start = StartWeights(other, head) if "moved_weights" in asked else None
    taught = (teacher,) if of_teacher else ()
    return Anchors(taught, start, rows_asked_of(of_teacher), StartMark(kept.parameters()), depths, attention)
