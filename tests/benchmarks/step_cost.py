"""What a training step with MMD, DANN or CDAN costs: MiniLM, 16 + 16 rows of 64 tokens, on the CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/step_cost.py

`AdaptationTrainer.train()` runs as it is; after each of its steps a callback lets two rivals take theirs on the same
32 rows, so that the three take turns throughout:

- bare: a plain PyTorch loop doing the same math (written out below, without a line of ours);
- plain: fine-tuning on the 32 rows, all labelled, without an objective.

A step of ours is all that happens between two ends of a step: loading and collating rows, forward, backward,
clipping, AdamW, schedule, logging. A rival's step is forward, backward, clipping and AdamW on a batch made beforehand.
Medians of process time are compared.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time

import datasets
import torch
import torch.nn.functional as F
import transformers
from datasets import ClassLabel, Dataset
from machine import describe, median_ms, verdict
from torch import nn
from transformers import TrainerCallback

from hftransfer import AdaptationConfig, AdaptationTrainer, load_model
from hftransfer.trainers.progress_line import ProgressLine

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ROWS, TOKENS, CLASSES, WARMUP = 16, 64, 3, 3


class BareStep:
    """One step of a plain PyTorch loop: task loss on the source rows plus an objective, or on all rows without one.

    MMD: unbiased, five Gaussian kernels around the mean squared distance, from one Gram matrix. DANN and CDAN: a
    discriminator behind a reversed gradient, on features or on their product with the predictions.
    """

    def __init__(self, model: nn.Module, batch: dict, labels: torch.Tensor, method: str | None = None):
        self.model, self.batch, self.labels, self.method = model, batch, labels, method
        self.parameters = [*model.parameters()]
        if method in ("dann", "cdan"):
            width = model.config.hidden_size * (CLASSES if method == "cdan" else 1)
            layers = [nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)]
            self.discriminator = nn.Sequential(*layers)
            self.parameters += self.discriminator.parameters()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=5e-5, weight_decay=0.01, fused=True)

    def __call__(self) -> None:
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self) -> torch.Tensor:
        features = self.model.dropout(self.model.bert(**self.batch).pooler_output)
        logits = self.model.classifier(features)
        if self.method is None:
            return F.cross_entropy(logits, self.labels)
        extra = self.mmd(features) if self.method == "mmd" else self.adversarial(features, logits)
        return F.cross_entropy(logits[:ROWS], self.labels[:ROWS]) + extra

    def mmd(self, z: torch.Tensor) -> torch.Tensor:
        n = ROWS
        squares = z.square().sum(1)
        distances = (squares.unsqueeze(1) + squares - 2 * z @ z.T).clamp(min=0)
        bandwidth = distances.detach().sum() / (2 * n * (2 * n - 1))
        kernel = sum(torch.exp(-distances / (m * bandwidth)) for m in (0.25, 0.5, 1, 2, 4)) / 5
        within = (kernel[:n, :n] + kernel[n:, n:]).masked_fill(torch.eye(n, dtype=torch.bool), 0).sum()
        return within / (n * (n - 1)) - 2 * kernel[:n, n:].mean()

    def adversarial(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        reversed_ = 2 * features.detach() - features
        if self.method == "cdan":
            reversed_ = (reversed_.unsqueeze(2) * logits.detach().softmax(-1).unsqueeze(1)).flatten(1)
        scores = self.discriminator(reversed_).flatten()
        return F.binary_cross_entropy_with_logits(scores, (torch.arange(2 * ROWS) < ROWS).float())


class TakeTurns(TrainerCallback):
    """Lets every rival take a step after each of the trainer's, and keeps everybody's seconds."""

    def __init__(self, rivals: dict[str, BareStep]):
        self.rivals, self.began = rivals, 0.0
        self.seconds: dict[str, list[float]] = {name: [] for name in ("hftransfer", *rivals)}

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds["hftransfer"].append(time.process_time() - self.began)
        for name, step in self.rivals.items():
            began = time.process_time()
            step()
            self.seconds[name].append(time.process_time() - began)
        self.began = time.process_time()


def make_rows(seed: int) -> Dataset:
    """Rows of more words than fit."""
    words = "the trial showed that patients given a new drug did better or worse than those with no treatment".split()
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(words, k=TOKENS)) for _ in range(20 * ROWS)]
    rows = Dataset.from_dict({"text": texts, "label": [i % CLASSES for i in range(len(texts))]})
    return rows.cast_column("label", ClassLabel(names=[f"class {i}" for i in range(CLASSES)]))


def run(method: str, steps: int, folder: str) -> dict[str, float]:
    """Median milliseconds of a step by name; prints how well ours and the bare loss agree."""
    turns = TakeTurns({})
    trainer = AdaptationTrainer(
        MODEL,
        AdaptationConfig(
            output_dir=folder,
            overwrite_output_dir=True,
            objectives={method: {"weight": 1.0, "schedule": "constant"}},
            max_steps=steps + WARMUP,
            per_device_train_batch_size=ROWS,
            max_length=TOKENS,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=make_rows(1),
        target_dataset=make_rows(2),
        callbacks=[turns],
    )
    trainer.remove_callback(ProgressLine)
    joint = next(iter(trainer.get_train_dataloader()))
    inputs = {k: v for k, v in joint.items() if k not in ("labels", "domain", "num_source")}
    assert inputs["input_ids"].shape == (2 * ROWS, TOKENS)
    labels = torch.arange(2 * ROWS) % CLASSES
    for name, objective in (("bare", method), ("plain", None)):
        model = load_model(MODEL, "sequence-classification", trainer.label_space.names).train()
        turns.rivals[name] = BareStep(model, inputs, labels, objective)
        turns.seconds[name] = []
    print(f"{method}: the losses differ by {difference(trainer.model, turns.rivals['bare'], joint):.0e}", flush=True)
    trainer.train()
    return {name: median_ms(seconds[WARMUP:]) for name, seconds in turns.seconds.items()}


def difference(adapter: nn.Module, bare: BareStep, joint: dict) -> float:
    """Of our loss and the bare one on the same rows and weights, dropout off."""
    bare.model.load_state_dict(adapter.model.state_dict())
    if bare.method != "mmd":
        bare.discriminator.load_state_dict(adapter.objectives[bare.method].discriminator.state_dict())
    joint = {**joint, "labels": torch.where(joint["domain"] < 0, -100, bare.labels)}
    adapter.eval()
    bare.model.eval()
    with torch.no_grad():
        value = (adapter(**joint).loss - bare.loss()).abs().item()
    bare.model.train()
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    print(describe())
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in ("mmd", "dann", "cdan"):
            results[method] = run(method, args.steps, folder)
    for method, ms in results.items():
        print(f"\n{method}: " + ", ".join(f"{name} {value:.0f} ms" for name, value in ms.items()))
        print(verdict("  times the bare loop", ms["hftransfer"] / ms["bare"], 1.05))
        print(verdict("  times plain fine-tuning", ms["hftransfer"] / ms["plain"], 1.10))


if __name__ == "__main__":
    main()
