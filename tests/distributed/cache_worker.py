"""A run whose frozen layers are read from the cache, on one process or several."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import runs
import tiny
import torch

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 3}


def train(folder: Path, dtype: str, rows: int) -> None:
    """Four updates of 8 source rows; the main process writes the losses, and what each process computed and read."""
    torch.set_num_threads(1)
    os.environ["HFTRANSFER_CACHE"] = str(folder / "cache")
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = runs.trainer(
            output_dir,
            model=tiny.bert(**STILL),
            freeze="first_2",
            cache_frozen_layers=dtype,
            per_device_train_batch_size=rows,
            max_steps=4,
        )
        trainer.train()
    made = trainer.frozen_layer_cache.statistics
    counts = trainer.accelerator.gather(torch.tensor([[made.computed, made.read]])).tolist()
    if trainer.is_world_process_zero():
        facts = {"losses": runs.logged(trainer, "loss"), "off": trainer.frozen_layer_cache.why_off, "counts": counts}
        (folder / "found.json").write_text(json.dumps(facts))


def work(folder: str) -> None:
    """Rank of two."""
    train(Path(folder), "float32", 4)
