"""Results table of a benchmark: its lines, one a cell, and the table of means over seeds."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .markdown import Markup, escaped, table_row

BASELINE = "source-only"
CONTROL = "no objective"  # target rows run beside the source's, and nothing is asked of them
ORACLE = "target-trained"
METRICS = ("accuracy", "macro_f1", "micro_f1", "pearson")  # worth a column; of all, more is better
HARM = 0.005  # a cell did harm when its target is further than this below source-only of the same seed
NOTE = (
    "Mean ± standard deviation over seeds. Columns and rows marked oracle read target labels; nothing was chosen by "
    "them. Harm: share of seeds whose target {metric} (oracle) is more than 0.5 points below that of source-only with "
    "the same shift, policy and seed. Seconds are those of training; memory is the highest peak of a cell."
)
TEXT_COLUMNS = ("shift", "method", "policy", "seeds")  # columns of words
Row = Mapping[str, Any]


# ---- lines


def read_results(path: Path) -> list[dict[str, Any]]:
    """Result lines of a results.jsonl in order. One that is only half there, of a run that was killed, is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"hash", "status"} <= set(row):
            rows.append(row)
    return rows


def append_result(path: Path, row: Row) -> None:
    """Result line added to a file and seen onto the disk; a half line before it keeps to itself."""
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def latest(rows: Iterable[Row], cells: Iterable[Mapping[str, Any]]) -> list[Row | None]:
    """Last line of each cell with its present settings, `None` where there is none; lines of earlier settings are
    left out.

    Args:
        rows: from `read_results`.
        cells: what identifies each cell, the hash of its settings included.
    """
    identities = [dict(cell) for cell in cells]
    last = {json.dumps([row.get(key) for key in identities[0]]): row for row in rows} if identities else {}
    return [last.get(json.dumps(list(cell.values()))) for cell in identities]


def guess_seconds(rows: Iterable[Row], cells: Sequence[Mapping[str, Any]]) -> float | None:
    """Guess of the seconds that cells may take, by finished ones that are most like them; `None` when none is."""
    done = [row for row in rows if row["status"] == "done"]
    total = 0.0
    for cell in cells:
        for names in (("shift", "method", "policy"), ("shift", "policy"), ("policy",), ()):
            alike = [row["wall_seconds"] for row in done if all(row[name] == cell[name] for name in names)]
            if alike:
                total += statistics.mean(alike)
                break
    return total if done else None


# ---- scores


def source_score(row: Row, metric: str) -> float | None:
    """Source score of a finished cell: the mean over its sources."""
    values = [row[f"{name}_{metric}"] for name in row.get("sources", ()) if f"{name}_{metric}" in row]
    return statistics.mean(values) if values else None


def target_score(row: Row, metric: str) -> float | None:
    """Target score of a finished cell; it reads target labels."""
    return row.get(f"target_oracle_{metric}")


def by_row(rows: Iterable[Row], shift: str, method: str, policy: str) -> list[Row]:
    """Cells of one row of the table."""
    return [r for r in rows if (r["shift"], r["method"], r["policy"]) == (shift, method, policy)]


# ---- the table


def summarise(
    rows: Sequence[Row], cells: Sequence[tuple[str, str, str]], metric: str = "accuracy"
) -> list[dict[str, str]]:
    """Summary of results: one line a shift, method and policy, of columns with text.

    Args:
        rows: one for each cell that was run, from `latest`.
        cells: (shift, method, policy) of every cell there is to run, each as often as there are seeds, in the order
            of the table.
        metric: one of `METRICS`.
    """
    done = [row for row in rows if row["status"] == "done"]
    words = metric.replace("_", " ")
    table = []
    for (shift, method, policy), seeds in Counter(cells).items():
        finished = by_row(done, shift, method, policy)
        failed = len(by_row(rows, shift, method, policy)) - len(finished)
        count = str(seeds) if len(finished) == seeds else f"{len(finished)} of {seeds}"
        table.append(
            {
                "shift": shift,
                "method": f"{method} (oracle)" if method == ORACLE else method,
                "policy": policy,
                "seeds": count + (f", {failed} failed" if failed else ""),
                f"source {words}": _mean([source_score(row, metric) for row in finished], metric),
                f"target {words} (oracle)": _mean([target_score(row, metric) for row in finished], metric),
                "harm": "–" if method in (BASELINE, ORACLE) else _harm(finished, done, metric),
                "seconds": f"{statistics.mean(row['seconds'] for row in finished):.0f}" if finished else "–",
                "memory": describe_size(max((row["peak_memory"] or 0 for row in finished), default=0)),
            }
        )
    return table


