"""Progress: one live line in a terminal, plain lines elsewhere; tables that show text of others as it is."""

from __future__ import annotations

import io
import re

import pytest
import runs
import tiny

from hftransfer.reporting import tables
from hftransfer.reporting.benchmark_table import print_table
from hftransfer.reporting.console import PipeSafeConsole
from hftransfer.trainers import progress_line
from hftransfer.trainers.progress_line import Pace, ProgressLine, describe, describe_seconds

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(folder, console, live=True, **config):
    trainer = runs.trainer(
        folder,
        max_steps=6,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=3,
        eval_dataset={"source": tiny.domain(6, seed=2), "target": tiny.domain(6, seed=3)},
        disable_tqdm=not live,
        **config,
    )
    ours = trainer.pop_callback(ProgressLine)
    assert ours.live is (live and ours.console.file.isatty())
    line = ProgressLine(live=live, console=console)
    trainer.progress_line = line
    trainer.add_callback(line)
    trainer.train()
    return trainer


def pipe() -> PipeSafeConsole:
    return PipeSafeConsole(file=io.StringIO(), width=80, highlight=False)


def terminal(width: int = 100) -> PipeSafeConsole:
    return PipeSafeConsole(
        file=Terminal(), width=width, force_terminal=True, highlight=False, _environ={"TERM": "xterm"}
    )


@pytest.mark.parametrize("console", [pipe, lambda: terminal()], ids=["a pipe", "a terminal with disable_tqdm"])
def test_elsewhere_each_log_is_a_line(tmp_path, console):
    screen = console()
    train(tmp_path, screen, live=False)
    lines = screen.file.getvalue().splitlines()
    assert not CONTROL.search("".join(lines))
    pattern = r"step 2 of 6, 33 %, [\d.]+ (steps/s|s a step), 1 s left: loss \d\.\d{3} \(.+\), learning rate \S+"
    assert re.fullmatch(pattern, lines[0])
    assert sum("loss" in line and "learning rate" in line for line in lines) == 3
    assert sum(": source: loss" in line for line in lines) == 2
    assert sum(": target: oracle loss" in line for line in lines) == 2
    assert lines[-1] == "step 6: trained in 1 s"
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("width", [100, 50])
def test_a_terminal_has_one_live_line_below_the_logs(tmp_path, monkeypatch, width):
    monkeypatch.setattr(progress_line, "REDRAW_SECONDS", 0.0)
    screen = terminal(width)
    trainer = train(tmp_path, screen)
    text = screen.file.getvalue()
    assert text.count("\x1b[1A") == 1  # to take it away at the end: no line is ever drawn above another
    assert text.endswith("\x1b[1A\x1b[2K")
    assert text.count("\x1b[?25h") == text.count("\x1b[?25l") == 1  # the cursor is back
    assert "3 of 6, 50 %" in text
    assert "evaluating" in text
    assert "left, loss" in text or width < 100
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert sum(line.startswith("step 2: loss") for line in shown) == 1
    assert max(len(line) for line in shown if " of " in line) <= width  # cut, not folded
    before = len(screen.file.getvalue())
    trainer.evaluate()
    trainer.predict(tiny.domain(6, seed=4))
    after = screen.file.getvalue()[before:]
    assert after.count("\x1b[?25h") == after.count("\x1b[?25l")


def test_a_run_that_breaks_leaves_the_terminal_as_it_was(tmp_path, monkeypatch):
    screen = terminal()

    def broken(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr("hftransfer.trainers.trainer.AdaptationTrainer.compute_loss", broken)
    with pytest.raises(RuntimeError, match="broken"):
        train(tmp_path, screen)
    text = screen.file.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_other_processes_say_nothing():
    screen, state = pipe(), type("State", (), {"is_world_process_zero": False, "global_step": 1, "max_steps": 2})
    line = ProgressLine(console=screen)
    line.on_train_begin(None, state, None)
    line.on_step_end(None, state, None)
    line.on_log(None, state, None, {"loss": 1.0})
    line.on_train_end(None, state, None)
    assert screen.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "steps", "done", "total", "words"),
    [
        (20.0, 40, 40, 274, "step 40 of 274, 14 %, 2.0 steps/s, 1 min 57 s left"),
        (100.0, 10, 10, 20, "step 10 of 20, 50 %, 10.0 s a step, 1 min 40 s left"),
        (10.0, 20, 20, 20, "step 20 of 20, 100 %, 2.0 steps/s"),
        (10.0, 20, 20, None, "step 20, 2.0 steps/s"),
        (0.0, 0, 0, 20, "step 0 of 20, 0 %"),
    ],
)
def test_pace(seconds, steps, done, total, words):
    pace = Pace(at=0.0)
    pace.step(steps, at=seconds)
    assert pace.describe(done, total) == words


def test_pace_is_that_of_the_latest_steps():
    pace = Pace(100, at=0.0)
    for i in range(1, 101):  # slow at first; a resumed run counts its own steps
        pace.step(100 + i, at=10.0 * min(i, 40) + 0.5 * max(0, i - 40))
    assert pace.rate == pytest.approx(2.0)


def test_lengths_of_time():
    assert [describe_seconds(s) for s in (0, 59.6, 60, 3600, 3659, 90_000)] == [
        "1 s", "1 min", "1 min", "1 h", "1 h", "1 d 1 h",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ({"loss": 1, "grad_norm": 2.0}, "loss 1.000"),
        ({"eval_loss": 0.5, "eval_accuracy": 0.25, "eval_runtime": 3.0}, "evaluation: loss 0.500, accuracy 0.250"),
        ({"eval_loss": 0.5}, "eval loss 0.500"),
        (
            {"eval_my_set_loss": 0.5, "eval_my_set_f": 1, "eval_my_set_accuracy": 1},
            "my set: loss 0.500, accuracy 1.000",
        ),
        ({"eval_target_information": 0.5}, "eval target information 0.500"),
        ({"note": "x", "epoch": 1.0}, ""),
    ],
)
def test_a_log_in_words(logs, words):
    assert describe(logs).replace("my_set", "my set") == words


NAMES = ["[red]up[/red]", "[/]", "[link=http://x]y[/link]", "\x1b[31mred\x1b[0m", "a\rb", "\x9b2J", ":smile:", "\\[x]"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_show_names_as_they_are(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    tables.print_facts({"labels": name, name: 1}, title=name)
    tables.print_results({name: {f"{name}_accuracy": 0.5}}, name)
    tables.print_policy_rows([tables.PolicyRow(name, 2, 1, None, None, name)], name)
    print_table([{"shift": name, "method": name, "policy": "x", "seeds": "1"}] * 2, name)
    out = capsys.readouterr().out
    shown = name.replace("\x1b[31m", "").replace("\x1b[0m", "").replace("\r", "\\r").replace("\x9b", "\\x9b")
    assert out.count(shown) >= 8
    assert not CONTROL.search(out)
    assert max(map(len, out.splitlines())) <= 80
