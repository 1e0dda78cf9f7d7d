"""What a run would do, as plain facts."""

from __future__ import annotations

import math
from typing import Any

from ..data.pairing import PairedBatchSampler, PairedDataset
from .config import AdaptationConfig
from .preparation import Prepared


def plan(args: AdaptationConfig, prepared: Prepared) -> dict[str, Any]:
    """Sizes, labels, what moves, objectives, steps and where the result goes, without training.

    Args:
        args: the run's settings.
        prepared: from `prepare`.

    Returns:
        Rows of a two-column table, in order.
    """
    train = prepared.train
    rows: dict[str, Any] = {"task": prepared.space.task, "labels": ", ".join(prepared.space.names)}
    chunks = args.world_size * args.gradient_accumulation_steps
    if isinstance(train, PairedDataset):
        for name, size in zip(prepared.source_names, train.source_sizes, strict=True):
            rows[f"source {name}"] = f"{size:,} labelled rows"
        rows["target"] = f"{train.num_target:,} unlabelled rows" if train.num_target else "none"
        sampler = PairedBatchSampler(
            train, args.per_device_train_batch_size, args.target_ratio, chunks, args.epoch_by, args.balance_sources
        )
        epochs = args.num_train_epochs
        steps = args.max_steps if args.max_steps > 0 else math.ceil(epochs * sampler.updates)
        rows["batch"] = f"{sampler.source_rows} source + {sampler.target_rows} target rows, x {chunks} an update"
        rows["steps"] = f"{steps:,} updates ({sampler.updates:,} an epoch)"
    else:
        rows["source"], rows["target"] = ", ".join(prepared.source_names) + " (streams)", "a stream"
        rows["steps"] = f"{args.max_steps:,} updates"
    for name, part in (prepared.evaluation or {}).items():
        labelled = "labelled" if "labels" in (part.column_names or []) else "unlabelled"
        rows[f"evaluation {name}"] = f"{len(part):,} {labelled} rows" if hasattr(part, "__len__") else "a stream"
    rows["what moves"] = str(prepared.policy)
    rows["features"] = f"{prepared.head.in_features} wide, into {prepared.head.name}"
    specs = args.objective_specs()
    rows["objectives"] = "\n".join(f"{s.name}: {s}" for s in specs) or "none: source only"
    if args.label_shift != "none":
        rows["label shift"] = f"{args.label_shift}; the task: {args.label_shift_task}"
    if args.source_weights:
        rows["source weights"] = ", ".join(f"{k} {v:g}" for k, v in args.source_weight_map().items())
    rows["saved to"] = str(args.output_dir)
    return rows
