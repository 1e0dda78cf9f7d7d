# /// script
# dependencies = ["hftransfer"]
# ///
"""Methods x shifts x policies x seeds from one file; a run that stopped goes on where it was.

    python recipes/benchmark.py --config recipes/configs/benchmark_sample.yaml --dry_run
    python recipes/benchmark.py --config recipes/configs/benchmark_sample.yaml --only method=mmd seed=1,2

Each cell runs in a process of its own: what crashes takes nothing else with it, its memory is given back and the peak
is its own, and no cell can depend on those before it. The price is one start of Python a cell.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hftransfer import run_recipe, stage, start_recipe

WRITTEN = ("results.jsonl", "table.md", "results.png")
CELLS = "_cells"
CELL = "--cell"  # how this file starts itself
DONE, TO_DO = "done", "to do"


def main(argv: list[str]) -> int:
    from hftransfer.cli.benchmark_options import benchmark_parser

    def job(words: list[str]) -> int:
        if words[:1] == [CELL]:
            threading.Thread(target=end_with_parent, daemon=True).start()
            return run_folder(Path(words[1]))
        with stage("comparing", if_stopped="The same command goes on with the cells that are left."):
            return run(benchmark_parser().parse_args(words))

    return run_recipe(job, argv)


def run(args) -> int:
    from hftransfer.cli.benchmark_options import read_benchmark, select
    from hftransfer.reporting.benchmark_table import (
        append_result,
        describe_time,
        read_results,
        show_score,
        target_score,
    )
    from hftransfer.trainers.saving.folder_lock import FolderInUse

    # 1. Read the file, find what is left, and check it before anything is trained.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "benchmark runs one cell after the other, each on one device. Start it as one process: show it one GPU "
            "with CUDA_VISIBLE_DEVICES=0, and split the cells between several GPUs with --only."
        )
    benchmark = read_benchmark(args.config, args.trust_config_code)
    cells, lines = select(benchmark.cells, args.only), benchmark.output_dir / "results.jsonl"
    left = [cell for cell, state in zip(cells, states(lines, cells), strict=True) if state != DONE]
    check(left)
    check_folder(benchmark.output_dir)
    if args.dry_run:
        print_cells(cells, states(lines, cells), read_results(lines))
        return 0

    # 2. Run what is left, one line a cell.
    claim(benchmark.output_dir)
    for i, cell in enumerate(left, 1):
        print(f"[{i} of {len(left)}] {cell}: ", end="", flush=True)
        if states(lines, [cell]) == [DONE]:
            print("done by another run meanwhile")
            continue
        try:
            with cell_lock(benchmark.output_dir, cell):
                row = run_apart(cell, benchmark.output_dir / CELLS / cell.hash)
        except FolderInUse as error:
            print(f"left out: {error}", flush=True)
            continue
        append_result(lines, row)
        score = target_score(row, benchmark.metric)
        shown = f"target {show_score(score, benchmark.metric)} (oracle), " if score is not None else ""
        print(row.get("error") or shown + describe_time(row["wall_seconds"]), flush=True)
        write_table(benchmark)

    # 3. The table and the picture, of everything that is there.
    report(benchmark)
    return int(states(lines, cells) != [DONE] * len(cells))


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something of somebody else's under the names that a benchmark writes."""
    from hftransfer.reporting.benchmark_table import read_results
    from hftransfer.trainers.saving.output_folder import check_access
    from hftransfer.trainers.saving.written_files import foreign_names

    check_access(folder)
    older = bool(read_results(folder / WRITTEN[0]))  # of a version that kept no record of what it wrote
    theirs = [] if older or not folder.is_dir() else foreign_names(folder, WRITTEN)
    if theirs:
        raise FileExistsError(
            f"{folder} holds {', '.join(theirs)}, which no benchmark wrote and this one would replace. Choose another "
            "output_dir, or move what is there."
        )


def claim(folder: Path) -> None:
    """Makes the folder and marks what will be written to it as our own."""
    from hftransfer.trainers.saving.written_files import record_written

    folder.mkdir(parents=True, exist_ok=True)
    record_written(folder, WRITTEN)


@contextmanager
def cell_lock(folder: Path, cell):
    """Keeps a cell from being run twice at once; several runs may share the cells of a folder."""
    from hftransfer.trainers.saving.folder_lock import drop, take

    lock = folder / CELLS / f"{cell.hash}.lock"
    lock.parent.mkdir(exist_ok=True)
    take(lock, folder / CELLS / cell.hash)
    try:
        yield
    finally:
        drop(lock)


def check(cells) -> None:
    """Whatever is wrong comes to light before anything is trained."""
    from hftransfer.trainers.benchmark_cell import CellCheck

    checker = CellCheck()
    for cell in {cell.row: cell for cell in cells}.values():  # one seed of each will do
        try:
            checker.check(cell.shift, cell.policy, cell.settings, config_of(cell, Path("unused")))
        except (ValueError, TypeError, OSError) as error:
            where = f"{cell.shift} · {cell.method} · {cell.policy}"
            raise ValueError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error


