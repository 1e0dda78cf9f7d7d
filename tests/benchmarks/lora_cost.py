"""What LoRA costs beside full fine-tuning: memory and time of a step, and adapters of three domains on disk.

    OMP_NUM_THREADS=1 python tests/benchmarks/lora_cost.py

A model of MiniLM's shape (six layers of width 384, 30,522 tokens, random weights, fp32), 16 + 16 rows of 64 tokens,
`mmd`, AdamW as `AdaptationTrainer` sets it up, on the CPU.

- Memory: each case in a process of its own runs `AdaptationTrainer.train()` for two steps. Counted is how far the
  resident memory rises at most above what it was when the trainer stood ready, after unused memory was given back:
  gradients, the optimizer's state, activations, what the trainer holds. Not counted: the weights (adapter's included),
  Python and its libraries. The kernel keeps the peak (VmHWM), which is reset before; Linux only. glibc's threshold for
  blocks of their own is held at its initial 128 KiB, so that freed tensors are given back at once; left to itself it
  grows, and holes of the heap count as well (`--allocator default`).
- Time: in one process, under the same setting of glibc, all cases take turns on the same batch: forward, backward,
  clipping, AdamW. Medians of process time.
- Disk: `save_adapters` with three domains, every linear layer at rank 8, heads included.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from machine import describe, median_ms, verdict
from peft import LoraConfig
from step_cost import CLASSES, ROWS, TOKENS, make_rows
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from hftransfer import AdaptationConfig, AdaptationTrainer, save_adapters
from hftransfer.models.adapters import attach_adapter
from hftransfer.models.feature_hook import find_head
from hftransfer.trainers.progress_line import ProgressLine

STEPS = 2
ALLOCATORS: dict[str, dict[str, str]] = {"fixed": {"MALLOC_MMAP_THRESHOLD_": "131072"}, "default": {}}
ADAPTERS: dict[str, dict[str, Any] | None] = {
    "full": None,
    "every linear": {"lora_alpha": 16},
    "every linear, dropout 0.05": {"lora_alpha": 16, "lora_dropout": 0.05},
    "query, value": {"lora_alpha": 16, "target_modules": ["query", "value"]},
}
WAYS: dict[str, dict[str, Any]] = {
    "at once": {},
    "recomputed": {"activation_checkpointing": True},
    "8 rows at a time": {"forward_rows": 8},
}


def minilm() -> BertForSequenceClassification:
    torch.manual_seed(0)
    names = {i: f"class {i}" for i in range(CLASSES)}
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    return BertForSequenceClassification(config)


def make_trainer(folder: str, adapter: str, way: str) -> AdaptationTrainer:
    source, target = make_rows(1), make_rows(2)
    words = sorted({word for text in source["text"] for word in text.split()})
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    settings = ADAPTERS[adapter]
    trainer = AdaptationTrainer(
        minilm(),
        AdaptationConfig(
            output_dir=folder,
            objectives={"mmd": {"weight": 1.0, "schedule": "constant"}},
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            max_length=TOKENS,
            save_strategy="no",
            disable_tqdm=True,
            report_to=[],
            use_cpu=True,
            **WAYS[way],
        ),
        train_dataset=source,
        target_dataset=target,
        processing_class=BertTokenizer(vocab=vocab, model_max_length=TOKENS),
        peft_config=None if settings is None else LoraConfig(r=8, **settings),
    )
    trainer.remove_callback(ProgressLine)
    return trainer


def ask(setting: dict[str, str], *arguments: str) -> Any:
    """What this script prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | setting)
    return json.loads(done.stdout.splitlines()[-1])


def show(goals: list[tuple[str, float, float]]) -> None:
    print()
    for name, value, goal in goals:
        if "full:" not in name:
            print(verdict(name, value, goal))


# ---- memory


def resident(field: str) -> int:
    """`VmRSS`, what is resident now, or `VmHWM`, its peak, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def peak_of(adapter: str, way: str) -> dict[str, int]:
    """In a process of its own: the rise of resident memory, and the bytes of the weights that it comes on top of."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder, adapter, way)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        trainer.train()
        assert trainer.state.global_step == STEPS
        rise = resident("VmHWM") - before
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return {"rise": rise, "weights": weights}


