"""Pictures of a shift: class frequencies, confidences, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from .adaptation_facts import CalibrationFacts, ConfidenceFacts, LabelShiftFacts, ReliabilityBins, changes
from .inline_svg import BLUE, DIM, INK, PAPER, VERMILION, inline_svg
from .report_text import percent, shortened

MOST_CLASSES = 20  # of the picture of frequencies
LONGEST_NAME = 48


def draw_frequencies(facts: LabelShiftFacts) -> Markup:
    """Dot plot of class frequencies: source, predicted on the target, estimated with intervals, oracle.

    Of many classes it shows those whose frequency changes most.
    """
    source = np.asarray(facts.source_frequencies, dtype=float)
    shown = frequency_rows(facts)
    rows = np.arange(len(shown))[::-1]
    after = facts.predicted_after if changes(facts.predicted_before, facts.predicted_after) else None
    before = "answers" if after is None else "answers, source-only"
    series: list[tuple[str, Any, float, dict[str, Any]]] = [
        ("source labels", source, 0.13, {"marker": "o", "mfc": PAPER, "mec": DIM, "mew": 1.4}),
        (
            before,
            facts.predicted_before,
            -0.13,
            {"marker": "v", "mfc": PAPER, "mec": BLUE, "mew": 1.4},
        ),
        ("answers, handed over", after, -0.13, {"marker": "v", "color": BLUE}),
        ("target, estimated", facts.target_frequencies, 0.13, {"marker": "D", "color": VERMILION, "ms": 6}),
        ("target labels (oracle)", facts.oracle_frequencies, 0, {"marker": "|", "color": INK, "ms": 17, "mew": 1.6}),
    ]
    series = [line for line in series if line[1] is not None]

    def draw(figure: Any) -> None:
        plot = figure.subplots()
        for label, values, lift, marker in series:
            values = 100 * np.asarray(values, dtype=float)[shown]
            plot.plot(values, rows + lift, linestyle="none", label=label, **{"ms": 7, "zorder": 3, **marker})
        if facts.intervals is not None:
            low, high = 100 * np.asarray(facts.intervals, dtype=float)[shown].T
            plot.hlines(rows + 0.13, low, high, color=VERMILION, linewidth=1.6, zorder=2)
        for row, i in zip(rows, shown, strict=True):
            name = shortened(facts.classes[i], LONGEST_NAME)
            plot.text(0, row + 0.3, name, transform=plot.get_yaxis_transform(), va="bottom", ha="left")
        plot.set_ylim(-0.4, len(shown) - 0.3)
        plot.set_xlim(left=0)
        plot.set_yticks([])
        plot.spines["left"].set_visible(False)
        plot.grid(axis="x")
        plot.set_xlabel("share of rows, %")
        legend = figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3, columnspacing=1.2)
        for handle in legend.legend_handles:
            handle.set_markersize(min(handle.get_markersize(), 10))  # that of target labels is as tall as two rows

    description = "Frequencies of the classes in the source and in the target; the table has the numbers."
    return inline_svg(draw, "frequencies", description, 1.25 + 0.52 * len(shown))


def frequency_rows(facts: LabelShiftFacts) -> np.ndarray:
    """Ids of the classes that the picture shows, in their order."""
    source = np.asarray(facts.source_frequencies, dtype=float)
    others = [facts.target_frequencies, facts.predicted_before, facts.predicted_after]
    moves = [np.abs(np.asarray(values, dtype=float) - source) for values in others if values is not None]
    move = np.max(moves, axis=0) if moves else source
    return np.sort(np.argsort(-move, kind="stable")[:MOST_CLASSES])


def draw_confidences(facts: ConfidenceFacts) -> Markup:
    """Histograms of the largest probability: source rows, target rows before and after."""
    after = facts.target_after if changes(facts.target_before, facts.target_after) else None
    before = "target rows" if after is None else "target rows, source-only"
    arrays = {"source validation rows": facts.source, before: facts.target_before, "target rows, handed over": after}
    finite = {label: np.asarray(a, dtype=float)[np.isfinite(a)] for label, a in arrays.items() if a is not None}
    finite = {label: array for label, array in finite.items() if len(array)}
    low = np.floor(10 * min(array.min() for array in finite.values())) / 10
    edges = np.linspace(min(low, 0.9), 1, 21)

    def draw(figure: Any) -> None:
        plot = figure.subplots()
        styles = {
            "source validation rows": {"color": DIM, "alpha": 0.3, "fill": True, "linewidth": 0},
            before: {"color": VERMILION, "linewidth": 1.8, "linestyle": (0, (3, 1.5))},
            "target rows, handed over": {"color": BLUE, "linewidth": 2.2},
        }
        for label, array in finite.items():
            share = 100 * np.histogram(np.clip(array, 0, 1), edges)[0] / len(array)
            plot.stairs(share, edges, label=label, **styles[label])
        plot.set_xlim(edges[0], 1)
        plot.set_ylim(bottom=0)
        plot.set_xlabel("probability of the answer")
        plot.set_ylabel("share of rows, %")
        plot.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=1)

    means = "; ".join(f"{label}: {percent(array.mean())} on average" for label, array in finite.items())
    return inline_svg(draw, "confidences", f"Histograms of the answers' probabilities. {means}.", 3.3)


def draw_reliability(facts: CalibrationFacts) -> Markup:
    """Reliability diagram: accuracy by confidence, before and after the temperature."""
    lines: list[tuple[str, ReliabilityBins, dict[str, Any]]] = [
        ("as trained", facts.before, {"color": VERMILION, "marker": "o", "mfc": PAPER, "linestyle": (0, (3, 1.5))})
    ]
    if facts.after is not None:
        lines.append(("calibrated", facts.after, {"color": BLUE, "marker": "s", "linestyle": "-"}))

    def draw(figure: Any) -> None:
        plot = figure.subplots()
        low = 1.0
        for label, bins, style in lines:
            count = np.asarray(bins.count)
            filled = count > 0
            confidence = np.asarray(bins.confidence, dtype=float)[filled]
            accuracy = np.asarray(bins.accuracy, dtype=float)[filled]
            low = min([low, *confidence, *accuracy])
            error = "" if bins.error is None else f", error {percent(bins.error)}"
            plot.plot(confidence, accuracy, label=label + error, linewidth=1.8, mew=1.6, clip_on=False, **style)
        low = np.floor(10 * max(low, 0)) / 10
        plot.plot([low, 1], [low, 1], color=DIM, linewidth=1, linestyle=":", zorder=1)
        plot.set_xlim(low, 1.02)
        plot.set_ylim(low, 1.02)
        plot.set_xlabel("mean probability of the answer")
        plot.set_ylabel("share that is right")
        plot.grid()
        figure.legend(loc="outside upper left", ncols=1)

    errors = "; ".join(f"{label}: error {percent(bins.error)}" for label, bins, _ in lines)
    return inline_svg(draw, "reliability", f"Accuracy by confidence on source validation rows. {errors}.", 3.7)
