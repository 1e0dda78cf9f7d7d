"""Do decoding and augmentation keep ahead of the model? Paired batches of 32 + 32 images beside the model's step.

    OMP_NUM_THREADS=1 python tests/benchmarks/data_loading.py --data ../shared/data --models ../shared/models

The trainer's own loader by itself, with no worker and with two, against forward, backward and AdamW of the joint
module with `dann` on one of its batches. Epochs of the loader and runs of the step take turns; workers have started
before a clock does. What is printed is how many batches come in the time of one step: above 1 the model never waits.
The last column leaves the machine's other work out: processor time of a step over that of making a batch, on one
core. Two workers make twice as many where two cores are free for them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from images import DIGITS, load
from machine import describe
from torch import nn

ROWS, STEPS = 32, 12


def office(data: Path, models: Path) -> tuple[Any, Any, Any, dict[str, Any]]:
    """JPEG files of 144 pixels on the short side, for a pretrained MobileNet at 128."""
    model = str(models / "mobilenet_v1_0.25_128")
    return model, load(data, "amazon", "train"), load(data, "webcam", "train"), {"augment_flip": True}


def digits(data: Path, models: Path) -> tuple[Any, Any, Any, dict[str, Any]]:
    """PNG files of 32 pixels, for a small ResNet from scratch."""
    from hftransfer import load_digits_corpus

    corpus = load_digits_corpus()
    return DIGITS, corpus["scanned_train"], corpus["textured_train"], {"image_size": 32}


TASKS: dict[str, Callable[[Path, Path], tuple[Any, Any, Any, dict[str, Any]]]] = {
    "office, MobileNetV1 0.25, 128 px": office,
    "digits, small ResNet, 32 px": digits,
}


def build(task: tuple[Any, Any, Any, dict[str, Any]], augment: str, workers: int, folder: str) -> Any:
    from hftransfer import AdaptationConfig, AdaptationTrainer

    model, source, target, settings = task
    args = AdaptationConfig(
        output_dir=folder,
        objectives={"dann": {"weight": 1.0, "schedule": "constant"}},
        augment=augment,
        per_device_train_batch_size=ROWS,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        **settings,
    )
    return AdaptationTrainer(model, args, source, target)


def an_epoch(loader: Iterable[Any]) -> tuple[float, float]:
    """Seconds of wall and of this process's processor time for a batch."""
    began, busy = time.perf_counter(), time.process_time()
    count = sum(1 for _ in loader)
    return (time.perf_counter() - began) / count, (time.process_time() - busy) / count


def step_of(trainer: Any, batch: dict[str, Any]) -> Callable[[], None]:
    """One update of the joint module."""
    model = trainer.model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)

    def step() -> None:
        model(**batch).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def some_steps(step: Callable[[], None]) -> tuple[float, float]:
    """As `an_epoch`, for a step."""
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - began) / STEPS, (time.process_time() - busy) / STEPS


def measure(task: Any, augment: str, rounds: int) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        alone, together = (build(task, augment, workers, folder) for workers in (0, 2))
        loaders = [trainer.get_train_dataloader() for trainer in (alone, together)]
        step = step_of(alone, next(iter(loaders[0])))
        seen: list[list[tuple[float, float]]] = [[], [], []]
        for turn in range(rounds + 1):
            taken = [an_epoch(loaders[0]), an_epoch(loaders[1]), some_steps(step)]
            if turn:  # the first starts workers and warms caches
                for kept, one in zip(seen, taken, strict=True):
                    kept.append(one)
    middle = lambda which, kind: statistics.median(one[kind] for one in seen[which])  # noqa: E731
    ratios = [middle(2, 0) / middle(0, 0), middle(2, 0) / middle(1, 0), middle(2, 1) / middle(0, 1)]
    return f"{augment} | {1e3 * middle(2, 0):.0f} | " + " | ".join(f"{ratio:.1f}" for ratio in ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--tasks", nargs="+", choices=[name.split(",")[0] for name in TASKS])
    parser.add_argument("--augment", nargs="+", choices=("none", "weak", "strong"), default=["weak", "strong"])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    columns = ("images, model", "augment", "step, ms", "no worker", "two workers", "processor time, one core")
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name, make in TASKS.items():
        if args.tasks and name.split(",")[0] not in args.tasks:
            continue
        task = make(args.data, args.models)
        for augment in args.augment:
            print(f"| {name} | {measure(task, augment, args.rounds)} |", flush=True)


if __name__ == "__main__":
    main()
