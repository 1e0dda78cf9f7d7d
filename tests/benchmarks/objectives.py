"""Forward + backward of every objective that a peer has, beside pytorch-adapt 0.0.83 and skada 0.6.0.

    python tests/benchmarks/objectives.py --env ~/.cache/hftransfer-peers

The peers live in an environment of their own, which the first run makes under `--env`. A worker there gets the same
inputs (768 features, 10 classes), takes turns with us, and both count the time of their own process on one thread.
Each library's own form at its own defaults, but with the same temperature, number of projections and weights of
transport costs. Ratios are the peer's time over ours, and the peer's peak memory over ours at the largest size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, median_ms
from peers import NAMES, Worker, make_env

SIZES, DIM, CLASSES = (32, 64, 128, 256), 768, 10
KINDS = {  # the sources' features and logits, the target's, labels
    "mmd": {},
    "jan": {},
    "coral": {},
    "swd": {},
    "deepjdot": {},
    "mcc": {},
    "bnm": {},
    "entropy": {},
    "im": {},
    "afn": {},
    "bsp": {},
}
Batch = dict[str, torch.Tensor]


def ours(kind: str) -> Callable[[Batch], torch.Tensor]:
    from hftransfer.objectives import build_objectives, parse_objectives

    modules, _ = build_objectives(parse_objectives({kind: KINDS[kind]}), DIM, CLASSES)
    needs = modules[kind].needs()
    return lambda batch: modules[kind](**{name: batch[name] for name in needs})


def peers(kind: str) -> dict[str, Callable[[Batch], torch.Tensor]]:
    """What each peer has of it."""
    from pytorch_adapt import layers
    from pytorch_adapt.layers.utils import get_kernel_scales
    from skada.deep import losses

    def both(loss: Any) -> Callable[[Batch], torch.Tensor]:
        return lambda b: loss(b["source_features"], b["target_features"])

    def target(loss: Any) -> Callable[[Batch], torch.Tensor]:
        return lambda b: loss(b["target_logits"])

    def each(loss: Any) -> Callable[[Batch], torch.Tensor]:
        return lambda b: loss(b["source_features"]) + loss(b["target_features"])

    def joint(b: Batch) -> torch.Tensor:
        sides = ("source", "target")
        return kernels(*([b[f"{s}_features"], b[f"{s}_logits"].softmax(-1)] for s in sides))

    def jdot(b: Batch) -> torch.Tensor:
        given = b["source_labels"], b["target_logits"], b["source_features"], b["target_features"]
        return losses.deepjdot_loss(*given, 0.01, 0.1)

    kernels = layers.MMDLoss(get_kernel_scales(), mmd_type="quadratic")
    entropy, diversity = layers.EntropyLoss(), layers.DiversityLoss()
    table = {
        "mmd": (both(kernels), both(losses.dan_loss)),
        "jan": (joint, None),
        "coral": (both(layers.CORALLoss()), both(losses.deepcoral_loss)),
        "swd": (both(layers.SlicedWasserstein(128)), None),
        "deepjdot": (None, jdot),
        "mcc": (target(layers.MCCLoss(T=2.5)), target(partial(losses.mcc_loss, T=2.5))),
        "bnm": (target(layers.BNMLoss()), None),
        "entropy": (target(entropy), None),
        "im": (lambda b: entropy(b["target_logits"]) + diversity(b["target_logits"]), None),
        "afn": (each(layers.AdaptiveFeatureNorm()), None),
        "bsp": (each(layers.BatchSpectralLoss()), None),
    }
    return {name: loss for name, loss in zip(NAMES, table[kind], strict=True) if loss is not None}


def batch(arrays: dict[str, np.ndarray], n: int) -> Batch:
    """Tensors of one size; what is float wants a gradient."""
    out = {k.removesuffix(f"/{n}"): torch.from_numpy(v) for k, v in arrays.items() if k.endswith(f"/{n}")}
    out = {k: v.requires_grad_() if v.is_floating_point() else v for k, v in out.items()}
    return out | {"source_weights": torch.ones(()).expand(n)}  # as a run without class weights gives them


def measure(
    losses: dict[str, Callable], arrays: dict[str, np.ndarray], n: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of forward + backward of each loss."""
    out: dict[str, list[float]] = {}
    for name, loss in losses.items():
        for _ in range(repeats):
            inputs = batch(arrays, n)
            began = time.process_time()
            loss(inputs).backward()
            out.setdefault(name, []).append(time.process_time() - began)
    return out


