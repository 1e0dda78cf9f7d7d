"""A run and what started it end together, whichever of them is told to, and say how to go on; real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import recipe

from hftransfer.cli import signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

TWO = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU  # on gloo, with --use_cpu
mixed_precision: "no"
num_machines: 1
num_processes: 2
rdzv_backend: static
"""
COMMAND = [sys.executable, "-c", "from hftransfer.cli.main import main; main()", "finetune"]
ENDLESS = {"max_steps": "1000000", "save_steps": "5", "logging_steps": "5", "save_total_limit": "1"}
SECONDS = 20  # that a run may take to end, on a busy machine


@pytest.fixture(scope="module")
def world(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("signals")
    (folder / "two.yaml").write_text(TWO)
    source = recipe.write_domain(folder, "news", 0, {"train": 24})
    target = recipe.write_domain(folder, "medical", 50, {"train": 18}, ("train",))
    options = ENDLESS | {"source": source, "target": target, "model": model_folder, "output_dir": "run"}
    return folder, [*recipe.words(**options), "--no_source_only_baseline"]


def begin(command: list[str], folder: Path, said: int = 1) -> tuple[subprocess.Popen, Path]:
    """A run that trains and has a checkpoint, as so many processes have said; where its output goes."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    log = folder / "log.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    deadline = time.monotonic() + 120
    try:
        while log.read_text().count("step 10 ") < said:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
    except BaseException:
        process.kill()
        raise
    return process, log


def ends(process: subprocess.Popen, number: int) -> int:
    """Sends a signal to what was started, waits for it and for all processes that it had; its exit status."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(number)
    status = process.wait(SECONDS)
    alive = psutil.wait_procs(family, SECONDS)[1]
    for orphan in alive:
        orphan.kill()
    assert not alive, [orphan.cmdline() for orphan in alive]
    return status


STOP = (signal.SIGINT, 130, "stopped while")
TERMINATE = (signal.SIGTERM, 143, "stopped by SIGTERM while")
KILL = (signal.SIGKILL, -9, None)


@pytest.mark.parametrize(
    ("number", "status", "words", "processes"),
    [
        pytest.param(*STOP, 1, id="Ctrl-C of one", marks=pytest.mark.slow),
        pytest.param(*STOP, 2, id="Ctrl-C of two", marks=pytest.mark.slow),
        pytest.param(*TERMINATE, 1, id="SIGTERM of one"),
        pytest.param(*TERMINATE, 2, id="SIGTERM of two", marks=pytest.mark.slow),
        pytest.param(*KILL, 1, id="SIGKILL of one", marks=pytest.mark.slow),
        pytest.param(*KILL, 2, id="SIGKILL of two", marks=pytest.mark.slow),
    ],
)
def test_no_process_outlives_the_command(world, tmp_path, processes, number, status, words):
    folder, options = world
    more = ["--accelerate_config", str(folder / "two.yaml")] if processes == 2 else []
    process, log = begin([*COMMAND, *more, *options], tmp_path)
    assert ends(process, number) == status
    text = log.read_text()
    assert "Traceback" not in text
    assert "death signal" not in text
    assert text.count("hftransfer: ") == (words is not None)
    if words is not None:
        last = text.strip().splitlines()[-1]
        assert last.startswith(f"hftransfer: {words}")
        assert "checkpoint-" in last
        assert "resume_from_checkpoint" in last


IDLE = """
import time
from hftransfer.cli.recipe_process import run_recipe, start_recipe
def job(argv):
    print("step 10 ", flush=True)
    time.sleep(600)
start_recipe(lambda argv: run_recipe(job, argv), "finetune")
"""
LAUNCH = """
import sys
from pathlib import Path
from hftransfer.cli import main as cli
cli.launch(Path("idle.py"), sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("launcher", "children"),
    [
        pytest.param(["-c", LAUNCH], 0, id="the command's, whose place it took", marks=pytest.mark.slow),
        pytest.param(["-c", LAUNCH, "--accelerate_config", "two.yaml"], 2, id="the command's, of two processes"),
        pytest.param(["-m", "accelerate.commands.launch", "--num_processes", "1", "idle.py"], 1, id="accelerate's"),
    ],
)
def test_a_run_dies_with_its_launcher(tmp_path, launcher, children):
    """Which has no time to tell it."""
    (tmp_path / "idle.py").write_text(IDLE)
    (tmp_path / "two.yaml").write_text(TWO)
    process, log = begin([sys.executable, *launcher], tmp_path, said=max(1, children))
    assert len(psutil.Process(process.pid).children()) == children
    assert ends(process, signal.SIGKILL) == -9
    assert "Traceback" not in log.read_text()


def test_two_that_are_told_to_stop_say_it_once(tmp_path):
    (tmp_path / "idle.py").write_text(f"import torch.distributed\n{IDLE}")  # as in a run: it takes seconds
    (tmp_path / "two.yaml").write_text(TWO)
    with socket.socket() as another_run:  # of whose port nothing is said
        with suppress(OSError):  # it is taken already
            another_run.bind(("", 29500))
        another_run.listen()
        process, log = begin([sys.executable, "-c", LAUNCH, "--accelerate_config", "two.yaml"], tmp_path, said=2)
    assert ends(process, signal.SIGINT) == 130
    said = [line for line in log.read_text().splitlines() if line.strip() and not line.startswith("step 10")]
    assert len(said) == 1, said
    assert said[0].startswith("hftransfer: stopped")


SLOW = """
import sys, time
from hftransfer.cli.recipe_process import run_recipe, start_recipe
def job(argv):
    print("step 10 ", flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass  # as a library might
start_recipe(lambda argv: run_recipe(job, argv), "finetune")
"""


def test_a_run_that_does_not_listen_is_ended(tmp_path):
    process, log = begin([sys.executable, "-c", SLOW], tmp_path)
    assert ends(process, signal.SIGTERM) == 143
    assert "hftransfer: stopped by SIGTERM." in log.read_text()


def test_a_process_without_launcher_goes_on_by_itself(monkeypatch):
    monkeypatch.delenv(signals.LAUNCHER, raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not signals._is_launcher(1)
    monkeypatch.setenv(signals.LAUNCHER, "12345")
    assert signals._is_launcher(12345)
    assert not signals._is_launcher(1)
