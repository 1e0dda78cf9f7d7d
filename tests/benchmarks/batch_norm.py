"""Batch norm joint, separate, frozen, with and without AdaBN: scikit-learn's digits to changed ones, on the CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/batch_norm.py --shift faded

A small ResNet learns the source alone. From there each setting trains three epochs more on source and target, with MMD
or without an objective; target labels are read for the last column only. The target is the other half of the digits,
faded (contrast halved, brighter, noise) or inverted. Everything is the library's own module and functions in a plain
loop; means and standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from machine import describe
from sklearn.datasets import load_digits
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from hftransfer import JointModel, adapt_batch_norm
from hftransfer.models.feature_hook import find_head
from hftransfer.objectives.specification import build_objectives, parse_objectives
from hftransfer.trainers.step.forward_chain import build_forward
from hftransfer.trainers.step.objective_set import ObjectiveSet

ROWS, FIRST, MORE, RATE = 32, 8, 3, 2e-3
SETTINGS = [  # (objective, batch_norm, AdaBN afterwards); None for no training with the target at all
    (None, None, False),
    (None, None, True),
    (None, "joint", False),
    (None, "separate", False),
    (None, "frozen", False),
    ("mmd", "joint", False),
    ("mmd", "joint", True),
    ("mmd", "separate", False),
    ("mmd", "frozen", False),
]


def domains(shift: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows, 1, 16, 16) pixels and labels of the source, then of the target."""
    digits = load_digits()
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(digits.images), generator=draw)
    x = torch.tensor(digits.images, dtype=torch.float)[order].unsqueeze(1).div(16)
    x = nn.functional.interpolate(x, 16, mode="bilinear", align_corners=False)
    y, half = torch.tensor(digits.target)[order], len(order) // 2
    target = x[half:]
    if shift == "inverted":
        target = 1 - target
    else:
        target = 0.5 * target + 0.4 + 0.1 * torch.randn(target.shape, generator=draw)
    return x[:half], y[:half], target, y[half:]


def build(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return ResNetForImageClassification(config)


def train(model: nn.Module, data, epochs: int, seed: int, objective: str | None, mode: str | None) -> None:
    """Adam on source rows, and on as many target rows where `mode` says how batch norm sees them."""
    x, y, target, _ = data
    head = find_head(model, {"pixel_values": x[:2]})
    specs = parse_objectives(objective)
    modules, schedules = build_objectives(specs, head.in_features, 10)
    objectives = ObjectiveSet(modules, {spec.name: spec.weight for spec in specs}, schedules)
    forward = build_forward(model, head, objectives, batch_norm=mode or "joint")
    adapter = JointModel(model, head, objectives=objectives, forward=forward).train()
    optimizer = torch.optim.Adam(adapter.parameters(), RATE)
    draw = torch.Generator().manual_seed(seed)
    adapter.progress.fill_(1.0)
    for _ in range(epochs):
        order, others = torch.randperm(len(x), generator=draw), torch.randperm(len(target), generator=draw)
        for start in range(0, len(x) - ROWS + 1, ROWS):
            rows, more = order[start : start + ROWS], others[start : start + ROWS]
            if mode is None:
                more = more[:0]
            labels = torch.cat([y[rows], torch.full((len(more),), -100)])
            domain = torch.cat([torch.zeros(len(rows)), -torch.ones(len(more))]).long()
            pixels = torch.cat([x[rows], target[more]])
            adapter(pixel_values=pixels, labels=labels, domain=domain, num_source=len(rows)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return 100 * (model.eval()(pixel_values=x).logits.argmax(1) == y).float().mean().item()


def run(shift: str, seed: int) -> dict[tuple, tuple[float, float]]:
    """Accuracy on source and target by setting."""
    data = domains(shift, seed)
    x, y, target, truth = data
    start = build(seed)
    train(start, data, FIRST, seed, None, None)
    found = {}
    for setting in SETTINGS:
        objective, mode, adabn = setting
        model = copy.deepcopy(start)
        if mode is not None:
            train(model, data, MORE, seed, objective, mode)
        if adabn:
            adapt_batch_norm(model, [{"pixel_values": part} for part in target.split(128)])
        found[setting] = accuracy(model, x, y), accuracy(model, target, truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shift", choices=("faded", "inverted"), default="faded")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    began = time.time()
    results = [run(args.shift, seed) for seed in range(args.seeds)]
    print(f"\n{args.shift}: objective, batch_norm, AdaBN: source accuracy, target accuracy (oracle)")
    for setting in SETTINGS:
        columns = list(zip(*[result[setting] for result in results], strict=True))
        cells = [f"{statistics.mean(c):.1f} ± {statistics.stdev(c):.1f}" for c in columns]
        name = ", ".join(str(part or "–") for part in setting)
        print(f"  {name:24} {cells[0]:>14} {cells[1]:>14}")
    print(f"\n{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
