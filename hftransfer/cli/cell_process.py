"""Process of a benchmark's cell: started, awaited, and ended with the process that started it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from .benchmark_file import Cell
from .error_messages import describe_error, is_refusal, trace_of
from .recipe_process import run_recipe, start_recipe
from .signals import LAUNCHER

DONE, FAILED = "done", "failed"
CELL, RESULT, LOG = "cell.json", "result.json", "log.txt"  # files of a cell's folder
# Modules come from where they came from for the process that starts the cell: a method may name a function in one.
PROGRAM = "import sys; sys.path[:] = {paths!r}; from hftransfer.cli.cell_process import main; main()"


def run_in_process(cell: Cell, folder: Path) -> dict[str, Any]:
    """Result line of a cell, run in a process of its own.

    Args:
        cell: what to run.
        folder: of this cell alone; it is kept, with the log, when the cell fails.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    (folder / CELL).write_text(json.dumps(asdict(cell)))
    began, result = time.perf_counter(), folder / RESULT
    status = start_cell(folder)
    outcome = {"status": FAILED, "error": f"the process ended with status {status} and left no result"}
    if result.is_file():
        outcome = json.loads(result.read_text())
    row = {**cell.facts, **outcome, "wall_seconds": round(time.perf_counter() - began, 1), "settings": cell.settings}
    if row["status"] == DONE:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        row["log"] = str(folder / LOG)
    return row


def start_cell(folder: Path) -> int:
    """Exit status of a new process that runs the cell in a folder. What it prints goes to a log."""
    command = [sys.executable, "-c", PROGRAM.format(paths=sys.path), str(folder)]
    env = os.environ | {LAUNCHER: str(os.getpid())}
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            return process.wait()
        finally:
            process.kill()


def main() -> NoReturn:
    """Entry point of the process: the cell in the folder that its one argument names."""
    start_recipe(lambda argv: run_recipe(_run, argv), "benchmark")


def _run(words: list[str]) -> int:
    threading.Thread(target=end_with_parent, daemon=True).start()
    return run_folder(Path(words[0]))


def end_with_parent() -> None:
    """End of this process as soon as that of its parent, which holds the other side of stdin."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def run_folder(folder: Path) -> int:
    """Exit status of the cell in a folder, run in this process; it leaves a whole `result.json` or none."""
    from ..trainers.benchmark_cell import run_cell

    cell = Cell(**json.loads((folder / CELL).read_text()))
    try:
        outcome = {"status": DONE, **run_cell(cell.settings, cell.config(folder))}
    except Exception as error:  # whatever it is, the other cells go on
        print(trace_of(error), file=sys.stderr)
        kind = f"{type(error).__name__}: " if is_refusal(error) else ""
        outcome = {"status": FAILED, "error": f"{kind}{describe_error(error)}"}
    partial = folder / f"{RESULT}.part"
    partial.write_text(json.dumps(outcome))
    partial.replace(folder / RESULT)
    return int(outcome["status"] != DONE)
