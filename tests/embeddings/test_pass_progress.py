"""A feature pass says how far it is, how fast, and how long it will take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hftransfer.embeddings import pass_progress
from hftransfer.embeddings.pass_progress import PassProgress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(pass_progress.time, "monotonic", lambda: now[0])
    return now


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, legacy_windows=False)


def test_a_log_hears_of_it_once_a_minute(clock, caplog):
    caplog.set_level("INFO")
    with PassProgress(1000, console=console(False)) as progress:
        for minute in (0.5, 1.5, 1.75, 3.0):
            clock[0] = 60 * minute
            progress.advance(100)
    assert [record.message for record in caplog.records] == [
        "embedding: 200 rows of 1,000, 6 min left, 2 rows/s",
        "embedding: 400 rows of 1,000, 4 min left, 2 rows/s",
    ]


def test_a_stream_has_no_end_that_is_known(clock, caplog):
    caplog.set_level("INFO")
    with PassProgress(None, console=console(False)) as progress:
        clock[0] = 100.0
        progress.advance(5000)
    assert [record.message for record in caplog.records] == ["embedding: 5,000 rows, 50 rows/s"]


def test_a_terminal_sees_one_line(monkeypatch, caplog):
    monkeypatch.setattr(pass_progress, "SHOWN_AFTER", 0.0)
    monkeypatch.delenv("TERM", raising=False)
    screen = console(True)
    with PassProgress(400, console=screen) as progress:
        progress.advance(100)
        progress.advance(100)
    assert "200/400" in screen.file.getvalue()
    assert "rows/s" in screen.file.getvalue()
    assert not caplog.records


@pytest.mark.parametrize("shown", [True, False])
def test_a_moment_is_not_shown(shown, clock):
    screen = console(True)
    with PassProgress(10, shown, screen) as progress:
        clock[0] = 0.5 if shown else 500.0
        progress.advance(10)
    assert screen.file.getvalue() == ""
