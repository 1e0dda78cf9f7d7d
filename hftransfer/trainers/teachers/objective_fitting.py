"""Fitting of objectives to labelled rows before training, and labelled rows to probe a model with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ...data.pairing import FROZEN_STATES, PairedDataset
from ...data.text_encoder import WORD_MASK
from ..config import AdaptationConfig
from .paired_layer_outputs import positions_of

MOST_ROWS, MOST_STREAM_ROWS = 4096, 1024  # labelled rows that objectives are fitted to
NOT_MODEL_INPUTS = ("labels", "domain", "num_source", WORD_MASK, FROZEN_STATES)  # of a batch: what is no model input


def probe_rows(prepared: Any, rows: int = 2) -> dict[str, Any]:
    """Model inputs of the first labelled rows."""
    batch = next(labelled_batches(prepared, rows, rows))
    return {k: v for k, v in batch.items() if k not in NOT_MODEL_INPUTS}


def labelled_batches(prepared: Any, max_rows: int, size: int) -> Iterator[dict[str, Any]]:
    """Batches of `size` source rows, `max_rows` in all, evenly spaced; a stream's first ones."""
    train = prepared.train
    if isinstance(train, PairedDataset):
        step = max(1, -(-train.num_source // max_rows))
        chosen = list(range(0, train.num_source, step))
        for i in range(0, len(chosen), size):
            yield prepared.collator(train.__getitems__(chosen[i : i + size]))
        return
    stream, count = iter(train), 0
    while count < min(max_rows, MOST_STREAM_ROWS):
        pairs = [next(stream)["pair"][0] for _ in range(min(size, max_rows - count))]
        yield prepared.collator(pairs)
        count += len(pairs)


@torch.no_grad()
def fit_objectives(joint_model: Any, prepared: Any, args: AdaptationConfig) -> None:
    """Fitting of objectives, as they ask for it, to labelled rows and the first teacher's outputs on them.

    Every process reads the same rows, so all fit the same.
    """
    objectives, teachers, size = joint_model.objectives, joint_model.teachers, args.per_device_eval_batch_size
    specs = [spec for spec in args.objective_specs() if spec.name in objectives]
    fit_inputs = {s.name: names for s in specs if (names := s.cls.fit_inputs(s.settings))}
    if not fit_inputs:
        return
    device = next(prepared.model.parameters()).device
    teacher = teachers.all[0]
    labels, logits = [], []
    layers: dict[int, list[torch.Tensor]] = {i: [] for i in teacher.compared_layer_hooks}
    for batch in labelled_batches(prepared, MOST_ROWS, size):
        inputs = {
            k: v.to(device) if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
            if k not in NOT_MODEL_INPUTS
        }
        outputs = teacher(inputs)
        is_tagging = WORD_MASK in batch  # a row is then a token; those where no word begins have no label
        labels.append(batch["labels"].flatten().to(device))
        logits.append(outputs.logits.flatten(0, -2).float())
        for i, x in outputs.layers.items():
            pooled = (x * positions_of(inputs, x).unsqueeze(-1)).sum(1)
            layers[i].append((x.flatten(0, 1) if is_tagging else pooled).float())
    values: dict[str, Any] = {"labels": torch.cat(labels), "teacher_logits": torch.cat(logits)}
    for name, names in fit_inputs.items():
        objective: Any = objectives[name]
        if "teacher_layers" in names:
            values["teacher_layers"] = [torch.cat(layers[i]) for i in teachers.compared_layers[name]]
        objective.fit(**{input_name: values[input_name] for input_name in names})
