"""Teachers: frozen models beside the one that is trained, and what they say of its batches.

A teacher is nobody's child module: it is in no state dict, no optimizer, no DDP and no FSDP wrapping, and never in
what is saved. A run that is resumed makes it again from where it came, and `StartMark` sees to it that it is the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from ...data.text import WORD_MASK, reading_of, without_readings
from ...models import pretrained
from ...models.feature_hook import FeatureHook, Head, find_head
from ...models.layer_hook import HEAD, LayerHook, layer_widths
from ...models.structure import layers
from ...models.tokenizer_check import check_tokenizer
from ...objectives.base import TeacherFacts
from ...objectives.specification import ObjectiveSpec
from .fitting import probe_rows
from .initial_weights import StartMark, StartWeights, frozen_copy

OF_TEACHER = ("teacher_", "layer_pairs", "attention_pairs")  # beginnings of inputs that a teacher makes


@dataclass
class TeacherOutputs:
    """One teacher's forward.

    Args:
        logits: (rows, classes) or (rows, tokens, classes).
        features: by place in the model.
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
        """The same for tagging, where a row is a word that `pick` picks."""
        return replace(self, logits=pick(self.logits), features={k: pick(x) for k, x in self.features.items()})


def asked_rows(part: str, n: int, rows: int) -> slice:
    """All rows of a joint batch with n source rows, or the source's, or the target's."""
    return {"all": slice(0, rows), "source": slice(0, n), "target": slice(n, rows)}[part]


