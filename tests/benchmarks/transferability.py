"""Seconds that transferability scores take on cached features: ten checkpoints, 2,000 rows, 768 columns.

    python tests/benchmarks/transferability.py

Features are drawn, of classes that overlap; the bootstrap of the ranks is timed as well. The goal is ten seconds for
what `rank_checkpoints` computes by default. On a machine that does other work, too, the seconds of the processor say
more than those of the clock.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from machine import describe, verdict

from hftransfer.adaptation.checkpoint_ranking import SCORES
from hftransfer.selection.transferability import TRANSFERABILITY, LabelledFeatures, get_transferability
from hftransfer.selection.transferability.linear_probe import held_out_logits
from hftransfer.selection.transferability.rank_resampling import order_of, resampled_means, share_first


def checkpoint(seed: int, rows: int, width: int, classes: int) -> LabelledFeatures:
    """Features of one checkpoint, whose variances fall as those of language models do."""
    draw = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, classes, rows)
    mixing = draw.normal(size=(width, width)) * np.arange(1, width + 1)[:, None] ** -0.5
    features = (draw.normal(size=(rows, width)) + 0.15 * draw.normal(size=(classes, width))[labels]) @ mixing
    predictions = draw.dirichlet(np.ones(100), rows)
    return LabelledFeatures(features.astype(np.float32), labels, predictions, features[: rows // 2] + 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("checkpoints", 10), ("rows", 2000), ("width", 768), ("classes", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    print(describe())
    checkpoints = [checkpoint(seed, args.rows, args.width, args.classes) for seed in range(args.checkpoints)]
    held_out_logits(checkpoints[0].features[:50, :8], checkpoints[0].classes[:50])  # what is imported first

    def draw_ranks() -> None:
        right = np.random.default_rng(0).random((args.checkpoints, args.rows)) < 0.8
        share_first(resampled_means(right, 1000, 0), order_of(right.mean(1)))

    usual = np.zeros(2)
    for name in ("probe", *SCORES, "bootstrap", *(name for name in TRANSFERABILITY if name not in ("probe", *SCORES))):
        began = np.array([time.perf_counter(), time.process_time()])
        if name == "bootstrap":
            draw_ranks()
        else:
            for rows in checkpoints:
                get_transferability(name).score(rows)
        took = np.array([time.perf_counter(), time.process_time()]) - began
        usual += took * (name in ("probe", *SCORES, "bootstrap"))
        print(f"{name:12} {took[0]:7.2f} s by the clock, {took[1]:6.2f} s of the processor", flush=True)
    print(verdict("seconds of a ranking, by the clock", usual[0], 10))
    print(verdict("seconds of a ranking, of the processor", usual[1], 10))


if __name__ == "__main__":
    main()