def markdown(table: Sequence[Mapping[str, str]], metric: str = "accuracy", failures: Iterable[Row] = ()) -> str:
    """Markdown page of the table, with what its columns mean and which cells failed.

    Args:
        table: from `summarise`.
        metric: the one shown.
        failures: rows of failed cells.
    """
    columns = list(table[0]) if table else []
    rule = [Markup("---" if column in TEXT_COLUMNS else "---:") for column in columns]
    lines: list[Iterable[str]] = [columns, rule, *(line.values() for line in table)]
    page = "\n".join(table_row(line) for line in lines)
    page += f"\n\n{NOTE.format(metric=metric.replace('_', ' '))}\n"
    failed = [f"- {escaped(name_of(row))}: {escaped(row['error'])}" for row in failures]
    return page + ("\nFailed:\n\n" + "\n".join(failed) + "\n" if failed else "")


def print_table(table: Sequence[Mapping[str, str]], title: str) -> None:
    """Table in the terminal, a section a shift. What all rows share stands in the title: a narrow terminal would
    cut headers, and "oracle" with them."""
    from rich.table import Table

    from .console import literal, stdout_console

    common = {c: table[0][c] for c in ("shift", "policy") if table and len({line.get(c) for line in table}) == 1}
    terminal_table = Table(title=literal(" · ".join([title, *common.values()])), title_justify="left")
    for column in table[0] if table else ():
        if column not in common:
            header = column.replace(" (oracle)", "\n(oracle)")
            terminal_table.add_column(header, justify="left" if column in TEXT_COLUMNS else "right", overflow="fold")
    for i, line in enumerate(table):
        last = i + 1 < len(table) and table[i + 1]["shift"] != line["shift"]
        terminal_table.add_row(
            *(literal(value) for column, value in line.items() if column not in common), end_section=last
        )
    stdout_console().print(terminal_table)


def name_of(row: Row) -> str:
    """Name of a cell, by its result line."""
    return f"{row['shift']} · {row['method']} · {row['policy']} · seed {row['seed']}"


def describe_time(seconds: float) -> str:
    """Time span for people: `1 h 20 min`, `4 min`, `50 s`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def describe_size(size: int) -> str:
    """Memory size for people: `1.8 GiB`, `740 MiB`; a dash for none."""
    if not size:
        return "–"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def show_score(value: float, metric: str) -> str:
    """Score for people: shares in per cent, correlations as they are."""
    return f"{value:.3f}" if metric == "pearson" else f"{100 * value:.1f}"


def _mean(values: Sequence[float | None], metric: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {show_score(statistics.stdev(known), metric)}" if len(known) > 1 else ""
    return show_score(statistics.mean(known), metric) + spread


def _harm(finished: Sequence[Row], done: Sequence[Row], metric: str) -> str:
    """Share of seeds with harm, among those of which source-only is there too."""
    judged = []
    for row in finished:
        others = [r for r in by_row(done, row["shift"], BASELINE, row["policy"]) if r["seed"] == row["seed"]]
        score, base = target_score(row, metric), target_score(others[0], metric) if others else None
        if score is not None and base is not None:
            judged.append(base - score > HARM + 1e-9)  # a fall of exactly 0.5 points is no harm
    return f"{100 * sum(judged) / len(judged):.0f} % ({sum(judged)} of {len(judged)})" if judged else "–"
