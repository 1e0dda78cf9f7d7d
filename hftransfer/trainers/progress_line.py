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
from ..reporting.console import print_lines, screen

SHOWN = ("loss", "accuracy", "macro_f1", "mse", "pearson", "entropy")
RECENT = 50  # steps whose mean says how fast the run is
OFTEN = 0.25  # seconds between two pictures of the live line
SILENCE = 60.0  # seconds of evaluation after which a file or a pipe hears of it


class ProgressLine(TrainerCallback):
    """How far a run is, how fast, and how long it will still take.

    In a terminal one line is redrawn in place, and logs appear above it. In a file or a pipe, or with `disable_tqdm`,
    each log is a line that says it, without control characters. A notebook keeps the table of transformers. The full
    numbers are in `trainer.state.log_history`.

    Args:
        live: redraw a line where that is possible.
        console: instead of stdout.
    """

    def __init__(self, live: bool = True, console: Console | None = None):
        self.console = console or screen()
        self.live = live and self.console.file.isatty() and not self.console.is_dumb_terminal
        self.training = False
        self.pace = Pace()
        self._evaluation = Pace()
        self._heard = 0.0  # when a file or a pipe last heard of the evaluation
        self._bar: Progress | None = None
        self._task: Any = None
        self._drawn = 0.0
        self._evaluated = 0  # batches of the evaluation that is going on
        self._numbers = ""
        self._said = -1  # the step of the last line

    # ---- what the trainer announces

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.training, self.pace = True, Pace(state.global_step)
        self._numbers, self._said = "", -1
        self._show(state, "training", state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pace.step(state.global_step)
        self._show(state, "training", state.global_step, state.max_steps)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if self._evaluated == 0:
            self._evaluation = Pace(1)  # from the first batch on, which waits for data workers
            self._heard = self._drawn = time.monotonic()  # one that takes a moment is not drawn
        self._evaluated += 1
        if self._evaluated > 1:
            self._evaluation.step(self._evaluated)
        batches = len(eval_dataloader) if has_length(eval_dataloader) else None
        self._show(state, "evaluating", self._evaluated, batches)
        if not self.live and state.is_world_process_zero and time.monotonic() - self._heard > SILENCE:
            self._heard = time.monotonic()
            self._print(f"evaluating, {self._evaluation.describe(self._evaluated, batches, 'batch', 'batches')}")

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
            self._numbers = f"loss {logs['loss']:.3f}"
        words = describe(logs)
        if words:
            step = state.global_step
            said = self.live or self._said == step  # the live line or a line before this one
            self._print(f"{f'step {step}' if said else self.pace.describe(step, state.max_steps)}: {words}")
            self._said = step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.training = False
        self.close()

    # ---- the line

    def close(self) -> None:
        """Takes the live line away; what was printed above it stays."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task, self._evaluated = None, None, 0

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Takes the live line away when the block breaks: a terminal is left as it was found."""
        try:
            yield
        except BaseException:
            self.training = False
            self.close()
            raise

    def _evaluation_ends(self, state: Any) -> None:
        self._evaluated = 0
        if self.training:
            self._show(state, "training", state.global_step, state.max_steps, now=True)
        else:
            self.close()

    def _show(self, state: Any, doing: str, done: int, total: int | None, now: bool = False) -> None:
        if not self.live or not state.is_world_process_zero:
            return
        if self._bar is None:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(24),
                TextColumn("{task.fields[words]}", markup=False),
            ]
            self._bar = Progress(*columns, console=self.console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task(doing, total=total, words="")
            self._bar.start()
        elif not now and time.monotonic() - self._drawn < OFTEN and (done != total or doing != "training"):
            return
        self._drawn = time.monotonic()
        unit = ("step", "steps") if doing == "training" else ("batch", "batches")
        pace = self.pace if doing == "training" else self._evaluation
        words = pace.describe(done, total, *unit, named=False)
        words = f"{words}, {self._numbers}" if self._numbers and doing == "training" else words
        self._bar.update(self._task, description=doing, completed=done, total=total, words=words)
        self._bar.refresh()

    def _print(self, line: str) -> None:
        """Above the live line, or as it is."""
        if self._bar is not None:
            self._bar.console.print(printable(redacted(line)), markup=False, soft_wrap=True)
        else:
            print_lines(line, console=self.console)


class Pace:
    """How fast steps follow each other, by the latest of them.

    Example:
        >>> pace = Pace(at=0.0)
        >>> pace.step(40, at=20.0)
        >>> pace.describe(40, 274)
        'step 40 of 274, 14 %, 2.0 steps/s, 1 min 57 s left'
    """

    def __init__(self, start: int = 0, at: float | None = None):
        self._ends: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self.step(start, at)

    def step(self, number: int, at: float | None = None) -> None:
        """Notes that a step ended now."""
        self._ends.append((time.monotonic() if at is None else at, number))

    @property
    def rate(self) -> float:
        """Steps a second; 0 when nobody knows."""
        (began, first), (ended, last) = self._ends[0], self._ends[-1]
        return (last - first) / (ended - began) if ended > began else 0.0

    def describe(
        self, done: int, total: int | None, one: str = "step", many: str = "steps", named: bool = True
    ) -> str:
        """`step 40 of 274, 15 %, 1.9 steps/s, 1 min 20 s left`."""
        words = [f"{one} {done}" if named else str(done)]
        if total:
            words[0] += f" of {total}"
            words.append(f"{100 * done // total} %")
        rate = self.rate
        if rate > 0:
            words.append(f"{rate:.1f} {many}/s" if rate >= 0.95 else f"{1 / rate:.1f} s a {one}")
            if total and done < total:
                words.append(f"{describe_seconds((total - done) / rate)} left")
        return ", ".join(words)


def describe_seconds(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> [describe_seconds(s) for s in (0.2, 80, 4000, 200_000)]
        ['1 s', '1 min 20 s', '1 h 6 min', '2 d 7 h']
    """
    whole = max(1, round(seconds))
    for size, name, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def describe(logs: dict[str, Any]) -> str:
    """One log in words, without the step; empty when nothing in it is worth a line.

    Where head and backbone have rates of their own, both are shown.

    Example:
        >>> describe({"loss": 0.91, "task_loss": 0.9, "mmd_loss": 0.02, "learning_rate": 5e-5})
        'loss 0.910 (task 0.900, mmd 0.020), learning rate 5e-05'
        >>> describe({"eval_target_oracle_accuracy": 0.5, "eval_target_entropy": 0.7})
        'target: oracle accuracy 0.500, entropy 0.700'
    """
    if "loss" in logs:
        parts = [f"{k.removesuffix('_loss')} {v:.3f}" for k, v in logs.items() if k.endswith("_loss")]
        apart = [f"{p} {logs[key]:.2g}" for p in ("head", "backbone") if (key := f"{p}_learning_rate") in logs]
        rate = f", learning rate {logs['learning_rate']:.2g}" if "learning_rate" in logs else ""
        rate = f", learning rate {', '.join(apart)}" if apart else rate
        named = f" ({', '.join(parts)})" if parts else ""
        return f"loss {logs['loss']:.3f}{named}{rate}"
    if "train_runtime" in logs:
        return f"trained in {describe_seconds(logs['train_runtime'])}"
    numbers = {k: v for k, v in logs.items() if isinstance(v, (int, float)) and k not in ("epoch", "total_flos")}
    shown = {k: v for k, v in numbers.items() if k.endswith(SHOWN)} or numbers
    shared = _shared_words(list(shown)) if len(shown) > 1 else ""  # such as eval_target
    name = shared.partition("_")[2] or "evaluation"
    cut = f"{shared}_" if shared else ""
    words = ", ".join(f"{k.removeprefix(cut).replace('_', ' ')} {v:.3f}" for k, v in shown.items())
    return f"{name}: {words}" if shared else words


def _shared_words(names: list[str]) -> str:
    """The words between underscores that all names begin with."""
    words = []
    for column in zip(*(name.split("_")[:-1] for name in names), strict=False):
        if len(set(column)) > 1:
            break
        words.append(column[0])
    return "_".join(words)
