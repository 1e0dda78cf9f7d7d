"""8 rows at once = 4 rows twice = 2 rows four times = 4 rows on each of two processes: the task loss of every step and
the weights after several. Rows, words and revealed labels fall unevenly, so a mean of means would differ."""

from __future__ import annotations

import json

import pytest
import trainer_worker
from processes import together
from safetensors.torch import load_file
from trainer_worker import ADDITIVE, CASES, train

LOCAL = {"whole": (8, 1), "accumulated": (4, 2), "in_four": (2, 4)}
RUNS = {case: ["two_processes"] for case in CASES}
RUNS |= {case: ["accumulated", "two_processes", "two_processes_accumulated"] for case in ADDITIVE}
RUNS["token_dann"].append("in_four")
# What the others show as well: the task loss is logged by itself beside an objective, and without weights all are 1.
SLOW = ("sequence", "token", "stream", "weighted", "token_mmd")
QUICK = tuple(case for case in CASES if case not in SLOW)


@pytest.fixture(scope="module")
def finished(request, tmp_path_factory):
    """A folder with every run's weights and losses, of the cases that are asked for."""
    folder = tmp_path_factory.mktemp("accumulation")
    together(trainer_worker.work, str(folder), request.param, log=folder / "log")
    for case in request.param:
        for run, (rows, accumulation) in LOCAL.items():
            if run in ("whole", *RUNS[case]):
                train(case, rows, accumulation, folder / case / run)
    return folder


@pytest.mark.parametrize(
    ("finished", "case", "run"),
    [
        pytest.param(cases, case, run, marks=marks, id=f"{case}-{run}")
        for cases, marks in ((QUICK, []), (SLOW, [pytest.mark.slow]))
        for case in cases
        for run in RUNS[case]
    ],
    indirect=["finished"],
    scope="module",
)
def test_the_cut_does_not_matter(finished, case, run):
    folder = finished / case
    want, got = (json.loads((folder / r / "losses.json").read_text()) for r in ("whole", run))
    assert len(want["task_loss"]) == 4
    assert want["task_loss"][0] - want["task_loss"][-1] > 1e-2, "nothing was learned, so nothing was compared"
    for key in want:
        tolerance = 1e-5 if key == "grad_norm" else 2e-6  # logs are rounded
        assert got[key] == pytest.approx(want[key], abs=tolerance), key
    before, after = (load_file(folder / r / "state.safetensors") for r in ("whole", run))
    assert before.keys() == after.keys()
    for name in before:
        tolerance = 1e-5 if "queue.features" in name else 1e-6  # a queue holds activations, not weights
        assert (before[name] - after[name]).abs().max() < tolerance, name
