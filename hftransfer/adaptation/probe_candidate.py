"""Linear probe as a candidate: the frozen backbone, with a final layer fitted on labelled rows' features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.column_arrays import number_column
from ..data.weight_column import ROW_WEIGHT
from ..selection.transferability.linear_probe import Probe, fit_probe
from ..selection.transferability.probe_strength import cross_validated_strength
from ..trainers.prediction_pass import predict_rows
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.setup.row_weights import weights_in_order

MOST_ROWS = 20_000  # of the source that a probe is fitted on: more change it little, and cost a pass
DRAW_SEED = 23  # of those rows, where there are more
NO_FEATURES = "probe: the model of this run is to be trained from scratch, and has no features yet. Name a checkpoint."


@dataclass(frozen=True)
class ProbeRows:
    """Labelled rows that a linear probe is fitted on; in tagging, words.

    Args:
        features: (n, d), what the final layer reads.
        labels: (n,) class ids.
        weights: (n,) what each counts.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def source_rows(trainer: Any) -> ProbeRows:
    """Source rows of a trainer with their features; no image of them is augmented.

    Rows count what `weight`, `source_weights` and `class_weights` say. Of more than `MOST_ROWS`, in tagging words, so
    many are drawn.

    Args:
        trainer: an `AdaptationTrainer` on the backbone, not trained. All processes call it.

    Raises:
        ValueError: below the final layer there are new weights, so that its features mean nothing, or it has no bias.
    """
    prepared, args, model = trainer.prepared, trainer.args, trainer.model
    _check_head(model, prepared.head.name)
    names, sources = list(prepared.label_space.names), prepared.source_names
    of_class = np.array(weights_in_order("class_weights", args.class_weight_map(), names) or np.ones(len(names)))
    of_source = weights_in_order("source_weights", args.source_weight_map(), sources) or [1.0] * len(sources)
    share = min(1.0, MOST_ROWS / sum(prepared.train.source_sizes))
    parts: list[ProbeRows] = []
    for weight, rows in zip(of_source, prepared.train.domain_rows, strict=False):
        wanted = max(1, round(share * len(rows)))
        found = predict_rows(trainer, rows, wanted, DRAW_SEED, features=prepared.head.in_features)
        assert found.features is not None
        assert found.labels is not None
        counted = number_column(rows, ROW_WEIGHT) if ROW_WEIGHT in rows.column_names else np.ones(len(rows))
        parts.append(ProbeRows(found.features, found.labels, weight * counted[found.rows] * of_class[found.labels]))
    joined = _joined(parts)
    kept = np.sort(np.random.default_rng(DRAW_SEED).permutation(len(joined.labels))[:MOST_ROWS])
    return ProbeRows(joined.features[kept], joined.labels[kept], joined.weights[kept])


def source_strength(trainer: Any, source: ProbeRows) -> float:
    """C of the probes on a source's rows, cross-validated on them.

    Args:
        trainer: that the rows are of. All processes call it, and get the same.
        source: the rows.
    """
    features = source.features.astype(np.float64)
    return decided_by_first(
        lambda: cross_validated_strength(features, source.labels, source.weights), trainer.args.world_size
    )


def fitted_probe(trainer: Any, rows: Sequence[ProbeRows], strength: float) -> Probe:
    """Linear probe on rows of several kinds, each of which counts as much as the others in all.

    Args:
        trainer: that the rows are of. All processes call it, and get the same.
        rows: of each kind.
        strength: C, see `source_strength`.
    """

    def fit() -> Probe:
        joined = _joined([ProbeRows(part.features, part.labels, part.weights / part.weights.sum()) for part in rows])
        weights = joined.weights / joined.weights[joined.weights > 0].mean()
        classes = len(trainer.prepared.label_space.names)
        return fit_probe(joined.features.astype(np.float64), joined.labels, classes, weights, strength)

    return decided_by_first(fit, trainer.args.world_size)


def save_probe(trainer: Any, probe: Probe, folder: Path) -> None:
    """Plain model whose final layer is a linear probe, and whose backbone is as it was.

    Args:
        trainer: an `AdaptationTrainer` on the backbone, not trained.
        probe: on what its final layer reads.
        folder: that does not exist. All processes call it.

    Paper: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022.
    """
    linear = trainer.model.get_submodule(trainer.prepared.head.name)
    weight = probe.weights / probe.scale
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(probe.bias - weight @ probe.mean))
    trainer.save_model(str(folder), _internal_call=True)


def _check_head(model: Any, head: str) -> None:
    new = [name for name in getattr(model, "fresh_weights", ()) if not name.startswith(f"{head}.")]
    if new:
        raise ValueError(
            f"A probe reads features of a checkpoint, and {new[0].rpartition('.')[0]} below the final layer is new. "
            "Leave the probe out, or name a checkpoint that was trained with such a head."
        )
    if model.get_submodule(head).bias is None:
        raise ValueError("A probe has a bias, and the final layer of this model has none. Leave the probe out.")


def _joined(parts: Sequence[ProbeRows]) -> ProbeRows:
    return ProbeRows(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("features", "labels", "weights")))
