"""Assembly of the joint model: settings and prepared data in, the module that is trained out."""

from __future__ import annotations

from ...objectives.specification import build_objectives
from ..config import AdaptationConfig
from ..step.chunked_forward import check_chunks
from ..step.joint_model import JointModel
from ..step.per_domain_forward import check_turns
from ..step.perturbed_forward import check_rerun
from ..teachers.teacher import build_anchors
from .batch_norm import build_mix
from .label_shift import build_label_shift
from .objective_check import check_task
from .preparation import Prepared
from .source_weights import weights_in_order


def build_joint_model(args: AdaptationConfig, prepared: Prepared) -> JointModel:
    """The run's `JointModel`: teachers, objectives, task loss and forward, checked against model and data.

    Raises:
        ValueError, FileNotFoundError: settings that this model or data cannot follow, or a teacher that is not there.
    """
    check_chunks(prepared.model, args.forward_rows, args.batch_norm)
    check_turns(prepared.model, args.forward_by_domain, args.batch_norm)
    specs = args.objective_specs()
    check_task(specs, prepared.space)
    check_rerun(prepared, args)
    anchors = build_anchors(args, prepared, specs)
    objectives, schedules = build_objectives(
        specs,
        prepared.feature_widths,
        len(prepared.space.names),
        len(prepared.source_names),
        prepared.space.names,
        prepared.space.task,
        (lambda where: ()) if anchors is None else anchors.facts,
    )
    return JointModel(
        prepared.model,
        prepared.head,
        objectives,
        {s.name: s.weight for s in specs},
        schedules,
        prepared.space.task,
        args.label_smoothing_factor,
        args.batch_norm,
        {s.name: s.features for s in specs if s.name in objectives},
        weights_in_order(args.source_weight_map(), prepared.source_names),
        build_label_shift(args, prepared),
        args.label_shift_task == "weights",
        args.task_weight,
        anchors,
        args.forward_rows,
        build_mix(prepared.model, args),
        args.forward_by_domain,
    )
