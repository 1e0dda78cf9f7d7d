"""Tables of docs, from result files of recipes/benchmark.py and of the scripts here; nothing is run.

    python tests/benchmarks/side_by_side.py docs/results/catalogue_digits.jsonl --shift "USPS to MNIST"
    python tests/benchmarks/side_by_side.py docs/results/images.jsonl --across task --where epochs=10.0

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


def across(rows: Iterable[Mapping], key: str) -> str:
    """Target accuracy of the methods, for each value of `key`; how many seeds, where they are not as many as usual."""
    cells: dict[tuple, list[float]] = {}
    for row in rows:
        cells.setdefault((row["method"], row[key]), []).append(row[TARGET])
    usual = statistics.mode(map(len, cells.values()))

    def show(method: str, value: str) -> str:
        scores = cells.get((method, value), [])
        return (spread(scores) if scores else "") + (f" ({len(scores)})" if 0 < len(scores) != usual else "")

    methods, values = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    lines = [["method", *values], ["---"] * (1 + len(values)), *([m, *(show(m, v) for v in values)] for m in methods)]
    return "\n".join(f"| {' | '.join(words)} |" for words in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a results.jsonl")
    parser.add_argument("--shift", help="one of several in the file")
    parser.add_argument("--across", metavar="KEY", help="target accuracy alone, a column for each value of this")
    parser.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help="only lines that say so")
    args = parser.parse_args()
    rows = [json.loads(text) for text in args.results.read_text().splitlines()]
    for key, value in (pair.split("=", 1) for pair in args.where):
        rows = [row for row in rows if str(row.get(key)) == value]
    if not rows:
        parser.error(f"no line of {args.results} says {' and '.join(args.where)}")
    if args.across:
        print(across(rows, args.across))
        return
    shifts = sorted({row["shift"] for row in rows})
    for shift in [args.shift] if args.shift else shifts:
        print(f"**{shift.replace(' to ', ' → ')}**\n\n{table(row for row in rows if row['shift'] == shift)}\n")


if __name__ == "__main__":
    main()
