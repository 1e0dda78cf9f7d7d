"""What importing costs: hftransfer and its trainer beside transformers' `Trainer`, each in a fresh process.

    python tests/benchmarks/import_time.py

Processor time of the child process, in turns. Bytecode is cached, as an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

from machine import describe, median_ms, verdict

PROGRAMS = {
    "transformers.Trainer": "from transformers import Trainer",
    "hftransfer.AdaptationTrainer": "import hftransfer; hftransfer.AdaptationTrainer",
    "import hftransfer": "import hftransfer",
    "import torch": "import torch",
}


def seconds(program: str) -> float:
    """User and system time of one run."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    print(describe())
    runs: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for repeat in range(args.repeats + 1):  # the first fills the caches
        for name, program in PROGRAMS.items():
            taken = seconds(program)
            if repeat:
                runs[name].append(taken)
    ms = {name: median_ms(values) for name, values in runs.items()}
    for name, value in ms.items():
        print(f"{name:>30}: {value:6.0f} ms")
    ratio = ms["hftransfer.AdaptationTrainer"] / ms["transformers.Trainer"]
    print(verdict("times transformers.Trainer", ratio, 1.10))


if __name__ == "__main__":
    main()
