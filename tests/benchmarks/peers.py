"""pytorch-adapt 0.0.83 and skada 0.6.0 in an environment of their own, and a worker there that takes turns with us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("pytorch-adapt", "skada")
PINNED = ["torch==2.13.0", "numpy", "pandas", "scikit-learn", "tabulate", "tqdm"]
WITHOUT_NEEDS = ["pytorch-adapt==0.0.83", "skada==0.6.0"]  # the first asks for torchvision, which it does not use here
WITHOUT_NEEDS += ["pytorch-metric-learning", "torchmetrics", "lightning-utilities", "packaging", "skorch", "POT"]


def make_env(folder: Path) -> Path:
    """The peers' interpreter; the environment is made when it is not there."""
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        print(f"Making {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in (PINNED, ["--no-deps", *WITHOUT_NEEDS]):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return python


class Worker:
    """A script of this folder, started as `script --serve arguments` in the peers' environment: one JSON request a
    line in, one JSON answer a line out."""

    def __init__(self, python: Path, script: str, *arguments: str):
        command = [str(python), script, "--serve", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
