"""What a joint step with MMD costs on images: MobileNetV2 and a small ResNet, 16 + 16 images, on the CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/step_cost_images.py

Forward, backward and AdamW of `JointModel` on tensors, against a bare loop that does the same math, taking turns.
Loading, decoding and augmentation are left out on both sides. Medians of process time are compared.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from machine import describe, median_ms, verdict
from step_cost import ROWS, BareStep
from torch import nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from hftransfer import JointModel
from hftransfer.models.feature_hook import find_head
from hftransfer.models.tensorflow_conventions import convert_tensorflow_conventions
from hftransfer.objectives.specification import build_objectives, parse_objectives
from hftransfer.trainers.step.objective_set import ObjectiveSet

WARMUP = 3


class BareImages(BareStep):
    """The same loss from the backbone's pooled output, by hand."""

    def loss(self) -> torch.Tensor:
        backbone = self.model.mobilenet_v2 if hasattr(self.model, "mobilenet_v2") else self.model.resnet
        features = backbone(self.batch["pixel_values"]).pooler_output.flatten(1)
        logits = self.model.classifier(features.view(len(features), -1))
        return F.cross_entropy(logits[:ROWS], self.labels[:ROWS]) + self.mmd(features)


def build(name: str, side: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "mobilenet_v2":
        config = MobileNetV2Config(image_size=side, classifier_dropout_prob=0.0, num_labels=3)
        model: nn.Module = MobileNetV2ForImageClassification(config)
        convert_tensorflow_conventions(model)
        return model
    sizes = {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [2, 2, 2], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes))


def run(name: str, side: int, steps: int) -> tuple[float, float, float]:
    """Median milliseconds of a step of ours and of the bare one, and how far their losses are apart at first."""
    model, batch = build(name, side), {"pixel_values": torch.randn(2 * ROWS, 3, side, side)}
    labels = torch.arange(2 * ROWS) % 3
    head = find_head(model, batch)
    modules, schedules = build_objectives(
        parse_objectives({"mmd": {"weight": 1.0, "schedule": "constant"}}), head.in_features, 3
    )
    adapter = JointModel(model, head, objectives=ObjectiveSet(modules, {"mmd": 1.0}, schedules))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    is_target = torch.arange(2 * ROWS) >= ROWS
    joint = {
        **batch,
        "labels": labels.masked_fill(is_target, -100),
        "domain": -is_target.long(),
        "num_source": ROWS,
    }
    bare = BareImages(build(name, side).train(), batch, labels, "mmd")
    apart = abs(adapter.train()(**joint).loss.item() - bare.loss().item())

    def ours() -> None:
        adapter.train()  # the trainer does so at every step
        adapter(**joint).loss.backward()
        nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds: dict = {ours: [], bare: []}
    for _ in range(steps + WARMUP):
        for step, taken in seconds.items():
            began = time.process_time()
            step()
            taken.append(time.process_time() - began)
    return median_ms(seconds[ours][WARMUP:]), median_ms(seconds[bare][WARMUP:]), apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    for name, side in (("mobilenet_v2", 96), ("resnet", 64)):
        ours, bare, apart = run(name, side, args.steps)
        print(f"\n{name}, {side} pixels: hftransfer {ours:.0f} ms, bare {bare:.0f} ms; losses differ by {apart:.0e}")
        print(verdict("  times the bare loop", ours / bare, 1.05))


if __name__ == "__main__":
    main()
