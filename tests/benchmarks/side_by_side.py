"""The tables of docs/all_objectives.md, from result files of recipes/benchmark.py; nothing is run.

    python tests/benchmarks/side_by_side.py docs/results/catalogue_digits.jsonl --shift "USPS to MNIST"

Columns called oracle read target labels. A method harms in a seed where its target ends more than half a point below
source-only with the same seed. Where the control was run, gains over it stand beside those over source-only.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from hftransfer.reporting.benchmark import BASELINE, CONTROL, HARM

TARGET = "target_oracle_accuracy"
Cells = Mapping[int, Mapping]  # of one method, by seed


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation, in per cent."""
    values = [100 * value for value in values]
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def gains(cells: Cells, base: Cells) -> list[float]:
    return [cells[seed][TARGET] - base[seed][TARGET] for seed in sorted(cells) if seed in base]


def line(method: str, methods: Mapping[str, Cells]) -> dict[str, str]:
    """A row of the table."""
    cells, found = methods[method], {"method": method, "seeds": str(len(methods[method]))}
    found["source acc"] = spread(row["source_accuracy"] for row in cells.values())
    found["target acc (oracle)"] = spread(row[TARGET] for row in cells.values())
    for base in (BASELINE, CONTROL):
        if base in methods:
            signed = ", ".join(f"{100 * gain:+.1f}" for gain in gains(cells, methods[base]))
            found[f"by seed, against {base}"] = signed if method != base else ""
    lost = [gain < -HARM - 1e-9 for gain in gains(cells, methods.get(BASELINE, {}))]
    found["harmed"] = f"{sum(lost)} of {len(lost)}" if method != BASELINE else ""
    found["target diversity"] = spread(row["target_diversity"] for row in cells.values())
    return found


def table(rows: Iterable[Mapping]) -> str:
    """All methods of one shift, the best on the target first."""
    methods: dict[str, dict[int, Mapping]] = {}
    for row in rows:
        if row["status"] == "done":
            methods.setdefault(row["method"], {})[row["seed"]] = row
    means = {method: statistics.mean(row[TARGET] for row in cells.values()) for method, cells in methods.items()}
    lines = [line(method, methods) for method in sorted(methods, key=lambda method: -means[method])]
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(list(found.values()) for found in lines)]
    return "\n".join(f"| {' | '.join(words)} |" for words in cells)


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
