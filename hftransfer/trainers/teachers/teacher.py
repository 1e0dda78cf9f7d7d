"""Teachers: frozen models beside the one that is trained, and their outputs on its batches.

A teacher is nobody's child module: it is in no state dict, no optimizer, no DDP and no FSDP wrapping, and never in
what is saved. A run that is resumed makes it again from where it came, and `WeightsFingerprint` sees to it that it is
the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ...data.text_encoder import WORD_MASK, tokenization_of
from ...models.adapters import plain_model
from ...models.feature_hook import FeatureHook, Head
from ...models.layer_hook import HEAD, LayerHook
from ...objectives.base import TeacherFacts
from ..batch_rows import BatchRows
from .initial_weights import InitialWeights, WeightsFingerprint


@dataclass
class TeacherOutputs:
    """Outputs of a teacher's forward.

    Args:
        logits: (rows, classes) or (rows, tokens, classes).
        features: by feature layer.
        layers: (rows, positions, channels) by index in the stack.
        attention: (rows, heads, tokens, tokens) of the last layer, if asked for.
        word_mask: (rows, tokens), where the teacher reads other tokens than the model: 1 on first sub-words.
    """

    logits: torch.Tensor
    features: dict[str, torch.Tensor]
    layers: dict[int, torch.Tensor]
    attention: torch.Tensor | None
    word_mask: torch.Tensor | None = None

    def words(self, pick: Callable[[torch.Tensor], torch.Tensor]) -> TeacherOutputs:
        """Outputs with words as rows, picked by `pick`, for tagging."""
        return replace(self, logits=pick(self.logits), features={k: pick(x) for k, x in self.features.items()})


class Teacher:
    """Teacher: a frozen model in eval mode, with hooks on its layers.

    Args:
        name: what messages call it.
        model: frozen; it is moved to where its inputs are.
        head: its own.
        labels: its class names, in the order of its logits.
        run_labels: the run's class names; logits come in their order if they are the same.
        widths: of its features by feature layer.
        compared_layers: indices of the layers that are compared with the model's.
        layer_widths: of its whole stack, where layers are compared.
        attention: whether its attention is compared.
        tokenization: the number of its own tokenization of the rows; `None` if it reads the model's tokens.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        head: Head,
        labels: Sequence[str],
        run_labels: Sequence[str],
        widths: Mapping[str, int],
        compared_layers: Iterable[int] = (),
        layer_widths: Sequence[int] = (),
        attention: bool = False,
        tokenization: int | None = None,
    ):
        self.name, self.model, self.head = name, model, head
        self.attention, self.tokenization = attention, tokenization
        self.widths, self.layer_widths = dict(widths), tuple(layer_widths)
        self.same_labels = sorted(labels) == sorted(run_labels)
        order = [list(labels).index(label) for label in run_labels] if self.same_labels else range(len(labels))
        self.order = list(order)
        self.labels = tuple(labels[i] for i in self.order)
        self.feature_hook = FeatureHook(model, head)
        self.feature_layer_hooks = {layer: LayerHook(model, layer) for layer in widths if layer != HEAD}
        self.compared_layer_hooks = {i: LayerHook(model, f"hidden:{i}") for i in compared_layers}
        self.device: torch.device | None = None

    def facts(self, feature_layer: str) -> TeacherFacts:
        """Facts of this teacher for an objective that reads features of this layer."""
        final: Any = self.model.get_submodule(self.head.name)
        weight, bias = (None if x is None else x.detach()[self.order] for x in (final.weight, final.bias))
        assert weight is not None
        return TeacherFacts(
            self.name, self.widths[feature_layer], self.labels, self.same_labels, (weight, bias), self.layer_widths
        )

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutputs:
        """Forward of a batch's rows; autocast is as around the call."""
        device = next(v.device for v in batch.values() if isinstance(v, torch.Tensor))
        if device != self.device:
            self.model.to(device)
            self.device = device
        inputs = inputs_of(self.model, batch, self.tokenization)
        out = self.model(**inputs, **({"output_attentions": True} if self.attention else {}))
        head = self.feature_hook.take(inputs)
        features = {layer: hook.take(inputs, head.ndim == 2) for layer, hook in self.feature_layer_hooks.items()}
        layers = {i: hook.take_map(inputs) for i, hook in self.compared_layer_hooks.items()}
        logits, attention = out.logits[..., self.order], out.attentions[-1] if self.attention else None
        word_mask = None if self.tokenization is None else tokenization_of(batch, self.tokenization).get(WORD_MASK)
        return TeacherOutputs(logits, {HEAD: head, **features}, layers, attention, word_mask)

    def own_tensors(self, shared: Iterable[nn.Parameter]) -> Iterator[torch.Tensor]:
        """Parameters that the model does not share."""
        shared_ids = {id(p) for p in shared}
        return (p for p in self.model.parameters() if id(p) not in shared_ids)


@dataclass
class TeacherSet:
    """Teachers and initial weights of a run, which objectives refer to.

    Args:
        all: teachers in the order given; objectives with a single teacher see the first.
        initial_weights: if an objective asks for them.
        domains: whose rows teachers run on at each step: `"source"`, `"target"`, `"all"`, or nothing.
        fingerprint: of teachers and initial weights, for checkpoints.
        compared_layers: indices of the model's layers that are compared, by the objective's name.
        attention: whether attention is compared.
    """

    all: tuple[Teacher, ...]
    initial_weights: InitialWeights | None
    domains: str
    fingerprint: WeightsFingerprint
    compared_layers: dict[str, list[int]]
    attention: bool = False

    def facts(self, feature_layer: str) -> list[TeacherFacts]:
        return [teacher.facts(feature_layer) for teacher in self.all]

    def outputs(self, batch: dict[str, Any], rows: BatchRows) -> list[TeacherOutputs]:
        """Outputs of each teacher on the rows of `domains`."""
        if not self.domains:
            return []
        chosen = rows.pick(batch, self.domains)
        return [teacher(chosen) for teacher in self.all]


def inputs_of(model: Any, batch: Mapping[str, Any], tokenization: int | None = None) -> dict[str, Any]:
    """Inputs of a model's forward in a batch: its own columns, or those of a teacher's tokenization."""
    names = inspect.signature(plain_model(model).forward).parameters
    columns = batch if tokenization is None else tokenization_of(batch, tokenization)
    return {k: v for k, v in columns.items() if k in names}
