"""Report of an adaptation: one HTML page that needs nothing from outside."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from . import report_text
from .adaptation_facts import VERDICTS, AdaptationFacts
from .candidate_table import candidate_columns
from .changed_rows import shown_rows
from .class_table import frequency_table, recall_table
from .report_estimates import estimate_tracks
from .report_pictures import draw_pictures
from .shift_pictures import MOST_CLASSES

PACKAGE = "hftransfer.reporting"


def write_report(facts: AdaptationFacts, path: str | Path) -> None:
    """Report of an adaptation as one HTML file, whole or not at all.

    It opens offline: style and pictures are inside, and there are no scripts. Pictures need matplotlib (the extra
    `plots`); without it the page says so in their stead.

    Args:
        facts: what it shows; sections of absent facts are left out.
        path: of the file; its folder must exist.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> facts = AdaptationFacts("source-only", "Nothing is estimated to help.", source="news", target="notes")
        >>> write_report(facts, "report.html")
        >>> "Nothing is estimated to help." in Path("report.html").read_text(encoding="utf-8")
        True
    """
    path = Path(path)
    page = render_report(facts)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def render_report(facts: AdaptationFacts) -> str:
    """The report's page as text."""
    columns = candidate_columns(facts.candidates)
    cells = [column.cells(facts.candidates) for column in columns]
    best = [column.best_rows(facts.candidates) for column in columns]
    return (
        _environment()
        .get_template("adaptation_report.html.jinja")
        .render(
            facts=facts,
            verdict_meaning=VERDICTS[facts.verdict],
            tracks=estimate_tracks(facts),
            columns=columns,
            cells=cells,
            best=best,
            pictures=draw_pictures(facts),
            frequencies=frequency_table(facts.label_shift) if facts.label_shift is not None else None,
            most_classes=MOST_CLASSES,
            recalls=recall_table(facts),
            changed=shown_rows(facts.changed_rows),
            slowest=max((c.seconds or 0 for c in facts.candidates), default=0) or 1,
            style=Markup(_file("adaptation_report.css")),
        )
    )


@cache  # compiling a template takes longer than rendering it
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        finalize=report_text.shown_value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ["percent", "number", "duration", "times", "isolated", "shortened", "listed", "clean"]
    names += ["compared_by", "unlabelled_estimate"]
    environment.filters |= {name: getattr(report_text, name) for name in names}
    return environment


def _file(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
