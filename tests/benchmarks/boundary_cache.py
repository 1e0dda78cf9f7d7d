"""Epochs of a run whose first layers are frozen, with what these give read from the cache and without.

    python tests/benchmarks/boundary_cache.py --data ../shared/data

Product reviews, books to another category, through MiniLM with embeddings and 4 of 6 layers frozen, objective `mmd`,
in seconds of processor time of this process. Every way trains from the same weights on the same batches; shown are the
epochs after the first, what the first pass adds to training, the largest difference of a logged loss, and what a
second run with the same frozen part (another seed of the head) still computes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
from machine import describe, verdict
from transformers import TrainerCallback

from hftransfer import AdaptationConfig, AdaptationTrainer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class EpochTimes(TrainerCallback):
    """Processor seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.process_time()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.process_time() - self._began)


def reviews(folder: Path, category: str, rows: int) -> datasets.Dataset:
    return datasets.Dataset.from_csv(str(folder / "amazon_reviews" / f"{category}_train.csv")).select(range(rows))


def run(options: argparse.Namespace, cache: str, seed: int = 42) -> tuple[list[float], list[float], float, Any]:
    """Seconds by epoch, losses by step, seconds of the whole, and what the pass did."""
    source = reviews(options.data, "books", options.rows)
    target = reviews(options.data, options.target, options.rows).remove_columns("label")
    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = AdaptationTrainer(
            MODEL,
            AdaptationConfig(
                folder, objectives={"mmd": 0.1}, freeze="first_4", cache_frozen_layers=cache, seed=seed, data_seed=1,
                num_train_epochs=options.epochs, per_device_train_batch_size=options.batch_size, logging_steps=1,
                max_length=options.max_length, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            ),
            source,
            target,
            callbacks=[times],
        )  # fmt: skip
        began = time.process_time()
        trainer.train()
        whole = time.process_time() - began
        assert not trainer.frozen_layer_cache.why_off, trainer.frozen_layer_cache.why_off
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return times.seconds, losses, whole, trainer.frozen_layer_cache.statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds amazon_reviews/")
    parser.add_argument("--rows", type=int, default=256, help="of each domain")
    parser.add_argument("--target", default="kitchen", help="category of the target")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of each domain in a batch")
    parser.add_argument("--max_length", type=int, default=128)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    print(f"{describe()}; {options.rows} + {options.rows} reviews, batches of 2 x {options.batch_size}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HFTRANSFER_CACHE"] = cache
        live, live_losses, live_whole, _ = run(options, "none")
        live_epoch = statistics.median(live[1:])
        print(f"without: {live_epoch:.2f} s an epoch after the first, {live_whole:.1f} s in all")
        for dtype, goal in (("float16", 1e-3), ("float32", 1e-5)):
            epochs, losses, whole, made = run(options, dtype)
            epoch = statistics.median(epochs[1:])
            print(
                f"{dtype}: {epoch:.2f} s an epoch after the first, {whole:.1f} s in all, {made.computed} rows computed"
            )
            print(verdict(f"{dtype}: epochs after the first are so many times faster", live_epoch / epoch, 1.8, True))
            differences = [abs(a - b) for a, b in zip(live_losses, losses, strict=True)]
            print(verdict(f"{dtype}: largest difference of a loss, in 1e-3", 1e3 * max(differences), 1e3 * goal))
        _, _, _, again = run(options, "float16", seed=43)
        print(f"a second run with another head: {again.computed} rows computed, {again.read} read")


if __name__ == "__main__":
    main()
