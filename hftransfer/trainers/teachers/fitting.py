"""Labelled rows outside the steps: to probe a model with, and for what is learned from a teacher before training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ...data.pairing import PairedDataset
from ...data.text import WORD_MASK
from .layer_pairs import positions_of

MOST_ROWS, MOST_OF_A_STREAM = 4096, 1024  # labelled rows that are learned from before training
ASIDE = ("labels", "domain", "num_source", WORD_MASK)  # of a batch: what is no model input


def probe_rows(prepared: Any, rows: int = 2) -> dict[str, Any]:
    """Model inputs of the first labelled rows."""
    batch = next(labelled_batches(prepared, rows, rows))
    return {k: v for k, v in batch.items() if k not in ASIDE}


def labelled_batches(prepared: Any, most: int, size: int) -> Iterator[dict[str, Any]]:
    """Batches of `size` source rows, `most` in all, evenly spaced; a stream's first ones."""
    train = prepared.train
    if isinstance(train, PairedDataset):
        step = max(1, -(-train.num_source // most))
        chosen = list(range(0, train.num_source, step))
        for i in range(0, len(chosen), size):
            yield prepared.collator(train.__getitems__(chosen[i : i + size]))
        return
    reader, seen = iter(train), 0
    while seen < min(most, MOST_OF_A_STREAM):
        pairs = [next(reader)["pair"][0] for _ in range(min(size, most - seen))]
        yield prepared.collator(pairs)
        seen += len(pairs)


@torch.no_grad()
def learn_before_training(adapter: Any, prepared: Any, args: Any) -> None:
    """Lets the objectives that ask for it see the labelled rows through the first teacher's eyes.

    Every process reads the same rows, so all learn the same.
    """
    objectives, anchors, size = adapter.objectives, adapter.anchors, args.per_device_eval_batch_size
    specs = [spec for spec in args.objective_specs() if spec.name in objectives]
    learners = {s.name: lessons for s in specs if (lessons := s.cls.learns(s.settings))}
    if not learners:
        return
    device = next(prepared.model.parameters()).device
    teacher = anchors.teachers[0]
    labels, logits = [], []
    maps: dict[int, list[torch.Tensor]] = {i: [] for i in teacher.map_taps}
    for batch in labelled_batches(prepared, MOST_ROWS, size):
        inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k not in ASIDE}
        found = teacher(inputs)
        words = WORD_MASK in batch  # a row is then a token; those where no word begins have no label
        labels.append(batch["labels"].flatten().to(device))
        logits.append(found.logits.flatten(0, -2).float())
        for i, x in found.layers.items():
            pooled = (x * positions_of(inputs, x).unsqueeze(-1)).sum(1)
            maps[i].append((x.flatten(0, 1) if words else pooled).float())
    given: dict[str, Any] = {"labels": torch.cat(labels), "teacher_logits": torch.cat(logits)}
    for name, lessons in learners.items():
        objective: Any = objectives[name]
        if "teacher_layers" in lessons:
            given["teacher_layers"] = [torch.cat(maps[i]) for i in anchors.depths[name]]
        objective.learn(**{lesson: given[lesson] for lesson in lessons})