def memory(adapters: list[str], ways: list[str], setting: dict[str, str]) -> None:
    print("\n| step | what moves | MiB above the weights | over full | with the weights, over full |")
    print("|---|---|---|---|---|")
    goals = []
    for way in ways:
        found: dict[str, dict[str, int]] = {}
        for adapter in adapters:
            found[adapter] = ask(setting, "--peak", adapter, way)
            rise = found[adapter]["rise"]
            share = rise / found["full"]["rise"]
            total = sum(found[adapter].values()) / sum(found["full"].values())
            print(f"| {way} | {adapter} | {rise / 2**20:.0f} | {share:.2f} | {total:.2f} |", flush=True)
            goals.append((f"{way}, {adapter}: memory over full", share, 0.6))
    show(goals)


# ---- time


class Step:
    """Forward, backward, clipping and AdamW of what a trainer would train, on one batch."""

    def __init__(self, folder: str, adapter: str, way: str):
        trainer = make_trainer(folder, adapter, way)
        self.batch, self.module = next(iter(trainer.get_train_dataloader())), trainer.model.train()
        if trainer.args.recomputes_activations:
            trainer.model.gradient_checkpointing_enable()
        self.optimizer = trainer.create_optimizer()
        self.moving = [p for p in self.module.parameters() if p.requires_grad]

    def __call__(self) -> float:
        began = time.process_time()
        self.module(**self.batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.moving, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - began


def clock(way: str, turns: int, adapters: list[str]) -> dict[str, float]:
    """Median milliseconds of a step by adapter, who take turns."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {adapter: Step(f"{folder}/{adapter}", adapter, way) for adapter in adapters}
        seconds: dict[str, list[float]] = {adapter: [] for adapter in adapters}
        for turn in range(turns + 1):  # the first warms up
            for adapter, step in steps.items():
                taken = step()
                seconds[adapter] += [taken] if turn else []
    return {adapter: median_ms(taken) for adapter, taken in seconds.items()}


def times(adapters: list[str], ways: list[str], turns: int, setting: dict[str, str]) -> None:
    print("\n| step | what moves | ms | over full |")
    print("|---|---|---|---|")
    goals = []
    for way in ways:
        ms = ask(setting, "--clock", way, str(turns), *adapters)
        for adapter in adapters:
            print(f"| {way} | {adapter} | {ms[adapter]:.0f} | {ms[adapter] / ms['full']:.2f} |", flush=True)
            goals.append((f"{way}, {adapter}: time over full", ms[adapter] / ms["full"], 1.0))
    show(goals)


# ---- disk


def disk() -> None:
    model = minilm().eval()
    head = find_head(model, {"input_ids": torch.tensor([[1, 2, 3]])})
    wrapped = attach_adapter(model, LoraConfig(r=8), head)
    for name in ("law", "finance"):
        wrapped.add_adapter(name, copy.deepcopy(wrapped.peft_config["default"]))
    with tempfile.TemporaryDirectory() as folder:
        stored = save_adapters(wrapped, f"{folder}/all")
    print(f"\n{stored}")
    print(verdict("three domains, % of the backbone", 100 * stored.share, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", nargs="+", choices=ADAPTERS, default=["every linear", "query, value"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["at once", "recomputed"])
    parser.add_argument("--allocator", choices=ALLOCATORS, default="fixed")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--only", choices=("memory", "time", "disk"))
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--clock", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if args.peak:
        print(json.dumps(peak_of(*args.peak)))
        return
    if args.clock:
        way, turns, *adapters = args.clock
        print(json.dumps(clock(way, int(turns), adapters)))
        return
    adapters = ["full", *(a for a in args.adapters if a != "full")]  # what all are compared with
    print(describe())
    if args.only in (None, "memory"):
        memory(adapters, args.ways, ALLOCATORS[args.allocator])
    if args.only in (None, "time"):
        times(adapters, args.ways, args.turns, ALLOCATORS[args.allocator])
    if args.only in (None, "disk"):
        disk()


if __name__ == "__main__":
    main()
