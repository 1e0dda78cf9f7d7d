"""Runner of a benchmark: checks of its cells, their processes and locks, result lines, table and picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .benchmark_file import Benchmark, Cell, select
from .cell_process import DONE, run_in_process

RESULTS, TABLE, PICTURE = WRITTEN = ("results.jsonl", "table.md", "results.png")
CELLS = "_cells"  # folder of the cells' own folders, locks and logs
TO_DO = "to do"


class BenchmarkRunner:
    """Runner of a benchmark's cells, one after the other, each in a process of its own.

    What crashes takes nothing else with it, memory is given back and the peak is the cell's own, and no cell can
    depend on those before it. The price is one start of Python a cell. Finished cells are left as they are, so that a
    run that stopped goes on where it was; several runs may share the cells of one folder.

    Args:
        benchmark: from `read_benchmark`.
        only: the cells to run, as in `["method=mmd,dann", "seed=1"]`; all when empty.

    Attributes:
        cells: those to run.
        remaining: those of them that were not done when the runner was made.

    Raises:
        ValueError: there is no such field or name, or several processes were launched.

    Example:
        >>> keys = "output_dir: runs/comparison, shifts: {news: {source: sample, target: sample}}, methods: {mmd: mmd}"
        >>> Path("mine.yaml").write_text(f"{{{keys}}}")
        >>> runner = BenchmarkRunner(read_benchmark(Path("mine.yaml")), only=["method=mmd"])
        >>> print(*runner.remaining, sep=", ")
        news · mmd · full · seed 1, news · mmd · full · seed 2, news · mmd · full · seed 3
        >>> runner.finished()
        False
        >>> runner.run()  # doctest: +SKIP
    """

    def __init__(self, benchmark: Benchmark, only: Sequence[str] = ()):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                "benchmark runs one cell after the other, each on one device. Start it as one process: show it one "
                "GPU with CUDA_VISIBLE_DEVICES=0, and split the cells between several GPUs with --only."
            )
        self.benchmark, self.folder = benchmark, benchmark.output_dir
        self.cells = select(benchmark.cells, only)
        states = self._states(self.cells)
        self.remaining = [cell for cell, state in zip(self.cells, states, strict=True) if state != DONE]

    def check(self) -> None:
        """Check of data, model and settings of the remaining cells, and of the output folder, before any training.

        Raises:
            ValueError: a cell that could not run, by its name.
            FileExistsError: the folder holds somebody else's file under a name that a benchmark writes.
        """
        from ..trainers.benchmark_cell import CellCheck

        checker = CellCheck()
        for cell in {cell.row: cell for cell in self.remaining}.values():  # one seed of each will do
            try:
                checker.check(cell.shift, cell.policy, cell.settings, cell.config(Path("unused")))
            except (ValueError, TypeError, OSError) as error:
                raise ValueError(f"{cell.name}: {str(error).removeprefix(f'{cell.name}: ')}") from error
        check_folder(self.folder)

    def run(self) -> None:
        """Run of the remaining cells: each prints a line, adds its result and renews the table. A cell that fails is
        written down as failed, and the others go on."""
        from ..reporting.benchmark_table import append_result, describe_time, show_score, target_score
        from ..trainers.saving.folder_lock import FolderInUse

        metric = self.benchmark.metric
        record_files(self.folder)
        for i, cell in enumerate(self.remaining, 1):
            print(f"[{i} of {len(self.remaining)}] {cell}: ", end="", flush=True)
            if self._states([cell]) == [DONE]:
                print("done by another run meanwhile")
                continue
            try:
                with cell_lock(self.folder, cell):
                    row = run_in_process(cell, self.folder / CELLS / cell.hash)
            except FolderInUse as error:
                print(f"left out: {error}", flush=True)
                continue
            append_result(self.folder / RESULTS, row)
            score = target_score(row, metric)
            score_text = f"target {show_score(score, metric)} (oracle), " if score is not None else ""
            print(row.get("error") or score_text + describe_time(row["wall_seconds"]), flush=True)
            self._write_table()

    def finished(self) -> bool:
        """State of the whole: whether every cell is done, by this run or another."""
        return self._states(self.cells) == [DONE] * len(self.cells)

    def print_cells(self) -> None:
        """Printed table of the cells and their states, and how long the remaining ones might take."""
        from ..reporting.benchmark_table import describe_time, guess_seconds, print_table, read_results

        states = self._states(self.cells)
        seeds: dict[tuple[str, str, str], list[str]] = {}
        for cell, state in zip(self.cells, states, strict=True):
            seeds.setdefault(cell.row, []).append(f"{cell.seed} {state}")
        names = ("shift", "method", "policy", "seeds")
        print_table([dict(zip(names, (*row, ", ".join(s)), strict=True)) for row, s in seeds.items()], "Cells")
        remaining = [cell.facts for cell, state in zip(self.cells, states, strict=True) if state != DONE]
        seconds = guess_seconds(read_results(self.folder / RESULTS), remaining)
        about = f", about {describe_time(seconds)} by those that are done" if remaining and seconds else ""
        done = len(self.cells) - len(remaining)
        print(f"{done} of {len(self.cells)} cells are done; {len(remaining)} are left{about}.")

    def report(self) -> None:
        """Results in the terminal, with the cells that failed, and as a picture: of everything that has some."""
        from ..reporting.benchmark_plot import draw_benchmark
        from ..reporting.benchmark_table import name_of, print_table

        table, rows = self._write_table()
        print_table(table, f"Results; {self.folder / TABLE} says what the columns mean")
        for row in rows:
            if row["status"] != DONE:
                print(f"failed: {name_of(row)}: {row['error']} (see {row['log']})")
        done = [row for row in rows if row["status"] == DONE]
        table_rows = [cell.row for cell in self.benchmark.cells]
        try:
            draw_benchmark(done, table_rows, self.folder / PICTURE, self.benchmark.metric)
        except ImportError as error:
            print(f"There is no picture. {error}")

    def _write_table(self) -> tuple[list[dict[str, str]], list[Mapping[str, Any]]]:
        """Table of all of the benchmark's cells that have results, written to its file; with their result lines."""
        from ..reporting.benchmark_table import markdown, summarise

        cells, metric = self.benchmark.cells, self.benchmark.metric
        rows = [row for row in self._latest(cells) if row]
        table = summarise(rows, [cell.row for cell in cells], metric)
        page = markdown(table, metric, [row for row in rows if row["status"] != DONE])
        (self.folder / TABLE).write_text(page, encoding="utf-8")
        return table, rows

    def _states(self, cells: Sequence[Cell]) -> list[str]:
        """State of each cell: `done`, `failed` or `to do`."""
        return [row["status"] if row else TO_DO for row in self._latest(cells)]

    def _latest(self, cells: Sequence[Cell]) -> list[Mapping[str, Any] | None]:
        """Last result line of each cell, `None` where there is none."""
        from ..reporting.benchmark_table import latest, read_results

        return latest(read_results(self.folder / RESULTS), [cell.facts for cell in cells])