class Teacher:
    """A frozen model in eval mode and its taps.

    Args:
        name: what messages call it.
        model: frozen; it is moved to where its inputs are.
        head: its own.
        labels: its class names, in the order of its logits.
        wanted: the run's class names; logits come in their order if they are the same.
        widths: of its features by place.
        depths: indices of the layers whose maps are wanted.
        layer_widths: of its whole stack, where layers are wanted.
        attention: whether its attention is wanted.
        reading: the number of its own reading of the rows; `None` if it reads the model's tokens.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        head: Head,
        labels: Sequence[str],
        wanted: Sequence[str],
        widths: Mapping[str, int],
        depths: Iterable[int] = (),
        layer_widths: Sequence[int] = (),
        attention: bool = False,
        reading: int | None = None,
    ):
        self.name, self.model, self.head, self.attention, self.reading = name, model, head, attention, reading
        self.widths, self.layer_widths = dict(widths), tuple(layer_widths)
        self.same_labels = sorted(labels) == sorted(wanted)
        order = [list(labels).index(label) for label in wanted] if self.same_labels else range(len(labels))
        self.order = list(order)
        self.labels = tuple(labels[i] for i in self.order)
        self.tap = FeatureHook(model, head)
        self.layer_taps = {where: LayerHook(model, where) for where in widths if where != HEAD}
        self.map_taps = {i: LayerHook(model, f"hidden:{i}") for i in depths}
        self.device: torch.device | None = None

    def facts(self, where: str) -> TeacherFacts:
        """What an objective that reads features at `where` is told."""
        final: Any = self.model.get_submodule(self.head.name)
        weight, bias = (None if x is None else x.detach()[self.order] for x in (final.weight, final.bias))
        assert weight is not None
        return TeacherFacts(
            self.name, self.widths[where], self.labels, self.same_labels, (weight, bias), self.layer_widths
        )

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """Runs rows of a batch through the teacher; autocast is as around the call."""
        device = next(v.device for v in inputs.values() if isinstance(v, torch.Tensor))
        if device != self.device:
            self.model.to(device)
            self.device = device
        read = inputs_of(self.model, inputs, self.reading)
        out = self.model(**read, **({"output_attentions": True} if self.attention else {}))
        head = self.tap.take(read)
        features = {where: tap.take(read, head.ndim == 2) for where, tap in self.layer_taps.items()}
        maps = {i: tap.take_map(read) for i, tap in self.map_taps.items()}
        logits, attention = out.logits[..., self.order], out.attentions[-1] if self.attention else None
        words = None if self.reading is None else reading_of(inputs, self.reading).get(WORD_MASK)
        return TeacherOutputs(logits, {HEAD: head, **features}, maps, attention, words)

    def own_tensors(self, shared: Iterable[nn.Parameter]) -> Iterator[torch.Tensor]:
        """Its parameters that the model does not share."""
        theirs = {id(p) for p in shared}
        return (p for p in self.model.parameters() if id(p) not in theirs)


@dataclass
class Anchors:
    """What the objectives of a run are anchored to: teachers, start weights, or both.

    Args:
        teachers: in the order given; the first is the one that objectives with a single teacher see.
        start: where the weights started, if an objective asks for it.
        part: the rows that teachers are asked about at each step: `"source"`, `"target"`, `"all"`, or nothing.
        mark: for checkpoints.
        depths: indices of the model's layers that are compared, by the objective's name.
        attention: whether attention is compared.
    """

    teachers: tuple[Teacher, ...]
    start: StartWeights | None
    part: str
    mark: StartMark
    depths: dict[str, list[int]]
    attention: bool = False

    def facts(self, where: str) -> list[TeacherFacts]:
        return [teacher.facts(where) for teacher in self.teachers]

    def teach(self, inputs: Mapping[str, Any], n: int, rows: int) -> list[TeacherOutputs]:
        """One forward of each teacher on the rows that are asked about, of a batch with n source rows."""
        if not self.part:
            return []
        asked = asked_rows(self.part, n, rows)
        chosen = {
            k: v[asked] if isinstance(v, torch.Tensor) and v.ndim > 0 and len(v) in (rows, 2 * rows - n) else v
            for k, v in inputs.items()
        }
        return [teacher(chosen) for teacher in self.teachers]


def build_anchors(args: Any, prepared: Any, specs: Sequence[ObjectiveSpec]) -> Anchors | None:
    """The run's teachers and start weights; `None` if no objective asks for either. Made before the model is tapped.

    Raises:
        ValueError, FileNotFoundError: a teacher that is not there, or that cannot teach this run.
    """
    specs = [spec for spec in specs if spec.weight]
    read = {spec.name: set(spec.cls.reads(spec.settings).values()) for spec in specs}
    asked = set().union(*read.values())
    names = args.teacher_names()
    of_teacher = needs_of(specs) | lessons_of(specs)
    if names and not of_teacher:
        raise ValueError(
            f"teacher={args.teacher!r} has no effect: no objective listens to a teacher. Add one, such as "
            "'distill_logits'."
        )
    if not of_teacher and "moved_weights" not in asked:
        return None
    model, probe = prepared.model, probe_rows(prepared)
    attention = "attention_pairs" in asked
    if attention:
        _show_attention(model, without_readings(probe))
    logits = any("logits" in need for need in of_teacher)
    places = {HEAD, *(spec.features for spec in specs)}
    comparing = [spec for spec in specs if "layer_pairs" in read[spec.name]]
    depths = {s.name: s.cls.depths(s.settings, len(layers(model)[1])) for s in comparing}
    made = []
    if of_teacher and not names:
        fresh = [n for n in getattr(model, "fresh_weights", ()) if n.startswith(_head_prefix(prepared.head))]
        if logits and fresh:
            raise ValueError(
                f"The model's head is new ({fresh[0]} was drawn for this run), so there is nothing that it could "
                "teach. Set teacher to the model whose predictions should be kept: a Hub id or a folder."
            )
        copied = frozen_copy(model)
        made.append(_teacher("the start", copied, prepared, prepared.space.names, probe, places, depths, attention))
    for i, name in enumerate(names):
        read_by = prepared.teacher_encoders.get(i)
        other, labels = load_teacher(name, prepared, logits, attention, read_by or prepared.encoder)
        number = None if read_by is None else i
        made.append(_teacher(name, other, prepared, labels, probe, places, depths, attention, number))
    start = None
    if "moved_weights" in asked:
        kept = made[0].model if made and not names else None
        start = StartWeights(model, prepared.head, kept)
    if depths:
        _check_layers(model, made[0], without_readings(probe))
    held = [t for teacher in made for t in teacher.own_tensors(model.parameters())]
    mark = StartMark([*held, *(start.tensors() if start is not None and (names or not made) else ())])
    return Anchors(tuple(made), start, rows_asked_of(of_teacher & asked), mark, depths, attention)


def needs_of(specs: Iterable[ObjectiveSpec]) -> set[str]:
    """The inputs of objectives that a teacher makes."""
    needs = {need for spec in specs for need in spec.cls.reads(spec.settings).values()}
    return {need for need in needs if need.startswith(OF_TEACHER)}


def lessons_of(specs: Iterable[ObjectiveSpec]) -> set[str]:
    """What objectives learn from a teacher before training."""
    lessons = {lesson for spec in specs for lesson in spec.cls.learns(spec.settings)}
    return {lesson for lesson in lessons if lesson.startswith(OF_TEACHER)}


def load_teacher(
    name: str, prepared: Any, logits: bool, attention: bool, read_by: Any
) -> tuple[nn.Module, tuple[str, ...]]:
    """A teacher by Hub id or folder, frozen, and its labels.

    Args:
        name: where it is.
        prepared: the run's model and data.
        logits: its predictions are wanted.
        attention: its attention is wanted.
        read_by: the encoder that makes its inputs.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it has no head though its predictions are wanted, or fewer positions than rows may have.
    """
    task = prepared.space.task
    config = pretrained.load_as(AutoConfig, name, trust_remote_code=False)
    labels = pretrained.head_names(SimpleNamespace(config=config)) or tuple(
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
        check_tokenizer(read_by.processing_class, teacher)
    positions = getattr(config, "max_position_embeddings", None)
    longest = getattr(read_by, "max_length", None)
    if isinstance(positions, int) and isinstance(longest, int) and positions < longest:
        raise ValueError(
            f"teacher {name!r} has {positions} positions, and rows may be {longest} long: set max_length."
        )
    return teacher.requires_grad_(False).eval(), labels


def _teacher(
    name: str,
    model: nn.Module,
    prepared: Any,
    labels: Sequence[str],
    probe: dict[str, Any],
    places: Iterable[str],
    depths: Mapping[str, Sequence[int]],
    attention: bool,
    number: int | None = None,
) -> Teacher:
    probe = inputs_of(model, probe, number)
    head = find_head(model, probe)
    widths = {HEAD: head.in_features} | layer_widths(model, places, probe)
    whole = [f"hidden:{i}" for i in range(len(layers(model)[1]))] if depths else []
    found = layer_widths(model, whole, probe)
    compared = sorted({i for indices in depths.values() for i in indices})
    stack = [found[w] for w in whole]
    return Teacher(name, model, head, labels, prepared.space.names, widths, compared, stack, attention, number)


def inputs_of(model: Any, batch: Mapping[str, Any], number: int | None = None) -> dict[str, Any]:
    """What a model takes of a batch, out of its own reading if that has a number."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = inspect.signature(inner.forward).parameters
    return {k: v for k, v in (batch if number is None else reading_of(batch, number)).items() if k in names}


