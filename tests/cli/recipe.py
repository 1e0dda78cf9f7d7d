"""The finetune recipe on tiny csv files: in this process, or as a user starts it."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import tiny
from processes import heard

from hftransfer.cli import cell_process
from hftransfer.cli.main import main

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune.py"
OPTIONS = {
    "objectives": '{"mmd": 0.1}',
    "max_steps": "6",
    "per_device_train_batch_size": "4",
    "learning_rate": "3e-3",
    "save_strategy": "steps",
    "save_steps": "3",
    "logging_steps": "3",
    "disable_tqdm": "true",
    "use_cpu": "true",
}

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}

LOAD = """
import json, sys
from transformers import pipeline
model = pipeline("text-classification", sys.argv[1])
print(json.dumps([row["label"] for row in model(json.loads(sys.argv[2]))]))
"""


def write_domain(folder: Path, name: str, seed: int, sizes: dict[str, int], unlabelled: tuple[str, ...] = ()) -> str:
    """`{name}_{split}.csv` files with label names; the pattern that reads them."""
    for offset, (split, rows) in enumerate(sizes.items()):
        data = tiny.domain(rows, seed=seed + offset)
        names = [tiny.LABELS[i] for i in data["label"]]
        data = data.remove_columns("label")
        if split not in unlabelled:
            data = data.add_column("label", names)
        data.to_csv(folder / f"{name}_{split}.csv")
    return str(folder / (name + "_{split}.csv"))


def words(**options: str | None) -> list[str]:
    """A command line: the usual options, these instead or besides; `None` leaves one out."""
    chosen = {k: v for k, v in (OPTIONS | options).items() if v is not None}
    return [word for key, value in chosen.items() for word in (f"--{key}", value)]


def load(name: str) -> Any:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPE.with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_cells_here(monkeypatch) -> list[str]:
    """A benchmark's cells run in this process instead of one of their own; the methods that were started."""
    started: list[str] = []

    def start(folder: Path) -> int:
        started.append(json.loads((folder / "cell.json").read_text())["method"])
        return cell_process.run_folder(folder)

    monkeypatch.setattr(cell_process, "start_cell", start)
    return started


def run(argv: list[str], name: str = "finetune") -> int:
    """A recipe's `main` in this process; its exit status."""
    return load(name).main(argv)


def script(words: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """`python recipes/finetune.py …`, offline, on one thread and a wide terminal, in a process that has imported what
    takes long (`test_two_processes.py` has fresh ones)."""
    return heard(_script, words, cwd=cwd, **ENVIRONMENT)


def command(words: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """The command `hftransfer …`, in such a process.

    The recipe takes the command's place without an exec, which would import it all again (`test_signals.py` has one).
    """
    return heard(_command, words, cwd=cwd, **ENVIRONMENT)


def _script(words: list[str]) -> None:
    _run_script(sys.executable, [sys.executable, str(RECIPE), *words], dict(os.environ))


def _command(words: list[str]) -> None:
    sys.argv, os.execvpe = ["hftransfer", *words], _run_script
    main()


def _run_script(program: str, command: list[str], env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
