"""Assembly of the joint model from settings and prepared data."""

from __future__ import annotations

from ...objectives.specification import build_objectives
from ..config import AdaptationConfig
from ..step.chunked_forward import check_chunks
from ..step.forward_chain import build_forward
from ..step.joint_model import JointModel
from ..step.objective_set import ObjectiveSet
from ..step.per_domain_forward import check_per_domain
from ..step.perturbed_forward import check_perturbed_forward
from ..step.strong_views import build_strong_views
from ..step.task_loss import TaskLoss
from ..teachers.build import build_teachers
from ..teachers.weight_average import build_weight_average
from .batch_norm_setting import build_mix
from .label_shift import build_label_shift
from .masked_words import build_word_hiding, fill_heads, vocabulary_facts
from .objective_check import check_task
from .preparation import Prepared
from .published_encoder_check import check_published_encoder
from .row_weights import weights_in_order


def build_joint_model(args: AdaptationConfig, prepared: Prepared) -> JointModel:
    """Joint model of a run: teachers, objectives, task loss and forward, checked against model and data.

    Raises:
        ValueError, FileNotFoundError: settings that this model or data cannot follow, or a teacher that is not there.
    """
    model = prepared.model
    check_chunks(model, args.forward_rows, args.batch_norm)
    check_per_domain(model, args.forward_by_domain, args.batch_norm)
    specs = args.objective_specs()
    check_task(specs, prepared.label_space)
    check_perturbed_forward(prepared, args)
    word_hiding = build_word_hiding(prepared, args, specs)
    strong_views = build_strong_views(args, prepared)
    teachers = build_teachers(args, prepared, specs)
    weight_average = build_weight_average(model, args, specs)
    modules, schedules = build_objectives(
        specs,
        prepared.feature_widths,
        len(prepared.label_space.names),
        len(prepared.source_names),
        prepared.label_space.names,
        prepared.label_space.task,
        (lambda layer: ()) if teachers is None else teachers.facts,
        None if word_hiding is None else vocabulary_facts(model),
    )
    fill_heads(model, modules.values())
    check_published_encoder(model, prepared.head.name, modules, specs)
    specs = [spec for spec in specs if spec.name in modules]
    objectives = ObjectiveSet(
        modules, {s.name: s.weight for s in specs}, schedules, {s.name: s.features for s in specs}
    )
    task_loss = TaskLoss(
        prepared.label_space.task,
        label_smoothing=args.label_smoothing_factor,
        weight=args.task_weight,
        source_weights=weights_in_order("source_weights", args.source_weight_map(), prepared.source_names),
        class_weights=_class_weights(args, prepared),
        label_shift=build_label_shift(args, prepared),
        weighs_classes=args.label_shift_task == "weights",
        weighs_rows=prepared.weighs_rows,
    )
    forward = build_forward(
        model,
        prepared.head,
        objectives,
        teachers,
        chunk_rows=args.forward_rows,
        batch_norm=args.batch_norm,
        batch_norm_mix=build_mix(model, args),
        per_domain=args.forward_by_domain,
        strong_views=strong_views,
    )
    return JointModel(
        model,
        prepared.head,
        task_loss,
        objectives,
        forward=forward,
        teachers=teachers,
        weight_average=weight_average,
        word_hiding=word_hiding,
    )


def _class_weights(args: AdaptationConfig, prepared: Prepared) -> list[float]:
    """Weights by class; nothing if all count 1."""
    weights, space = args.class_weight_map(), prepared.label_space
    if weights and space.is_float:
        raise ValueError(f"class_weights needs one class a row; {space.task} has none.")
    if weights and args.label_shift != "none" and args.label_shift_task == "weights":
        raise ValueError(
            f"class_weights and label_shift={args.label_shift!r} both say what a class counts: leave one out, or set "
            "label_shift_task to 'bias' or 'none'."
        )
    return weights_in_order("class_weights", weights, space.names)
