"""Tables of docs/results_*.md, from result files of recipes/benchmark.py and of the scripts here; nothing is run.

    python tests/benchmarks/side_by_side.py docs/results/catalogue_digits.jsonl --shift "USPS to MNIST"
    python tests/benchmarks/side_by_side.py docs/results/images.jsonl --across shift --where epochs=10.0

Columns called oracle read target labels. Gains are by seed, in points of target accuracy, over source-only and over
the control, which runs target rows and asks nothing of them. Where several files hold a cell, the first one counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hftransfer.reporting.benchmark_table import BASELINE, CONTROL

TARGET = "target_oracle_accuracy"
SHIFTS = {  # the scripts' tasks by the names that the recipe's files give them
    "press": "press to PubMed",
    "pos": "news to biomedical tags",
    "mnist-usps": "MNIST to USPS",
    "usps-mnist": "USPS to MNIST",
}
CELL = ("shift", "policy", "method", "seed")
Cells = Mapping[int, Mapping]  # of one method, by seed


def read_results(paths: Sequence[Path], where: Mapping[str, str]) -> list[dict]:
    """Finished cells of all files, named as the recipe names them; `where` holds for lines that have the key."""
    rows: list[dict] = []
    for path in paths:
        earlier = {cell_of(row) for row in rows}
        lines = [name_alike(json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines()]
        if path == paths[-1] and (missing := [key for key in where if not any(key in row for row in lines)]):
            raise ValueError(f"no line of {path} says {missing[0]}=…")
        lines = [row for row in lines if all(str(row.get(key, value)) == value for key, value in where.items())]
        rows += [row for row in lines if row.get("status", "done") == "done" and cell_of(row) not in earlier]
    return rows


def cell_of(row: Mapping) -> tuple:
    return tuple(row.get(key) for key in CELL)


def name_alike(row: dict) -> dict:
    """A line of a script, named as the recipe names shifts and methods."""
    task = row.get("task", "")
    method, comma, more = row["method"].partition(", ")
    method = CONTROL if method == "batch norm alone" else method
    return {"shift": SHIFTS.get(task, task.replace("-", " to ")), **row, "method": method + f" ({more})" * bool(comma)}


def score(row: Mapping) -> float:
    """Accuracy where the model is to be used, in per cent."""
    return 100 * row[TARGET] if TARGET in row else row["accuracy"]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def line(method: str, methods: Mapping[str, Cells]) -> dict[str, str]:
    """A row of the table."""
    cells = methods[method]
    shown = {"method": method, "seeds": str(len(cells))}
    shown["source acc"] = spread([100 * row["source_accuracy"] for row in cells.values()])
    shown["target acc (oracle)"] = spread([score(row) for row in cells.values()])
    for base in (BASELINE, CONTROL):
        if base in methods:
            seeds = [seed for seed in sorted(cells) if seed in methods[base]]
            gains = [score(cells[seed]) - score(methods[base][seed]) for seed in seeds]
            shown[f"gain on {base}"] = ", ".join(f"{gain:+.1f}" for gain in gains) if method != base else ""
    return shown


def markdown(lines: Iterable[Iterable[str]]) -> str:
    head, *rows = [list(cells) for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def table(rows: Iterable[Mapping]) -> str:
    """All methods of one shift, the best on the target first."""
    methods: dict[str, dict[int, Mapping]] = {}
    for row in rows:
        if row["seed"] in methods.setdefault(row["method"], {}):
            raise ValueError(f"{row['method']} was run with seed {row['seed']} under several settings: say --where")
        methods[row["method"]][row["seed"]] = row
    means = {method: statistics.mean(map(score, cells.values())) for method, cells in methods.items()}
    lines = [line(method, methods) for method in sorted(methods, key=lambda method: -means[method])]
    return markdown([lines[0], *(shown.values() for shown in lines)])


def heading(key: str, value: object) -> str:
    """A column's name: 15 %, 20 epochs, amazon → webcam."""
    if key == "fraction":
        return f"{100 * float(str(value)):.0f} %"
    return f"{float(str(value)):g} epochs" if key == "epochs" else str(value).replace(" to ", " → ")


def across(rows: Sequence[Mapping], keys: Sequence[str]) -> str:
    """Accuracy of the methods, for each value of `keys`; how many seeds, where they are not as many as usual."""
    cells: dict[str, dict[str, list[float]]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        column = ", ".join(heading(key, row[key]) for key in keys)
        columns[column] = None
        cells.setdefault(row["method"], {}).setdefault(column, []).append(score(row))
    usual = statistics.mode(len(scores) for by_column in cells.values() for scores in by_column.values())

    def show(scores: Sequence[float]) -> str:
        return spread(scores) + (f" ({len(scores)})" if len(scores) != usual else "") if scores else ""

    lines = [[method, *(show(by_column.get(c, [])) for c in columns)] for method, by_column in cells.items()]
    return markdown([["method", *columns], *lines])


def main(argv: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="files of one JSON line a cell")
    parser.add_argument("--shift", help="one of several in the files")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--across", nargs="+", metavar="KEY", help="accuracy alone, a column for each value of these")
    parser.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help="only lines that say so")
    args = parser.parse_args(argv)
    try:
        rows = read_results(args.results, dict(pair.split("=", 1) for pair in args.where))
    except ValueError as error:
        parser.error(str(error))
    if args.shift:
        rows = [row for row in rows if row["shift"] == args.shift]
    if args.methods:
        rows = [row for row in rows if row["method"] in args.methods]
    if not rows:
        parser.error("no line is left")
    if args.across:
        return across(rows, args.across)
    shifts = sorted({row["shift"] for row in rows})
    try:
        tables = [table(row for row in rows if row["shift"] == shift) for shift in shifts]
    except ValueError as error:
        parser.error(str(error))
    if len(shifts) == 1:
        return tables[0]
    return "\n\n".join(f"**{heading('shift', s)}**\n\n{t}" for s, t in zip(shifts, tables, strict=True))


if __name__ == "__main__":
    print(main())
