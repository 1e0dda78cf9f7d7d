"""Reference inputs of objectives: weights beside initial ones, layers beside a teacher's. They are not gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ...objectives.base import LayerPair
from ..batch_rows import BatchRows
from ..teachers.initial_weights import MovedProduct, MovedWeight
from ..teachers.paired_layer_outputs import attention_pairs, layer_pairs
from ..teachers.teacher import TeacherOutputs, TeacherSet
from .feature_forward import ForwardOutputs


@dataclass(frozen=True)
class ReferenceInputs:
    """Reference inputs: the final layer, weights beside initial values, layers beside a teacher's.

    Args:
        model: plain or PEFT-wrapped.
        head_name: full name of its final linear.
        teachers: of the run.
        outputs: of this batch.
        teacher_outputs: of the same rows.
        rows: of this batch.
        mask: its attention mask, if any, by that name.
    """

    NAMES: ClassVar = ("class_vectors", "trained_weights", "attention_pairs", "layer_pairs")

    model: nn.Module
    head_name: str
    teachers: TeacherSet | None
    outputs: ForwardOutputs
    teacher_outputs: Sequence[TeacherOutputs]
    rows: BatchRows
    mask: Mapping[str, torch.Tensor]

    def get(self, name: str, objective: str) -> Any:
        """Input by one of `NAMES`; each objective chooses the layers of its `layer_pairs`."""
        if name == "layer_pairs":
            return self.layer_pairs(objective)
        return getattr(self, name)()

    def class_vectors(self) -> torch.Tensor:
        head: Any = self.model.get_submodule(self.head_name)
        return head.weight.float()

    def trained_weights(self) -> list[MovedWeight | MovedProduct]:
        assert self.teachers is not None
        assert self.teachers.initial_weights is not None
        return self.teachers.initial_weights.pairs(self.model)

    def attention_pairs(self) -> list[LayerPair]:
        assert self.outputs.attention is not None
        return attention_pairs(self.outputs.attention[: self.rows.total], self.teacher_outputs, self.mask)

    def layer_pairs(self, objective: str) -> list[LayerPair]:
        assert self.teachers is not None
        layers = {i: x[: self.rows.total] for i, x in self.outputs.layers.items()}
        return layer_pairs(layers, self.teacher_outputs[0], self.mask, self.teachers.compared_layers[objective])
