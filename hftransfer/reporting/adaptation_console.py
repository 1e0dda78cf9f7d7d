"""Adaptation in the terminal: candidates before they are made; verdict, reasons and candidates afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from .adaptation_facts import AdaptationFacts, CandidateFacts
from .candidate_table import candidate_columns
from .console import literal, print_lines, stdout_console
from .report_text import compared_by, estimated_by, interval, unlabelled_estimate


def print_planned_candidates(candidates: Sequence[tuple[str, str, str]], title: str) -> None:
    """Table of candidates that are to be made.

    Args:
        candidates: name, what it is, and its cost beside a source-only run.
        title: above the table.
    """
    from rich.table import Table

    table = Table(title=literal(title), title_justify="left")
    table.add_column("candidate", overflow="fold")
    table.add_column("what it is", overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    for row in candidates:
        table.add_row(*map(literal, row))
    stdout_console().print(table)


def print_outcome(facts: AdaptationFacts) -> None:
    """Verdict, reasons, estimated accuracy and a table of candidates.

    Args:
        facts: of the adaptation.

    Example:
        >>> print_outcome(AdaptationFacts("source-only", "Nothing is estimated to help.", "news", "notes"))
        <BLANKLINE>
        Verdict: source-only. Nothing is estimated to help.
        <BLANKLINE>
    """
    print_lines("", f"Verdict: {facts.verdict}. {facts.headline}", *(f"- {reason}" for reason in facts.reasons), "")
    if estimates := _estimates(facts):
        print_lines(*estimates, "")
    if facts.candidates:
        _print_candidates(facts)


def _estimates(facts: AdaptationFacts) -> list[str]:
    """Lines on the estimated accuracy, source-only's beside the chosen model's."""
    lines = []
    for whose, estimate in (
        ("the model", facts.estimated_accuracy),
        ("source-only", None if facts.verdict == "source-only" else facts.estimated_accuracy_source_only),
    ):
        if isinstance(estimate, str):
            lines.append(f"Accuracy of {whose} on the target: {estimate}")
        elif estimate is not None:
            lines.append(f"Estimated accuracy of {whose} on the target, {estimated_by(facts)}: {interval(estimate)}")
    return lines + [line for line in (unlabelled_estimate(facts),) if line]


def _print_candidates(facts: AdaptationFacts) -> None:
    from rich.table import Table

    candidates = facts.candidates
    columns = [column for column in candidate_columns(candidates, scores=False) if column.heading != "time"]
    note = "; oracle columns are computed with target labels" * any(column.kind == "oracle" for column in columns)
    table = Table(title=literal(f"Candidates, compared {compared_by(facts)}{note}"), title_justify="left")
    table.add_column("candidate", overflow="fold")
    for column in columns:
        table.add_column(literal(column.heading.replace(" (oracle)", "\n(oracle)")), justify="right", overflow="fold")
    for row, candidate in enumerate(candidates):
        name = f"{candidate.name} (handed over)" if candidate.chosen else candidate.name
        table.add_row(literal(name), *(literal(column.cells(candidates)[row]) for column in columns))
    stdout_console().print(table)
    if remarks := _remarks(candidates):
        print_lines(*remarks)


def _remarks(candidates: Sequence[CandidateFacts]) -> list[str]:
    """Lines on the candidates that were refused, and why."""
    return [f"{candidate.name}: {candidate.refused}" for candidate in candidates if candidate.refused]