def peak_bytes(losses: dict[str, Callable], arrays: dict[str, np.ndarray], n: int) -> dict[str, int]:
    """How far torch's allocations rise at most in forward + backward, the inputs not counted."""
    out = {}
    for name, loss in losses.items():
        loss(batch(arrays, n)).backward()  # what is made once is not counted
        inputs = batch(arrays, n)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            loss(inputs).backward()
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore
        now = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
        out[name] = int(now.max())
    return out


def draw() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for n in SIZES:
        for domain, shift in (("source", 0.0), ("target", 0.1)):
            arrays[f"{domain}_features/{n}"] = rng.standard_normal((n, DIM), dtype=np.float32) + np.float32(shift)
            arrays[f"{domain}_logits/{n}"] = 2 * rng.standard_normal((n, CLASSES), dtype=np.float32)
        arrays[f"source_labels/{n}"] = rng.integers(0, CLASSES, n)
    return arrays


def serve(path: str) -> None:
    arrays = dict(np.load(path))
    for line in sys.stdin:
        kind, n, repeats = json.loads(line)
        found = measure(peers(kind), arrays, n, repeats) if repeats else peak_bytes(peers(kind), arrays, n)
        print(json.dumps(found), flush=True)


def compare(
    python: Path, kinds: list[str], rounds: int, repeats: int
) -> tuple[dict[tuple[str, int], dict[str, list[float]]], dict[str, dict[str, int]]]:
    """Seconds by objective and size, and peak bytes by objective at the largest size."""
    arrays, results, memory = draw(), {(kind, n): {} for kind in kinds for n in SIZES}, {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/inputs.npz", **arrays)
        with Worker(python, __file__, f"{folder}/inputs.npz") as worker:
            for round_ in range(rounds + 1):  # the first warms up
                for (kind, n), cell in results.items():
                    found = measure({"hftransfer": ours(kind)}, arrays, n, repeats) | worker.ask(kind, n, repeats)
                    for name, seconds in found.items() if round_ else ():
                        cell.setdefault(name, []).extend(seconds)
            for kind in kinds:
                memory[kind] = peak_bytes({"hftransfer": ours(kind)}, arrays, SIZES[-1])
                memory[kind] |= worker.ask(kind, SIZES[-1], 0)
    return results, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, default=Path("~/.cache/hftransfer-peers"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="per round")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.serve:
        return serve(args.serve)
    print(describe())
    results, memory = compare(make_env(args.env.expanduser().resolve()), args.kinds, args.rounds, args.repeats)
    beside = " | ".join(f"{p}, times ours" for p in NAMES)
    print(f"\n| objective | ours ms, n = {', '.join(map(str, SIZES))} | {beside} |")
    print("|---|---|---|---|")
    for kind in args.kinds:
        ms = [{name: median_ms(seconds) for name, seconds in results[kind, n].items()} for n in SIZES]
        mine = ", ".join(f"{m['hftransfer']:.2f}" for m in ms)
        ratios = [" / ".join(f"{m[p] / m['hftransfer']:.1f}" for m in ms) if p in ms[0] else "–" for p in NAMES]
        print(f"| `{kind}` | {mine} | {' | '.join(ratios)} |")
    print(f"\n| objective | peak MiB, n = {SIZES[-1]} | {beside} |")
    print("|---|---|---|---|")
    for kind in args.kinds:
        m = memory[kind]
        ratios = [f"{m[p] / m['hftransfer']:.1f}" if p in m else "–" for p in NAMES]
        print(f"| `{kind}` | {m['hftransfer'] / 2**20:.1f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
