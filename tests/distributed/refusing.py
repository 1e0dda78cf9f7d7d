"""Runs of two processes that are refused, for a test that both say so and neither waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import runs
import tiny
import torch
from peft import LoraConfig

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "optimizer": ("The optimizer that was passed lacks", {"objectives": {"dann": 0.1}, "optimizer": True}),
    "resumed otherwise": ("was made with another choice of what trains", {"trainable": "head", "resume": True}),
    "no checkpoint": ("is the folder of a run, not a checkpoint", {"resume": Path()}),
    "adapter": ("its head is 'classifier'", {"peft_config": LoraConfig(r=2, modules_to_save=["score"])}),
}


def work(folder: str) -> None:
    """A run with a checkpoint at 2, and every case, on it or in a folder of its own."""
    torch.set_num_threads(1)
    done = Path(folder) / "run"
    runs.trainer(done, save_strategy="steps", save_steps=2).train()
    for case in CASES:
        own = Path(folder) / case
        refuse(done if "resume" in CASES[case][1] else own / "run", case, own)


def refuse(folder: Path, case: str, own: Path) -> None:
    """Writes what a process was told to a file of its own."""
    settings = dict(CASES[case][1])
    resume = settings.pop("resume", None)
    model = tiny.bert()
    if settings.pop("optimizer", False):
        settings["optimizers"] = (torch.optim.AdamW(model.parameters()), None)
    words = ""
    try:
        run = runs.trainer(folder, model, save_strategy="steps", save_steps=2, max_steps=3, **settings)
        run.train(resume_from_checkpoint=folder if resume == Path() else resume)
    except (ValueError, FileNotFoundError) as error:
        words = str(error)
    own.mkdir(exist_ok=True)
    (own / f"said.{os.environ['RANK']}").write_text(words)
