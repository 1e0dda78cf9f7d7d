"""Plot of a benchmark's results. It needs matplotlib, the extra `plots`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from ..extras import install_hint
from .benchmark_table import BASELINE, ORACLE, Row, by_row, target_score

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by colour-blind readers
ACROSS = 3  # shifts side by side


def draw_benchmark(
    rows: Sequence[Row], cells: Sequence[tuple[str, str, str]], path: Path, metric: str = "accuracy"
) -> None:
    """Plot of the target score (oracle) of every method, a dot a seed and a bar at the mean; source-only as a line.

    Args:
        rows: of finished cells.
        cells: (shift, method, policy) of all, in the order of the plot.
        path: of the file; its ending says of what kind.
        metric: one of `METRICS`.

    Raises:
        ImportError: without matplotlib; the message says what installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"Pictures need matplotlib: `{install_hint('plots')}` installs it.") from error

    shifts, methods, policies = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    methods.remove(BASELINE)
    down, across = math.ceil(len(shifts) / ACROSS), min(len(shifts), ACROSS)
    figure = Figure(figsize=(across * max(3.2, 1.2 + 0.7 * len(methods)), 3.6 * down), layout="constrained", dpi=150)
    plots = figure.subplots(down, across, squeeze=False).flatten()
    scale = 1 if metric == "pearson" else 100
    for plot, shift in zip(plots, shifts, strict=False):
        for i, policy in enumerate(policies):
            colour = COLOURS[i % len(COLOURS)]

            def scores(method: str, shift: str = shift, policy: str = policy) -> list[float]:
                target_scores = (target_score(row, metric) for row in by_row(rows, shift, method, policy))
                return [scale * score for score in target_scores if score is not None]

            if base := scores(BASELINE):
                plot.axhline(statistics.mean(base), color=colour, linewidth=1, linestyle="--")
            for position, method in enumerate(methods):
                x = position + 0.7 * ((i + 0.5) / len(policies) - 0.5)
                if values := scores(method):
                    plot.plot([x] * len(values), values, "o", color=colour, markersize=4, alpha=0.6)
                    plot.plot([x - 0.1, x + 0.1], [statistics.mean(values)] * 2, color=colour, linewidth=2)
            plot.plot([], [], "o", color=colour, label=policy)
        plot.plot([], [], "--", color="grey", label=f"{BASELINE}, mean")
        names = [f"{method} (oracle)" if method == ORACLE else method for method in methods]
        plot.set_xticks(range(len(methods)), names, rotation=30, ha="right")
        plot.set_xlim(-0.6, max(len(methods), 1) - 0.4)
        plot.set_title(shift)
        plot.set_ylabel(f"target {metric.replace('_', ' ')} (oracle)" + (", %" if scale > 1 else ""))
        plot.grid(axis="y", alpha=0.3)
    for plot in plots[len(shifts) :]:
        plot.set_axis_off()
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(policies) + 1)
    figure.savefig(path)
