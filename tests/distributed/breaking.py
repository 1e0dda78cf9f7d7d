"""Two processes of which one finds something wrong; executed in forked processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import runs
import torch
from transformers import TrainerCallback


class BreaksOnOne(TrainerCallback):
    """The weights of rank 1 alone are broken at the end of step 4, in which a checkpoint is due."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if args.process_index == 1 and state.global_step == 3:
            next(p for name, p in model.named_parameters() if name.endswith("classifier.weight")).data.fill_(torch.nan)


class FullOnOne(TrainerCallback):
    """The disk of the main process is full when the second checkpoint is due."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0 and state.global_step == 4:
            import shutil
            from collections import namedtuple

            shutil.disk_usage = lambda path: namedtuple("Usage", "total used free")(1, 1, 0)  # type: ignore[assignment]


CASES: dict[str, Any] = {"lock": None, "foreign": None, "weights": BreaksOnOne, "disk": FullOnOne}


def work(folder: str) -> None:
    """Every case in a folder of its own; the full disk, which stays full, is the last."""
    torch.set_num_threads(1)
    for case in CASES:
        run(Path(folder) / case, case)


def run(path: Path, case: str) -> None:
    """Trains; each process writes what it was told to `told_RANK`."""
    callback = CASES[case]
    trainer = runs.trainer(
        path / "run",
        callbacks=[callback()] if callback else [],
        save_strategy="steps",
        save_steps=2,
        max_steps=6,
        save_total_limit=1,
        logging_steps=100,
    )
    if case in ("lock", "foreign") and os.environ["RANK"] == "0":
        other = path / "run" / ("_writing/run.json" if case == "lock" else "README.md")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text(json.dumps({"host": "node7", "pid": 3, "started": "today"}))
    trainer.accelerator.wait_for_everyone()
    try:
        trainer.train()
        told = "nothing"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    (path / f"told_{os.environ['RANK']}").write_text(told)
