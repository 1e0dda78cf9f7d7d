"""A run that SIGKILL ended and that was resumed equals one that was left alone, bit for bit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import killing
import pytest
import torch
from processes import KILLED, forked, run
from safetensors.torch import load_file

FIRST_METRICS = """
import random, numpy
from transformers import EvalPrediction
from hftransfer.trainers.metrics import metrics_for
compute = metrics_for("sequence-classification", ("up", "down"))
before = random.getstate()
compute(EvalPrediction(numpy.eye(2), numpy.array([0, 1])))
assert random.getstate() == before
"""
LAST = f"checkpoint-{killing.STEPS}"

KILLS = [  # case, moment, which of its occurrences, the step that is resumed from: what no other shows
    ("plain", "model_half_written", 2, 3),
    ("plain", "after_the_rename", 2, 6),
    ("plain", "deleting_the_oldest", 1, 9),
    ("plain", "moving_the_model", 3, 9),
    ("peft_accumulated", "evaluation", 3, 3),
    ("tagging", "state_half_written", 2, 3),
    ("tagging", "epoch_begins", 2, 6),
    ("stream", "backward", 14, 6),  # between two micro-batches
    ("two_views", "before_the_rename", 3, 6),
    ("strong_views", "backward", 5, 3),
    ("anchored", "backward", 5, 3),
    ("unfreezing", "optimizer_stepped", 5, 3),  # a stage begins at 2, 4 and 6
    ("probing", "optimizer_stepped", 8, 6),  # the backbone joins at 6
]
MORE_KILLS = [  # the rest, in the slow tests
    ("plain", "backward", 5, 3),
    ("plain", "optimizer_stepped", 8, 6),
    ("plain", "optimizer_half_written", 3, 6),
    ("plain", "before_the_rename", 2, 3),
    ("accumulated", "backward", 10, 3),
    ("accumulated", "saved", 2, 6),
    ("peft", "backward", 5, 3),
    ("peft", "model_half_written", 3, 6),
    ("strong_views", "optimizer_stepped", 8, 6),
    ("strong_pictures", "backward", 5, 3),
    ("images", "backward", 8, 6),
    ("unfreezing", "saved", 2, 6),
    ("probing", "optimizer_stepped", 5, 3),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function from a case, and a number of processes, to the folder of a run that nothing happened to."""
    folder, done = tmp_path_factory.mktemp("undisturbed"), set()

    def folder_of(case: str, processes: int = 1) -> Path:
        name = f"{case}_{processes}"
        if name not in done:
            log = folder / f"{name}.log"
            status = forked(killing.train, str(folder / name), case, processes=processes, log=log)
            assert status == 0, log.read_text()[-6000:]
            done.add(name)
        return folder / name

    return folder_of


@pytest.mark.parametrize(
    ("case", "moment", "n", "last"), [*KILLS, *(pytest.param(*kill, marks=pytest.mark.slow) for kill in MORE_KILLS)]
)
def test_resumed_equals_undisturbed(undisturbed, tmp_path, case, moment, n, last):
    _kill_and_resume(tmp_path, case, (moment, n), last)
    _assert_same(undisturbed(case), tmp_path / "run")


@pytest.mark.parametrize(
    ("case", "moment", "n"),
    [
        ("plain", "backward", 5),
        ("plain", "optimizer_half_written", 2),
        pytest.param("images", "backward", 5, marks=pytest.mark.slow),
    ],
)
def test_two_processes(undisturbed, tmp_path, case, moment, n):
    """Both ranks die, or one does while the other waits for it; each has a random state of its own."""
    _kill_and_resume(tmp_path, case, (moment, n), 3, processes=2)
    _assert_same(undisturbed(case, 2), tmp_path / "run", ranks=2)


def test_with_worker_processes(undisturbed, tmp_path):
    """Against a run that was left alone and made its batches itself."""
    _kill_and_resume(tmp_path, "workers", ("backward", 5), 3)
    _assert_same(undisturbed("images"), tmp_path / "run")


def test_a_run_killed_in_its_first_save_starts_over(undisturbed, tmp_path):
    """There is nothing to resume from, and what was left lying about is in nobody's way."""
    folder, log = tmp_path / "run", tmp_path / "log"
    assert forked(killing.train, str(folder), "plain", False, ("optimizer_half_written", 1), log=log) == KILLED
    assert [p.name for p in folder.iterdir()] == ["_writing"]
    assert forked(killing.train, str(folder), "plain", log=log) == 0, log.read_text()[-6000:]
    _assert_same(undisturbed("plain"), folder)


def test_first_metrics_draw_nothing():
    """Python's random state is part of a checkpoint, and some imports draw from it: they must come before the seed."""
    run([sys.executable, "-c", FIRST_METRICS])


def _kill_and_resume(tmp_path, case, kill, last, processes=1):
    folder, log = tmp_path / "run", tmp_path / "log"
    status = forked(killing.train, str(folder), case, False, kill, processes=processes, log=log)
    assert status == KILLED, log.read_text()[-6000:]
    steps = [int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*")]
    assert max(steps) == last
    expected = {p.name for p in (folder / f"checkpoint-{min(steps)}").iterdir()}
    assert all({p.name for p in (folder / f"checkpoint-{step}").iterdir()} == expected for step in steps)
    assert forked(killing.train, str(folder), case, True, processes=processes, log=log) == 0, log.read_text()[-6000:]


def _assert_same(want: Path, got: Path, ranks: int = 1) -> None:
    assert sorted(p.name for p in want.iterdir()) == sorted(p.name for p in got.iterdir())
    for folder in ("", *(p.name for p in want.glob("checkpoint-*"))):
        weights = [p.name for p in (want / folder).glob("*.safetensors")]
        assert weights
        for name in weights:
            _assert_equal(load_file(want / folder / name), load_file(got / folder / name), f"{folder}/{name}")
        if folder:
            for name in ("optimizer.pt", "scheduler.pt", *_random_states(ranks)):
                states = (torch.load(run / folder / name, weights_only=False) for run in (want, got))
                _assert_equal(*states, f"{folder}/{name}")
    histories = (json.loads((run / LAST / "trainer_state.json").read_text())["log_history"] for run in (want, got))
    timeless = [[{k: v for k, v in entry.items() if not _timed(k)} for entry in history] for history in histories]
    assert timeless[0] == timeless[1]
    assert len(timeless[0]) >= killing.STEPS


def _random_states(ranks: int) -> list[str]:
    return ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]


def _timed(key: str) -> bool:
    return key.endswith(("_runtime", "_per_second", "_model_preparation_time"))


def _assert_equal(want, got, where) -> None:
    """The same nested structure, with equal tensors and values."""
    assert type(want) is type(got), where
    if isinstance(want, dict):
        assert list(want) == list(got), where
        for key in want:
            _assert_equal(want[key], got[key], f"{where}/{key}")
    elif isinstance(want, (list, tuple)):
        assert len(want) == len(got), where
        for i, pair in enumerate(zip(want, got, strict=True)):
            _assert_equal(*pair, f"{where}/{i}")
    elif hasattr(want, "shape"):
        assert (want == got).all(), where
    else:
        assert want == got, where
