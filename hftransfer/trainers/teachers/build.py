"""Teachers of a run, built from its settings and its prepared model and data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from ...data.text_encoder import without_other_tokenizations
from ...models import pretrained
from ...models.adapters import plain_model
from ...models.feature_hook import Head, find_head
from ...models.layer_hook import HEAD, layer_widths
from ...models.model_structure import layer_stack
from ...models.module_mode import module_mode
from ...models.tokenizer_checks import check_tokenizer
from ...objectives.specification import ObjectiveSpec
from ..config import AdaptationConfig
from .initial_weights import InitialWeights, WeightsFingerprint, frozen_copy
from .inputs_from_teachers import teacher_fit_inputs, teacher_inputs, teacher_rows
from .objective_fitting import probe_rows
from .teacher import Teacher, TeacherSet, inputs_of


def build_teachers(args: AdaptationConfig, prepared: Any, specs: Sequence[ObjectiveSpec]) -> TeacherSet | None:
    """Teachers and initial weights of a run; `None` if no objective asks for either.

    They are built before the model has hooks, which a copy of it would copy.

    Raises:
        ValueError, FileNotFoundError: a teacher that is not there, or that cannot teach this run.
    """
    specs = [spec for spec in specs if spec.weight]
    inputs = {spec.name: set(spec.cls.reads(spec.settings).values()) for spec in specs}
    all_inputs = set().union(*inputs.values())
    names = args.teacher_names()
    made_by_teachers = teacher_inputs(specs) | teacher_fit_inputs(specs)
    if names and not made_by_teachers:
        raise ValueError(
            f"teacher={args.teacher!r} has no effect: no objective listens to a teacher. Add one, such as "
            "'distill_logits'."
        )
    if not made_by_teachers and "trained_weights" not in all_inputs:
        return None
    model, probe = prepared.model, probe_rows(prepared)
    attention = "attention_pairs" in all_inputs
    if attention:
        _show_attention(model, without_other_tokenizations(probe))
    logits = any("logits" in name for name in made_by_teachers)
    comparing = [spec for spec in specs if "layer_pairs" in inputs[spec.name]]
    compared_layers = {s.name: s.cls.layer_indices(s.settings, len(layer_stack(model)[1])) for s in comparing}
    build = _TeacherBuilder(
        prepared, probe, {HEAD, *(spec.features for spec in specs)}, compared_layers, attention
    ).build
    teachers = []
    if made_by_teachers and not names:
        fresh = [n for n in getattr(model, "fresh_weights", ()) if n.startswith(_head_prefix(prepared.head))]
        if logits and fresh:
            raise ValueError(
                f"The model's head is new ({fresh[0]} was drawn for this run), so there is nothing that it could "
                "teach. Set teacher to the model whose predictions should be kept: a Hub id or a folder."
            )
        teachers.append(build("the initial model", frozen_copy(model), prepared.label_space.names))
    for i, name in enumerate(names):
        encoder = prepared.teacher_encoders.get(i)
        teacher, labels = load_teacher(name, prepared, logits, attention, encoder or prepared.encoder)
        teachers.append(build(name, teacher, labels, None if encoder is None else i))
    initial_weights = None
    if "trained_weights" in all_inputs:
        copied = teachers[0].model if teachers and not names else None
        initial_weights = InitialWeights(model, prepared.head, copied)
    if compared_layers:
        _check_layers(model, teachers[0], without_other_tokenizations(probe))
    tensors = [t for teacher in teachers for t in teacher.own_tensors(model.parameters())]
    if initial_weights is not None and (names or not teachers):
        tensors += initial_weights.tensors()
    return TeacherSet(
        tuple(teachers),
        initial_weights,
        teacher_rows(made_by_teachers & all_inputs),
        WeightsFingerprint(tensors),
        compared_layers,
        attention,
    )


def load_teacher(
    name: str, prepared: Any, logits: bool, attention: bool, encoder: Any
) -> tuple[nn.Module, tuple[str, ...]]:
    """Teacher by Hub id or folder, frozen, and its labels.

    Args:
        name: a Hub id or a folder.
        prepared: the run's model and data.
        logits: whether its predictions are read.
        attention: whether its attention is read.
        encoder: makes its inputs.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it has no head though its predictions are read, or fewer positions than rows may have.
    """
    task = prepared.label_space.task
    config = pretrained.load_quietly(AutoConfig, name, trust_remote_code=False)
    labels = pretrained.loaded_label_names(SimpleNamespace(config=config)) or tuple(
        f"LABEL_{i}" for i in range(config.num_labels)
    )
    options: dict[str, Any] = {"attn_implementation": "eager"} if attention else {}
    modality = prepared.encoder.modality
    teacher: Any = pretrained.load_model(name, task, labels, modality=modality, **options)
    fresh: Any = getattr(teacher, "fresh_weights", ())
    if logits and fresh:
        raise ValueError(
            f"teacher {name!r} has no trained head for {task} ({fresh[0]} is missing), so it predicts "
            "nothing. Give a model that was trained on labels, or distil its features (of='features')."
        )
    if modality == "text":
        check_tokenizer(encoder.processing_class, teacher)
    positions = getattr(config, "max_position_embeddings", None)
    longest_row = getattr(encoder, "max_length", None)
    if isinstance(positions, int) and isinstance(longest_row, int) and positions < longest_row:
        raise ValueError(
            f"teacher {name!r} has {positions} positions, and rows may be {longest_row} long: set max_length."
        )
    return teacher.requires_grad_(False).eval(), labels


@dataclass
class _TeacherBuilder:
    """Builder of teachers, with what all of a run have in common.

    Args:
        prepared: the run's model and data.
        probe: a small batch.
        feature_layers: that objectives read.
        compared_layers: by the objective's name.
        attention: whether it is compared.
    """

    prepared: Any
    probe: dict[str, Any]
    feature_layers: Iterable[str]
    compared_layers: Mapping[str, Sequence[int]]
    attention: bool

    def build(self, name: str, model: nn.Module, labels: Sequence[str], tokenization: int | None = None) -> Teacher:
        probe = inputs_of(model, self.probe, tokenization)
        head = find_head(model, probe)
        widths = {HEAD: head.in_features} | layer_widths(model, self.feature_layers, probe)
        return Teacher(
            name,
            model,
            head,
            labels,
            self.prepared.label_space.names,
            widths,
            sorted({i for indices in self.compared_layers.values() for i in indices}),
            _stack_widths(model, probe) if self.compared_layers else (),
            self.attention,
            tokenization,
        )


def _stack_widths(model: nn.Module, probe: dict[str, Any]) -> tuple[int, ...]:
    """Width of every layer of the stack."""
    return tuple(layer_widths(model, [f"hidden:{i}" for i in range(len(layer_stack(model)[1]))], probe).values())


def _head_prefix(head: Head) -> str:
    name = head.name.removeprefix("base_model.model.")
    return name.split(".modules_to_save.")[0]


def _check_layers(model: nn.Module, teacher: Teacher, probe: dict[str, Any]) -> None:
    widths = _stack_widths(model, probe)
    if widths != teacher.layer_widths:
        raise ValueError(
            f"delta compares the layers of two models of one shape, but {teacher.name} has layers of width "
            f"{', '.join(map(str, teacher.layer_widths))} and the model of {', '.join(map(str, widths))}. Use "
            "'distill_features' or 'rkd' between different models."
        )


def _show_attention(model: Any, probe: dict[str, Any]) -> None:
    """Attention of a model, switched on in its outputs.

    Raises:
        ValueError: it does not, or only after dropout.
    """
    inner = plain_model(model)
    inner.set_attn_implementation("eager")
    with module_mode(model, training=True), torch.no_grad(), torch.random.fork_rng(devices=[]):
        attentions = getattr(model(**probe, output_attentions=True), "attentions", None)
    if not attentions or attentions[-1] is None or attentions[-1].ndim != 4:
        raise ValueError(f"{type(inner).__name__} does not hand out its attention: distil logits or features.")
    if not torch.allclose(attentions[-1].sum(-1), torch.ones(()), atol=1e-3):
        raise ValueError(
            f"{type(inner).__name__} hands out its attention after dropout, which is no distribution. Switch it off: "
            "model_kwargs={'attention_probs_dropout_prob': 0.0} (in some models 'attention_dropout')."
        )