def check_folder(folder: Path) -> None:
    """Refusal of a folder that holds somebody else's file under a name that a benchmark writes.

    Raises:
        FileExistsError: it does.
    """
    from ..models.atomic_folder import check_access
    from ..reporting.benchmark_table import read_results
    from ..trainers.saving.written_files import foreign_names

    check_access(folder)
    older = bool(read_results(folder / RESULTS))  # of a version that kept no record of what it wrote
    theirs = [] if older or not folder.is_dir() else foreign_names(folder, WRITTEN)
    if theirs:
        raise FileExistsError(
            f"{folder} holds {', '.join(theirs)}, which no benchmark wrote and this one would replace. Choose another "
            "output_dir, or move what is there."
        )


def record_files(folder: Path) -> None:
    """Record of what a benchmark will write to a folder, which is made if need be."""
    from ..trainers.saving.written_files import record_written

    folder.mkdir(parents=True, exist_ok=True)
    record_written(folder, WRITTEN)


@contextmanager
def cell_lock(folder: Path, cell: Cell) -> Iterator[None]:
    """Lock of a cell, which keeps two runs that share a folder from running it at once.

    Raises:
        FolderInUse: another run has it.
    """
    from ..trainers.saving.folder_lock import drop, take

    lock = folder / CELLS / f"{cell.hash}.lock"
    lock.parent.mkdir(exist_ok=True)
    take(lock, folder / CELLS / cell.hash)
    try:
        yield
    finally:
        drop(lock)
