"""MMD forward + backward beside pytorch-adapt 0.0.83 and skada 0.6.0: time, agreement, and our peak memory.

    python tests/benchmarks/mmd_kernels.py --env ~/.cache/hftransfer-peers

The peers live in an environment of their own, which the first run makes under `--env` (about 1 GB; where pip would
take a CUDA build of torch, set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu). A worker there gets the
same inputs, takes turns with us, and both count the time of their own process on one thread.

Settings: 1, 5 or 33 kernels of the same widths, given to all three; "shipped" is each library's own multi-kernel MMD
(ours: 5 kernels at the mean distance; the others: 33 at the median). pytorch-adapt computes the same formula as we
do, so the values agree; skada's kernels are of the plain distance, so its values are its own. "products" is the time
of the 7 matrix products that the value and its gradient need in any case: no ratio can pass peer / products.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe, median_ms, verdict
from peers import NAMES, Worker, make_env

SIZES, DIM, WIDTH = (32, 64, 128, 256), 768, 1536.0
SETTINGS = ("1", "5", "33", "shipped")


def our_losses(setting: str) -> dict:
    from hftransfer.objectives.alignment.mmd import MMD

    return {"hftransfer": MMD() if setting == "shipped" else MMD(kernels=int(setting), bandwidth=WIDTH)}


def peer_losses(setting: str) -> dict:
    from pytorch_adapt.layers import MMDLoss
    from pytorch_adapt.layers.utils import get_kernel_scales
    from skada.deep.losses import dan_loss

    if setting == "shipped":
        return {"pytorch-adapt": MMDLoss(get_kernel_scales(), mmd_type="quadratic"), "skada": dan_loss}
    count = int(setting)
    multipliers = 2.0 ** ((count - 1) // 2 - torch.arange(count))
    sigmas = (WIDTH**0.5 * multipliers).tolist()
    return {
        "pytorch-adapt": MMDLoss(1 / multipliers, mmd_type="quadratic", bandwidth=WIDTH),
        "skada": lambda x, y: dan_loss(x, y, sigmas=sigmas),
    }


def measure(losses: dict, inputs: dict, n: int, repeats: int) -> dict[str, dict]:
    """Value and seconds of forward + backward of each loss."""
    out = {}
    for name, loss in losses.items():
        seconds = []
        for _ in range(repeats):
            x, y = (torch.from_numpy(inputs[f"{domain}{n}"]).requires_grad_() for domain in "xy")
            began = time.process_time()
            value = loss(x, y)
            value.backward()
            seconds.append(time.process_time() - began)
        out[name] = {"value": value.item(), "seconds": seconds}
    return out


def products(inputs: dict, n: int, repeats: int) -> list[float]:
    """Seconds of the 7 matrix products: three Gram blocks, and four that turn slopes into gradients."""
    x, s = torch.from_numpy(inputs[f"x{n}"]), torch.rand(n, n)
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(3):
            torch.mm(x, x.T)
        for _ in range(4):
            torch.mm(s, x)
        seconds.append(time.process_time() - began)
    return seconds


def serve(path: str) -> None:
    """The worker: one JSON request a line in, one JSON answer a line out."""
    inputs = dict(np.load(path))
    for line in sys.stdin:
        setting, n, repeats = json.loads(line)
        print(json.dumps(measure(peer_losses(setting), inputs, n, repeats)), flush=True)


def peak_memory(n: int) -> None:
    """Prints how far one forward + backward at `n` rows per domain raises the process's peak, in n x n matrices."""
    from hftransfer.objectives.alignment.mmd import MMD

    x, y = (torch.randn(n, DIM, requires_grad=True) for _ in range(2))
    MMD()(x[:64], y[:64]).backward()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    MMD()(x, y).backward()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident) / (4 * n * n))


def compare(python: Path, rounds: int, repeats: int) -> dict:
    """Results by (setting, n) and library, the libraries taking turns."""
    rng = np.random.default_rng(0)
    inputs = {}
    for n in SIZES:
        inputs[f"x{n}"] = rng.standard_normal((n, DIM), dtype=np.float32)
        inputs[f"y{n}"] = 0.1 + 1.1 * rng.standard_normal((n, DIM), dtype=np.float32)
    results: dict = {(s, n): {} for s in SETTINGS for n in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/inputs.npz", **inputs)
        with Worker(python, __file__, f"{folder}/inputs.npz") as worker:
            for round_ in range(rounds + 1):  # the first warms up
                for (setting, n), cell in results.items():
                    answers = measure(our_losses(setting), inputs, n, repeats)
                    answers["products"] = {"value": 0, "seconds": products(inputs, n, repeats)}
                    answers |= worker.ask(setting, n, repeats)
                    for name, answer in answers.items() if round_ else ():
                        cell.setdefault(name, {"seconds": [], "value": answer["value"]})["seconds"] += answer[
                            "seconds"
                        ]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, default=Path("~/.cache/hftransfer-peers"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="per round")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--peak-memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.serve:
        return serve(args.serve)
    if args.peak_memory:
        return peak_memory(args.peak_memory)

    print(describe())
    results = compare(make_env(args.env.expanduser().resolve()), args.rounds, args.repeats)
    print("\nkernels    n   ours ms  products ms   pytorch-adapt         skada         value ours / pytorch-adapt")
    for (setting, n), cell in results.items():
        ms = {name: median_ms(answer["seconds"]) for name, answer in cell.items()}
        ratios = "  ".join(f"{ms[p]:7.2f} ({ms[p] / ms['hftransfer']:4.1f}x)" for p in NAMES)
        values = f"{cell['hftransfer']['value']:.6f} / {cell['pytorch-adapt']['value']:.6f}"
        print(f"{setting:>7} {n:4}  {ms['hftransfer']:8.2f} {ms['products']:10.2f}   {ratios}   {values}")
    print()
    for setting in SETTINGS:
        ms = {name: median_ms(answer["seconds"]) for name, answer in results[setting, SIZES[-1]].items()}
        ratio = min(ms[p] for p in NAMES) / ms["hftransfer"]
        print(verdict(f"n = {SIZES[-1]}, kernels {setting}: times faster than both peers", ratio, 4, at_least=True))
    command = [sys.executable, __file__, "--peak-memory", "4096"]
    matrices = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(verdict("n = 4,096: peak memory in n x n matrices", matrices, 4))


if __name__ == "__main__":
    main()
