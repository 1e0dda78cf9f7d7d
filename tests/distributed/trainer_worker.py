"""Whole runs of `AdaptationTrainer` whose updates hold the same rows, however they are cut."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pictures
import runs
import tiny
import torch
from domains import tagging
from safetensors.torch import save_file

WEIGHTS = [0.0, 1.4, 0.9, 1.7]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
CASES: dict[str, dict] = {
    "sequence": {"objectives": None},
    "token": {"objectives": None},
    "few_shot": {"objectives": None, "reveal_target_labels": 3},
    "stream": {"objectives": None},
    "weighted": {"objectives": None},  # source rows with weights of their own
    "weighted_token": {"objectives": None},
    "weighted_stream": {"objectives": None},
    "weighted_mmd": {"objectives": {"mmd": 0.1}},
    "sequence_dann": {"objectives": {"dann": 0.1}},  # a mean over rows, so it may be accumulated as the task loss is
    "token_dann": {"objectives": {"dann": 0.1}},
    "sequence_mmd": {"objectives": {"mmd": {"weight": 0.1, "queue": 12}}},  # not additive over micro-batches
    "token_mmd": {"objectives": {"mmd": 0.1}},
    "image_mmd": {  # images augmented in worker processes, a second view of the target among them
        "objectives": {"mmd": 0.1, "nt_xent": 0.003},
        "augment": "strong",
        "augment_flip": True,
        "learning_rate": 0.2,
        "batch_norm": "frozen",  # the statistics of a process' own rows would be others
    },
}
ADDITIVE = [name for name in CASES if not name.endswith("mmd")]


def train(case: str, rows: int, accumulation: int, folder: Path) -> None:
    """Four steps of SGD over more than an epoch; the main process writes weights and losses to `folder`."""
    words = case.endswith("token") or case.startswith("token")
    source = tagging(24) if words else tiny.domain(24)
    target = tagging(30, seed=1, labelled=False) if words else tiny.domain(30, seed=1)
    given = {"model": tiny.bert(tagging=words, **STILL)}
    if case.startswith("image"):
        source, target = pictures.pictures(24), pictures.pictures(30, seed=1, labelled=False, dark=True)
        given = {"model": pictures.resnet(), "processing_class": pictures.processor()}
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # one process makes its batches itself
            given["dataloader_num_workers"] = 2
    if case.startswith("weighted"):
        source = source.add_column("weight", WEIGHTS * 6)
    if case.endswith("stream"):
        source, target = source.to_iterable_dataset(), target.to_iterable_dataset()
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = runs.trainer(
            output_dir,
            train_dataset=source,
            target_dataset=target,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulation,
            max_steps=4,
            optim="sgd",
            weight_decay=0.0,
            lr_scheduler_type="constant",
            **given,
            **{"learning_rate": 0.1, **CASES[case]},
        )
        trainer.train()
        if trainer.is_world_process_zero():
            folder.mkdir(parents=True)
            state = {k: v.contiguous() for k, v in trainer.model.state_dict().items()}
            save_file(state, str(folder / "state.safetensors"))
            losses = {k: runs.logged(trainer, k) for k in ("task_loss", "loss", "grad_norm")}
            (folder / "losses.json").write_text(json.dumps(losses))
        trainer.accelerator.wait_for_everyone()


def work(folder: str, names: tuple[str, ...]) -> None:
    """Cases on one of two processes."""
    torch.set_num_threads(1)
    out = Path(folder)
    for name in names:
        train(name, 4, 1, out / name / "two_processes")
        if name in ADDITIVE:
            train(name, 2, 2, out / name / "two_processes_accumulated")
