"""Progress of training, evaluation and prediction: one live line in a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from ..messages import printable, redacted
from ..reporting.console import print_lines, stdout_console
from .metrics import selection_metric

SHOWN_METRICS = ("loss", "accuracy", "macro_f1", "mse", "pearson", "entropy")
RECENT_STEPS = 50  # steps whose mean says how fast the run is
REDRAW_SECONDS = 0.25  # seconds between two pictures of the live line
SILENT_SECONDS = 60.0  # seconds of evaluation after which a file or a pipe hears of it


class ProgressLine(TrainerCallback):
    """Progress of a run: how far it is, how fast, and the time left.

    In a terminal one line is redrawn in place, and logs appear above it. In a file or a pipe, or with `disable_tqdm`,
    each log is a line that says it, without control characters. A notebook keeps the table of transformers. The full
    numbers are in `trainer.state.log_history`.

    Args:
        live: redraw a line where that is possible.
        console: instead of stdout.
    """

    def __init__(self, live: bool = True, console: Console | None = None):
        self.console = console or stdout_console()
        self.live = live and self.console.file.isatty() and not self.console.is_dumb_terminal
        self.training = False
        self.pace = Pace()
        self._evaluation = Pace()
        self._last_reported = 0.0  # when a file or a pipe last heard of the evaluation
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_drawn = 0.0
        self._evaluated_batches = 0  # batches of the evaluation that is going on
        self._shown_loss = ""
        self._last_step = -1  # the step of the last line

    # ---- what the trainer announces

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.training, self.pace = True, Pace(state.global_step)
        self._shown_loss, self._last_step = "", -1
        self._show(state, "training", state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pace.step(state.global_step)
        self._show(state, "training", state.global_step, state.max_steps)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if self._evaluated_batches == 0:
            self._evaluation = Pace(1)  # from the first batch on, which waits for data workers
            self._last_reported = self._last_drawn = time.monotonic()  # one that takes a moment is not drawn
        self._evaluated_batches += 1
        if self._evaluated_batches > 1:
            self._evaluation.step(self._evaluated_batches)
        batches = len(eval_dataloader) if has_length(eval_dataloader) else None
        self._show(state, "evaluating", self._evaluated_batches, batches)
        if not self.live and state.is_world_process_zero and time.monotonic() - self._last_reported > SILENT_SECONDS:
            self._last_reported = time.monotonic()
            self._print(
                f"evaluating, {self._evaluation.describe(self._evaluated_batches, batches, 'batch', 'batches')}"
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._evaluation_ends(state)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self._evaluation_ends(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if not self.training and "train_runtime" not in logs:  # an evaluation by itself: its caller has the numbers
            return
        if "loss" in logs:
            self._shown_loss = f"loss {logs['loss']:.3f}"
        description = describe(logs)
        if description:
            step = state.global_step
            is_repeated = self.live or self._last_step == step  # the live line or a line before this one
            self._print(
                f"{f'step {step}' if is_repeated else self.pace.describe(step, state.max_steps)}: {description}"
            )
            self._last_step = step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.training = False
        self.close()

    # ---- the line

    def close(self) -> None:
        """Removal of the live line; what was printed above it stays."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task, self._evaluated_batches = None, None, 0

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Removal of the live line if the block raises, so that the terminal is left clean."""
        try:
            yield
        except BaseException:
            self.training = False
            self.close()
            raise

    def _evaluation_ends(self, state: Any) -> None:
        self._evaluated_batches = 0
        if self.training:
            self._show(state, "training", state.global_step, state.max_steps, now=True)
        else:
            self.close()

    def _show(self, state: Any, activity: str, done: int, total: int | None, now: bool = False) -> None:
        if not self.live or not state.is_world_process_zero:
            return
        if self._bar is None:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(24),
                TextColumn("{task.fields[words]}", markup=False),
            ]
            self._bar = Progress(*columns, console=self.console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task(activity, total=total, words="")
            self._bar.start()
        elif (
            not now
            and time.monotonic() - self._last_drawn < REDRAW_SECONDS
            and (done != total or activity != "training")
        ):
            return
        self._last_drawn = time.monotonic()
        unit = ("step", "steps") if activity == "training" else ("batch", "batches")
        pace = self.pace if activity == "training" else self._evaluation
        description = pace.describe(done, total, *unit, names_unit=False)
        description = (
            f"{description}, {self._shown_loss}" if self._shown_loss and activity == "training" else description
        )
        self._bar.update(self._task, description=activity, completed=done, total=total, words=description)
        self._bar.refresh()

    def _print(self, line: str) -> None:
        """Above the live line, or as it is."""
        if self._bar is not None:
            self._bar.console.print(printable(redacted(line)), markup=False, soft_wrap=True)
        else:
            print_lines(line, console=self.console)


class Pace:
    """Pace of a run: steps a second, over the latest steps.

    Example:
        >>> pace = Pace(at=0.0)
        >>> pace.step(40, at=20.0)
        >>> pace.describe(40, 274)
        'step 40 of 274, 14 %, 2.0 steps/s, 1 min 57 s left'
    """

    def __init__(self, start: int = 0, at: float | None = None):
        self._ends: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)
        self.step(start, at)

    def step(self, number: int, at: float | None = None) -> None:
        """End of a step, noted."""
        self._ends.append((time.monotonic() if at is None else at, number))

    @property
    def rate(self) -> float:
        """Steps a second; 0 before two steps have ended."""
        (start_time, first_step), (end_time, last_step) = self._ends[0], self._ends[-1]
        return (last_step - first_step) / (end_time - start_time) if end_time > start_time else 0.0

    def describe(
        self, done: int, total: int | None, unit: str = "step", units: str = "steps", names_unit: bool = True
    ) -> str:
        """`step 40 of 274, 15 %, 1.9 steps/s, 1 min 20 s left`."""
        phrases = [f"{unit} {done}" if names_unit else str(done)]
        if total:
            phrases[0] += f" of {total}"
            phrases.append(f"{100 * done // total} %")
        rate = self.rate
        if rate > 0:
            phrases.append(f"{rate:.1f} {units}/s" if rate >= 0.95 else f"{1 / rate:.1f} s a {unit}")
            if total and done < total:
                phrases.append(f"{describe_seconds((total - done) / rate)} left")
        return ", ".join(phrases)


def describe_seconds(seconds: float) -> str:
    """Duration in words.

    Example:
        >>> [describe_seconds(s) for s in (0.2, 80, 4000, 200_000)]
        ['1 s', '1 min 20 s', '1 h 6 min', '2 d 7 h']
    """
    rounded = max(1, round(seconds))
    for size, name, smaller_size, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if rounded >= size:
            remainder = rounded % size // smaller_size
            return f"{rounded // size} {name}" + (f" {remainder} {smaller_name}" if remainder else "")
    return f"{rounded} s"


def describe(logs: dict[str, Any]) -> str:
    """One log in words, without the step; empty when nothing in it is worth a line.

    Where head and backbone have rates of their own, both are shown.

    Example:
        >>> describe({"loss": 0.91, "task_loss": 0.9, "mmd_loss": 0.02, "learning_rate": 5e-5})
        'loss 0.910 (task 0.900, mmd 0.020), learning rate 5e-05'
        >>> describe({"eval_target_oracle_accuracy": 0.5, "eval_target_entropy": 0.7})
        'target: oracle accuracy 0.500, entropy 0.700'
        >>> describe({"eval_target_oracle_accuracy": 0.5, "eval_target_entropy": 0.7, "eval_selection_score": 0.61})
        'target: oracle accuracy 0.500, entropy 0.700; selection score 0.610'
    """
    if "loss" in logs:
        losses = [f"{k.removesuffix('_loss')} {v:.3f}" for k, v in logs.items() if k.endswith("_loss")]
        part_rates = [f"{p} {logs[key]:.2g}" for p in ("head", "backbone") if (key := f"{p}_learning_rate") in logs]
        rate = f", learning rate {logs['learning_rate']:.2g}" if "learning_rate" in logs else ""
        rate = f", learning rate {', '.join(part_rates)}" if part_rates else rate
        shown_losses = f" ({', '.join(losses)})" if losses else ""
        return f"loss {logs['loss']:.3f}{shown_losses}{rate}"
    if "train_runtime" in logs:
        return f"trained in {describe_seconds(logs['train_runtime'])}"
    metrics = {k: v for k, v in logs.items() if isinstance(v, (int, float)) and k not in ("epoch", "total_flos")}
    scores = {k: metrics.pop(k) for k in list(metrics) if selection_metric(k)}
    scored = "".join(f"; {k.removeprefix('eval_').replace('_', ' ')} {v:.3f}" for k, v in scores.items())
    if scores:  # what the score is the mean of
        metrics = {k: v for k, v in metrics.items() if not k.startswith("eval_selection_")}
    shown_metrics = {k: v for k, v in metrics.items() if k.endswith(SHOWN_METRICS)} or metrics
    shared = _shared_words(list(shown_metrics)) if len(shown_metrics) > 1 else ""  # such as eval_target
    name = shared.partition("_")[2] or "evaluation"
    prefix = f"{shared}_" if shared else ""
    description = ", ".join(f"{k.removeprefix(prefix).replace('_', ' ')} {v:.3f}" for k, v in shown_metrics.items())
    return f"{name}: {description}{scored}" if shared else f"{description}{scored}"


def _shared_words(names: list[str]) -> str:
    """The words between underscores that all names begin with."""
    words = []
    for column in zip(*(name.split("_")[:-1] for name in names), strict=False):
        if len(set(column)) > 1:
            break
        words.append(column[0])
    return "_".join(words)
