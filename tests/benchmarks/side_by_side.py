"""The tables of docs/all_objectives.md, from result files of recipes/benchmark.py; nothing is run.

    python tests/benchmarks/side_by_side.py docs/results/catalogue_digits.jsonl --shift "USPS to MNIST"

Columns called oracle read target labels. A method harms in a seed where its target ends more than half a point below
source-only with the same seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from hftransfer.reporting.benchmark import BASELINE, HARM

COLUMNS = (
    "method",
    "seeds",
    "source acc",
    "target acc (oracle)",
    "by seed, against source-only",
    "harmed",
    "target diversity",
)
TARGET = "target_oracle_accuracy"


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation, in per cent."""
    values = [100 * value for value in values]
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def line(method: str, cells: Mapping[int, Mapping], base: Mapping[int, Mapping]) -> list[str]:
    """A row of the table, of one method's cells and source-only's, by seed."""
    gains = [cells[seed][TARGET] - base[seed][TARGET] for seed in sorted(cells) if seed in base]
    harmed = sum(gain < -HARM - 1e-9 for gain in gains)
    own = method == BASELINE
    return [
        method,
        str(len(cells)),
        spread(row["source_accuracy"] for row in cells.values()),
        spread(row[TARGET] for row in cells.values()),
        "" if own else ", ".join(f"{100 * gain:+.1f}" for gain in gains),
        "" if own else f"{harmed} of {len(gains)}",
        spread(row["target_diversity"] for row in cells.values()),
    ]


def table(rows: Iterable[Mapping]) -> str:
    """All methods of one shift, the best on the target first."""
    methods: dict[str, dict[int, Mapping]] = {}
    for row in rows:
        if row["status"] == "done":
            methods.setdefault(row["method"], {})[row["seed"]] = row
    means = {method: statistics.mean(row[TARGET] for row in cells.values()) for method, cells in methods.items()}
    order = sorted(methods, key=lambda method: -means[method])
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(line(m, methods[m], methods.get(BASELINE, {})) for m in order)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a results.jsonl")
    parser.add_argument("--shift", help="one of several in the file")
    args = parser.parse_args()
    rows = [json.loads(text) for text in args.results.read_text().splitlines()]
    shifts = sorted({row["shift"] for row in rows})
    for shift in [args.shift] if args.shift else shifts:
        print(f"**{shift.replace(' to ', ' → ')}**\n\n{table(row for row in rows if row['shift'] == shift)}\n")


if __name__ == "__main__":
    main()