def rows_asked_of(needs: Iterable[str]) -> str:
    """The rows that teachers are asked about; nothing if there is no need of them."""
    of = {"source" if "_source_" in n else "target" if "_target_" in n else "all" for n in needs}
    return of.pop() if len(of) == 1 else "all" if of else ""


def _head_prefix(head: Head) -> str:
    name = head.name.removeprefix("base_model.model.")
    return name.split(".modules_to_save.")[0]


def _check_layers(model: nn.Module, teacher: Teacher, probe: dict[str, Any]) -> None:
    own = layer_widths(model, [f"hidden:{i}" for i in range(len(layers(model)[1]))], probe)
    if tuple(own.values()) != teacher.layer_widths:
        raise ValueError(
            f"delta compares the layers of two models of one shape, but {teacher.name} has layers of width "
            f"{', '.join(map(str, teacher.layer_widths))} and the model of {', '.join(map(str, own.values()))}. Use "
            "'distill_features' or 'rkd' between different models."
        )


def _show_attention(model: Any, probe: dict[str, Any]) -> None:
    """Makes the model hand out its attention.

    Raises:
        ValueError: it does not, or only after dropout.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation("eager")
    was = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = getattr(model.train()(**probe, output_attentions=True), "attentions", None)
    finally:
        model.train(was)
    if not found or found[-1] is None or found[-1].ndim != 4:
        raise ValueError(f"{type(inner).__name__} does not hand out its attention: distil logits or features.")
    if not torch.allclose(found[-1].sum(-1), torch.ones(()), atol=1e-3):
        raise ValueError(
            f"{type(inner).__name__} hands out its attention after dropout, which is no distribution. Switch it off: "
            "model_kwargs={'attention_probs_dropout_prob': 0.0} (in some models 'attention_dropout')."
        )
