"""Progress of a pass over rows: a live line with rate and time left in a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)
SECONDS = 60.0  # between two lines of a log
SHOWN_AFTER = 1.0  # seconds: a pass that takes a moment is not drawn


class PassProgress:
    """Progress of one pass, used as a context.

    Args:
        rows: in all; `None` of a stream.
        shown: draw a line where stderr is a terminal, else log.
        console: of rich; stderr when `None`.
        what: is done, in a word or two.
        unit: of what is counted.
    """

    def __init__(
        self,
        rows: int | None,
        shown: bool = True,
        console: Console | None = None,
        what: str = "embedding",
        unit: str = "rows",
    ):
        self.rows, self.shown, self.what, self.unit = rows, shown, what, unit
        self.console = console or Console(stderr=True)
        self.done, self._started = 0, time.monotonic()
        self._logged = self._started
        self._bar: Progress | None = None

    def __enter__(self) -> PassProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        self.done += rows
        now = time.monotonic()
        if not self.shown or now - self._started < SHOWN_AFTER:
            return
        rate = self.done / (now - self._started)
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            if self._bar is None:
                rate_column = TextColumn(f"{{task.fields[rate]:,.0f}} {self.unit}/s")
                columns = (BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn())
                self._bar = Progress(TextColumn(self.what), *columns, console=self.console, transient=True)
                self._bar.add_task(self.what, total=self.rows, rate=rate)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=self.done, rate=rate)
        elif now - self._logged > SECONDS:
            self._logged = now
            remaining = "" if self.rows is None else f", {(self.rows - self.done) / rate / 60:.0f} min left"
            of_all = "" if self.rows is None else f" of {self.rows:,}"
            done = f"{self.done:,} {self.unit}{of_all}{remaining}"
            logger.info("%s: %s, %.0f %s/s", self.what, done, rate, self.unit)
