"""Plan of a run: sizes, steps, and the learning rate of each block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...cpu_threads import cores, describe_device
from ...data.column_arrays import number_column
from ...data.domain_summary import DomainSummary
from ...data.label_space import LabelSpace
from ...data.pairing import PairedDataset
from ...data.weight_column import ROW_WEIGHT, WEIGHT
from ...embeddings.instances.weight_corrections import effective_sample_size
from ...models.adapters import is_peft
from ...models.parameter_blocks import Block, split_into_blocks
from ...models.parameter_sets import bias_parameters, norm_parameters
from ...reporting.tables import PolicyRow, print_facts, print_policy_rows
from ..config import AdaptationConfig
from ..trainer_access import joint_model_of
from .learning_rate_check import rates_of
from .preparation import Prepared
from .sampling import paired_sampler, planned_updates
from .unfreezing import Phases, build_phases

SHOWN_CLASSES = 10  # shown with their counts, the commonest first
WORTHWHILE_SAVING = (
    0.15  # of the tokens: padding that a second call of the model would have to save before the plan says so
)


def plan(
    args: AdaptationConfig, prepared: Prepared, summaries: Mapping[str, DomainSummary] | None = None
) -> dict[str, Any]:
    """Plan of a run: sizes, labels, what trains, objectives, steps and where the result goes.

    Args:
        args: the run's settings.
        prepared: from `prepare`.
        summaries: what was read, by domain, where the recipe read it: `load_shift(...).summaries`.

    Returns:
        Rows of a two-column table, in order.
    """
    train = prepared.train
    task = prepared.encoder.task_name(prepared.label_space.task)
    rows: dict[str, Any] = {"task": task, "labels": ", ".join(prepared.label_space.names)}
    chunks = args.world_size * args.gradient_accumulation_steps
    if isinstance(train, PairedDataset):
        for name, size, rows_of_domain in zip(
            prepared.source_names, train.source_sizes, train.domain_rows, strict=False
        ):
            rows[_source(name)] = f"{size:,} labelled rows\n{label_counts(rows_of_domain, prepared.label_space)}"
        rows["target"] = f"{train.num_target:,} unlabelled rows" if train.num_target else "none"
        sampler = paired_sampler(train, args)
        rows["batch"] = f"{sampler.source_rows} source + {sampler.target_rows} target rows, x {chunks} an update"
        rows["steps"] = f"{_updates(planned_updates(sampler, args))} ({sampler.updates:,} an epoch)"
        if (padding := sampler.padding()) is not None:
            rows["padding"] = _padding(*padding, args.forward_by_domain)
    else:
        rows["sources"], rows["target"] = ", ".join(prepared.source_names) + " (streams)", "a stream"
        rows["steps"] = _updates(args.max_steps)
    for name, summary in (summaries or {}).items():
        row = name if name == "target" or name.startswith("test of ") else _source(name)
        lines = summary.lines(_columns_read(args, prepared, summary.columns, with_label=name != "target"))
        rows[row] = "\n".join([*([rows[row]] if row in rows else []), *lines])
    for name, rows_of_domain in (prepared.evaluation or {}).items():
        labelled = "labelled" if "labels" in (rows_of_domain.column_names or []) else "unlabelled"
        rows[f"evaluation {name}"] = (
            f"{len(rows_of_domain):,} {labelled} rows" if hasattr(rows_of_domain, "__len__") else "a stream"
        )
    rows["what trains"] = "\n".join([str(prepared.trainable), *prepared.trainable.notes])
    if (phases := _phases(args, prepared, split_into_blocks(prepared.model, prepared.head))) is not None:
        rows["what trains when"] = str(phases)
    if args.cache_frozen_layers != "none":
        rows["frozen layers"] = (
            f"computed once, kept in {args.cache_frozen_layers}, {args.frozen_cache_gb:g} GB at most"
        )
    rows["features"] = f"{prepared.head.in_features} wide, into {prepared.head.name}"
    specs = args.objective_specs()
    rows["objectives"] = "\n".join(f"{s.name}: {s}" for s in specs) or "none: source only"
    if args.teacher:
        rows["teacher"] = ", ".join(args.teacher_names())
    if args.label_shift != "none":
        rows["label shift"] = f"{args.label_shift}; the task: {args.label_shift_task}"
    if args.source_weights:
        rows["source weights"] = ", ".join(f"{k} {v:g}" for k, v in args.source_weight_map().items())
    if prepared.weighs_rows:
        rows["row weights"] = "\n".join(_row_weights(prepared) + _unweighted_objectives(args))
    if args.class_weights:
        rows["class weights"] = ", ".join(f"{k} {v:.3g}" for k, v in args.class_weight_map().items())
    rows["runs on"] = describe_device(args.device.type, args.world_size, torch.get_num_threads(), cores())
    rows["saved to"] = str(args.output_dir)
    return rows


def print_plan(
    run: Any, args: AdaptationConfig | None = None, summaries: Mapping[str, DomainSummary] | None = None
) -> None:
    """Plan of a run and table of the model's blocks, printed: how many parameters train, how and how fast.

    Args:
        run: an `AdaptationTrainer`, or what `prepare` returned.
        args: with what `prepare` returned, its settings.
        summaries: what was read, by domain: `load_shift(...).summaries`.

    Example:
        >>> print_plan(trainer)
    """
    prepared = run if isinstance(run, Prepared) else run.prepared
    print_facts(plan(run.args if args is None else args, prepared, summaries), "Plan")
    print_policy(run, args, title="Blocks")


def print_policy(model: Any, args: AdaptationConfig | None = None, title: str | None = None) -> None:
    """Table of a model's blocks, printed: how many parameters of each train, how and how fast.

    Args:
        model: a model, plain or PEFT-wrapped, as it stands; an `AdaptationTrainer`; or what `prepare` returned.
        args: with what `prepare` returned, the settings that rates are read off.
        title: above the table; what trains in a line, when absent.

    Raises:
        TypeError: it is none of these.

    Example:
        >>> print_policy(trainer)
    """
    print_policy_rows(policy_rows(model, args), title or str(_trainable(model) or type(model).__name__))


def policy_rows(model: Any, args: AdaptationConfig | None = None) -> list[PolicyRow]:
    """Rows of the table of `print_policy`; neighbouring layers that do not differ share one."""
    if isinstance(model, Prepared):
        blocks = split_into_blocks(model.model, model.head)
        phases = None if args is None else _phases(args, model, blocks)
        return _rows(model.model, blocks, model.trainable.names, args, phases)
    if isinstance(model, nn.Module):
        trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        return _rows(model, split_into_blocks(model), frozenset(trainable), None, None)
    if not hasattr(model, "prepared"):
        raise TypeError(f"print_policy takes a model or a trainer, not {type(model).__name__}.")
    joint = joint_model_of(model)
    rows = _rows(joint.model, model.blocks, model.trainable.names, model.args, model.phases)
    sizes = [p.numel() for p in joint.objectives.parameters()]
    if sizes:
        rate, decay = model.args.learning_rate * model.args.objective_lr_multiplier, model.args.weight_decay
        rows.append(
            PolicyRow("objectives", sum(sizes), sum(sizes), rate, decay, "full", "start" if model.phases else "")
        )
    return rows


def _columns_read(args: AdaptationConfig, prepared: Prepared, columns: Collection[str], with_label: bool) -> set[str]:
    """Columns of a domain that a run reads."""
    label = {args.label_column} if with_label else set()
    if with_label and prepared.weighs_rows:
        label.add(args.weight_column or WEIGHT)
    if prepared.encoder.modality == "image":
        return {args.image_column} | label
    text = args.text_column or "text"
    if prepared.label_space.task == "token-classification" or text not in columns:
        text = args.tokens_column
    return {text, args.text_pair_column or text} | label


def label_counts(rows: Any, label_space: LabelSpace) -> str:
    """Label counts of a source in a line: classes with their counts, or the range of scores.

    Args:
        rows: encoded rows, with `labels`.
        label_space: the run's labels.
    """
    if label_space.task == "token-classification":
        tags = np.concatenate([np.asarray(row) for row in rows["labels"]])
        counts = np.bincount(tags[tags >= 0], minlength=len(label_space.names))
    else:
        labels = number_column(rows, "labels")
        if label_space.task == "regression":
            return f"scores from {np.nanmin(labels):.4g} to {np.nanmax(labels):.4g}, mean {np.nanmean(labels):.4g}"
        several = label_space.task == "multi-label-classification"
        counts = np.nansum(labels, 0).astype(int) if several else np.bincount(labels, minlength=len(label_space.names))
    order = np.argsort(-counts, kind="stable")
    pairs = [f"{label_space.names[k]} {counts[k]:,}" for k in order[:SHOWN_CLASSES]]
    others = f" and {len(order) - SHOWN_CLASSES:,} more" if len(order) > SHOWN_CLASSES else ""
    return f"{len(order):,} classes: {', '.join(pairs)}{others}"


def _unweighted_objectives(args: AdaptationConfig) -> list[str]:
    """A line on objectives that read source rows without their weights."""
    readers = {"features", "logits", "source_features", "source_logits", "source_labels"}
    names = [
        spec.name
        for spec in args.objective_specs()
        if spec.weight and readers & set(spec.cls.needs()) and "source_weights" not in spec.cls.needs()
    ]
    return [f"{', '.join(names)}: count all rows alike"] if names else []


def _row_weights(prepared: Prepared) -> list[str]:
    """Weights of the rows of each source, in a line each."""
    lines = []
    for i, name in enumerate(prepared.source_names):
        if not isinstance(prepared.train, PairedDataset):
            lines.append(f"{_source(name)}: read as the stream goes")
            continue
        encoded = prepared.train.domain_rows[i]
        if ROW_WEIGHT not in encoded.column_names:
            lines.append(f"{_source(name)}: 1 each")
            continue
        weights = number_column(encoded, ROW_WEIGHT)
        share = effective_sample_size(weights) / len(weights)
        lines.append(
            f"{_source(name)}: from {weights.min():.3g} to {weights.max():.3g}, mean {weights.mean():.3g}, worth "
            f"{100 * share:.0f} % of the rows"
        )
    return lines


def _source(name: str) -> str:
    return name if name == "source" else f"source {name}"


def _updates(count: int) -> str:
    return f"{count:,} update{'s' * (count != 1)}"


def _padding(together: float, apart: float, by_domain: bool) -> str:
    if by_domain:
        return f"{100 * apart:.0f} % of the tokens ({100 * together:.0f} % if both domains ran together)"
    hint = f"; {100 * apart:.0f} % with forward_by_domain" if together - apart >= WORTHWHILE_SAVING else ""
    return f"{100 * together:.0f} % of the tokens{hint}"


def _rows(
    model: nn.Module,
    blocks: Sequence[Block],
    trainable: Collection[str],
    args: AdaptationConfig | None,
    phases: Phases | None,
) -> list[PolicyRow]:
    parameters, norms = dict(model.named_parameters()), norm_parameters(model)
    rows: list[PolicyRow] = []
    for block in blocks:
        names = [name for name in block.parameters if name in parameters]  # a tensor counts where it stands first
        trained = [name for name in names if name in trainable]
        rate = None if args is None or not trained else args.learning_rate * rates_of(args).of(block)
        decays = set(trained) - norms - bias_parameters(trained)
        decay = None if args is None or not trained else args.weight_decay if decays else 0.0
        total, count = (sum(parameters[name].numel() for name in of_block) for of_block in (names, trained))
        starts = phases.starts(block) if phases is not None and trained else ""
        if names:
            method = _method(model, names, trained, norms)
            rows.append(PolicyRow(block.name, total, count, rate, decay, method, starts))
    return _joined(rows)


def _method(model: Any, names: Sequence[str], trained: Sequence[str], norms: Collection[str]) -> str:
    """Training method of a block, in a word."""
    if not trained:
        return "frozen"
    copied = any("modules_to_save." in name for name in trained)
    if len(trained) == len(names) or (copied and {n for n in names if "original_module." not in n} <= set(trained)):
        return "full"
    if is_peft(model):
        return str(model.active_peft_config.peft_type.value).lower()
    if set(trained) <= set(norms):
        return "norms"
    return "biases" if bias_parameters(trained) == set(trained) else "part"


def _joined(rows: Sequence[PolicyRow]) -> list[PolicyRow]:
    """Runs of layers that differ in their number alone, each as one row with the sums."""
    joined: list[PolicyRow] = []
    ends: list[tuple[PolicyRow, int]] = []  # the last layer in each row of `joined`, and how many are in it
    for row in rows:
        last, count = ends[-1] if ends else (None, 0)
        if last is not None and _follows(last, row):
            first_name = joined[-1].name.split("–")[0]
            name = f"{first_name}–{row.name.rpartition('.')[2]}"
            joined[-1] = row._replace(name=name, total=row.total * (count + 1), trainable=row.trainable * (count + 1))
            ends[-1] = (row, count + 1)
        else:
            joined.append(row)
            ends.append((row, 1))
    return joined


def _follows(last: PolicyRow, row: PolicyRow) -> bool:
    (stack, _, i), (same, _, j) = last.name.rpartition("."), row.name.rpartition(".")
    return stack == same and i.isdigit() and j == str(int(i) + 1) and last._replace(name="") == row._replace(name="")


def _phases(args: AdaptationConfig, prepared: Prepared, blocks: Sequence[Block]) -> Phases | None:
    epochs = isinstance(prepared.train, PairedDataset)
    return build_phases(args, prepared.model, blocks, prepared.trainable.names, epochs)


def _trainable(model: Any) -> Any:
    return getattr(model, "trainable", None) if not isinstance(model, nn.Module) else None
