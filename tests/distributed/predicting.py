"""One rank that predicts fixed rows, alone and in the middle of a run; executed in forked processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import blobs
import numpy as np
import runs
import tiny
import torch
from transformers import TrainerCallback

from hftransfer.trainers.prediction_pass import predict_mixed, predict_rows


def arrays(trainer: Any, data: Any) -> dict[str, np.ndarray]:
    """What a pass over 13 of the rows gives, and mixtures of three pairs."""
    predictions = predict_rows(trainer, data, rows=13, seed=3, features=4)
    mixed = predict_mixed(trainer, data, [2, 9, 4], [5, 1, 0])
    return {name: getattr(predictions, name) for name in ("logits", "labels", "features", "rows")} | {"mixed": mixed}


def text_trainer(folder: Path, **settings: Any) -> Any:
    return runs.trainer(folder, tiny.bert(initializer_range=0.5), per_device_eval_batch_size=4, **settings)


def image_trainer(folder: Path, rank: float, **settings: Any) -> Any:
    """Of a model whose running statistics are those of a rank."""
    trainer = runs.trainer(
        folder,
        blobs.resnet(),
        train_dataset=blobs.domain(20),
        target_dataset=blobs.domain(20, 1, 80, labelled=False),
        processing_class=blobs.processor(),
        per_device_eval_batch_size=4,
        **settings,
    )
    for name, buffer in trainer.model.model.named_buffers():
        if "running" in name:
            buffer.fill_(1.0 + 2 * rank)
    return trainer


class Looks(TrainerCallback):
    """Predicts after every step."""

    trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        arrays(self.trainer, blobs.domain(15, 3))


def run(folder: str) -> None:
    torch.set_num_threads(1)
    path, rank = Path(folder), int(os.environ["RANK"])
    settings: dict[str, Any] = {"ddp_backend": "gloo"}
    np.savez(path / f"text-{rank}.npz", **arrays(text_trainer(path / "text", **settings), tiny.domain(21, 5)))
    trainer = image_trainer(path / "image", rank, **settings)
    np.savez(path / f"image-{rank}.npz", **arrays(trainer, blobs.domain(15, 3)))
    assert all((b == 1 + 2 * rank).all() for name, b in trainer.model.model.named_buffers() if "running" in name)
    states = []
    for callbacks in ([], [Looks()]):
        trainer = image_trainer(path / f"run{len(callbacks)}", 0, callbacks=callbacks, max_steps=3, **settings)
        for callback in callbacks:
            callback.trainer = trainer
        trainer.train()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
