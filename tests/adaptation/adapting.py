"""`adapt` on one process or on several, for the test that both come to the same; executed in forked processes."""

from __future__ import annotations

import os
from pathlib import Path

import tiny
import tiny_shift
import torch

CANDIDATES = {"source-only": {}, "probe": {"probe": True}, "student": {"student_of": "source-only"}}


def save_model(folder: Path) -> str:
    """Folder of a model without dropout, whose steps are the same on any number of processes."""
    tiny.bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


def adapt(model: str, folder: str, rows_of_a_process: int) -> None:
    """A run whose steps do not blow rounding up, as those of Adam do."""
    torch.set_num_threads(1)
    tiny_shift.run(
        model,
        Path(folder),
        candidates=CANDIDATES,
        source_rows=64,
        target=tiny_shift.domain(96, 1, tiny_shift.FREQUENCIES, labelled=False),
        validation=tiny_shift.domain(90, 2),
        optim="sgd",
        learning_rate=0.1,
        max_steps=6,
        per_device_train_batch_size=rows_of_a_process,
    )


def adapt_other_rows(model: str, folder: str, said: str) -> None:
    """Each process has target rows of its own; writes what it was told to a file of its own."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    words = ""
    try:
        tiny_shift.run(
            model,
            Path(folder),
            effort="quick",
            source_rows=40,
            target=tiny_shift.domain(40, 1 + rank, labelled=False),
            validation=tiny_shift.domain(30, 5),
        )
    except ValueError as error:
        words = str(error)
    Path(f"{said}.{rank}").write_text(words)
