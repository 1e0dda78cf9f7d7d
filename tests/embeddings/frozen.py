"""Frozen tiny models for tests, what a plain loop makes of them, and jobs for other processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import tiny
import torch

from hftransfer import embed
from hftransfer.embeddings import feature_pass, input_rows

CHUNK = 16  # rows, in tests


def small_chunks() -> None:
    for kind in input_rows.CHUNK_ROWS:
        input_rows.CHUNK_ROWS[kind] = CHUNK


def hidden_states(model, texts, layer: int = -1) -> list[np.ndarray]:
    """(tokens, width) of each text, one at a time and without padding."""
    model.eval()
    states = []
    with torch.no_grad():
        for text in texts:
            words = isinstance(text, list)
            batch = tiny.tokenizer()([text], return_tensors="pt", is_split_into_words=words)
            states.append(model(**batch, output_hidden_states=True).hidden_states[layer][0].double().numpy())
    return states


def work(folder: str, rows: int, killed_after: int | None) -> None:
    """Embeds rows in this process, which ends by itself at a chunk, and writes down what it did."""
    small_chunks()
    stock, done = feature_pass.compute, []

    def compute(*args):
        if killed_after is not None and len(done) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(1)
        return stock(*args)

    feature_pass.compute = compute
    model = Path(folder) / "model"
    made = embed(tiny.domain(rows), str(model), cache_dir=Path(folder) / "cache", progress=False, batch_size=4)
    rank = os.environ.get("RANK", "0")
    np.save(Path(folder) / f"features{rank}.{os.getpid()}.npy", made.features)
    facts = {"computed": made.statistics.computed, "read": made.statistics.read}
    (Path(folder) / f"facts{rank}.{os.getpid()}.json").write_text(json.dumps(facts))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