def states(lines: Path, cells) -> list[str]:
    """`done`, `failed` or `to do` for each cell."""
    from hftransfer.reporting.benchmark_table import latest, read_results

    rows = latest(read_results(lines), [cell.facts for cell in cells])
    return [row["status"] if row else TO_DO for row in rows]


# ---- one cell


def run_apart(cell, folder: Path) -> dict:
    """Runs a cell in a process of its own; its line for results.jsonl."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps(asdict(cell)))
    began, result = time.perf_counter(), folder / "result.json"
    ended = start(folder)
    outcome = {"status": "failed", "error": f"the process ended with status {ended} and left no result"}
    if result.is_file():
        outcome = json.loads(result.read_text())
    row = {**cell.facts, **outcome, "wall_seconds": round(time.perf_counter() - began, 1), "settings": cell.settings}
    if row["status"] == DONE:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        row["log"] = str(folder / "log.txt")
    return row


def start(folder: Path) -> int:
    """This file again, on the cell in a folder; its exit status. What it prints goes to a log."""
    from hftransfer.cli.signals import LAUNCHER

    command = [sys.executable, str(Path(__file__).resolve()), CELL, str(folder)]
    env = os.environ | {LAUNCHER: str(os.getpid())}
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            return process.wait()
        finally:
            process.kill()


def end_with_parent() -> None:
    """Ends this process with the one that started it, which holds the other side of stdin."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def run_folder(folder: Path) -> int:
    """The cell in a folder, in this process; leaves a whole `result.json` or none."""
    from hftransfer.cli.benchmark_options import Cell
    from hftransfer.cli.error_messages import describe_error, is_refusal, trace_of
    from hftransfer.trainers.benchmark_cell import run_cell

    cell = Cell(**json.loads((folder / "cell.json").read_text()))
    try:
        outcome = {"status": DONE, **run_cell(cell.settings, config_of(cell, folder))}
    except Exception as error:  # whatever it is, the other cells go on
        print(trace_of(error), file=sys.stderr)
        kind = f"{type(error).__name__}: " if is_refusal(error) else ""
        outcome = {"status": "failed", "error": f"{kind}{describe_error(error)}"}
    partial = folder / "result.json.part"
    partial.write_text(json.dumps(outcome))
    partial.replace(folder / "result.json")
    return int(outcome["status"] != DONE)


def config_of(cell, folder: Path):
    """Its `AdaptationConfig`, each value read as on the command line."""
    from hftransfer import AdaptationConfig, RecipeParser

    where = f"{cell.shift} · {cell.method} · {cell.policy}"
    settings = {**cell.settings["config"], "output_dir": str(folder)}
    return RecipeParser([AdaptationConfig]).parse_dict(settings, where)[0]


# ---- what is shown


def print_cells(cells, states, rows) -> None:
    """What a run would do, and how long it might take."""
    from hftransfer.reporting.benchmark_table import describe_time, guess_seconds, print_table

    seeds: dict = {}
    for cell, state in zip(cells, states, strict=True):
        seeds.setdefault(cell.row, []).append(f"{cell.seed} {state}")
    names = ("shift", "method", "policy", "seeds")
    print_table([dict(zip(names, (*row, ", ".join(s)), strict=True)) for row, s in seeds.items()], "Cells")
    left = [cell.facts for cell, state in zip(cells, states, strict=True) if state != DONE]
    seconds = guess_seconds(rows, left)
    about = f", about {describe_time(seconds)} by those that are done" if left and seconds else ""
    print(f"{len(cells) - len(left)} of {len(cells)} cells are done; {len(left)} are left{about}.")


def write_table(benchmark):
    """Writes table.md, of all cells that have results; its lines and the results."""
    from hftransfer.reporting.benchmark_table import latest, markdown, read_results, summarise

    found = latest(read_results(benchmark.output_dir / "results.jsonl"), [cell.facts for cell in benchmark.cells])
    rows = [row for row in found if row]
    table = summarise(rows, [cell.row for cell in benchmark.cells], benchmark.metric)
    page = markdown(table, benchmark.metric, [row for row in rows if row["status"] != DONE])
    (benchmark.output_dir / "table.md").write_text(page, encoding="utf-8")
    return table, rows


def report(benchmark) -> None:
    """The table in the terminal, and the picture."""
    from hftransfer.reporting.benchmark_plot import draw_benchmark
    from hftransfer.reporting.benchmark_table import name_of, print_table

    (table, rows), folder = write_table(benchmark), benchmark.output_dir
    print_table(table, f"Results; {folder / 'table.md'} says what the columns mean")
    for row in rows:
        if row["status"] != DONE:
            print(f"failed: {name_of(row)}: {row['error']} (see {row['log']})")
    done = [row for row in rows if row["status"] == DONE]
    try:
        draw_benchmark(done, [cell.row for cell in benchmark.cells], folder / "results.png", benchmark.metric)
    except ImportError as error:
        print(f"There is no picture. {error}")


if __name__ == "__main__":
    start_recipe(main, "benchmark")
