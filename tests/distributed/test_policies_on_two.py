"""Policies on two processes: exactly what should move moves, to where one process moves it, also what is unfrozen
after DDP or FSDP2 has wrapped the model."""

from __future__ import annotations

import json

import policy_worker
import pytest
import torch
from policy_cases import FEW, MORE, PHASES, expected
from processes import together
from safetensors.torch import load_file

RUNS = ("two_processes", "two_processes_accumulated")


@pytest.fixture(scope="module")
def finished(request, tmp_path_factory):
    """A folder with every run's weights, of the cases that are asked for."""
    folder = tmp_path_factory.mktemp("policies")
    together(policy_worker.work, str(folder), request.param, timeout=540, log=folder / "log")
    for case in request.param:
        policy_worker.train(case, 8, 1, folder / case / "one_process")
    return folder


quick = pytest.mark.parametrize("finished", [FEW], indirect=True, ids=[""])


@pytest.mark.parametrize(
    ("finished", "case", "run"),
    [
        pytest.param(cases, case, run, marks=marks, id=f"{case}-{run}")
        for cases, marks in ((FEW, []), (MORE, [pytest.mark.slow]))
        for case in cases
        for run in RUNS
    ],
    indirect=["finished"],
    scope="module",
)
def test_two_processes_move_what_one_moves(finished, case, run):
    before, want = (load_file(finished / case / "one_process" / name) for name in ("before", "after"))
    got = load_file(finished / case / run / "after")
    assert before.keys() == want.keys() == got.keys()
    assert torch.equal(
        before["model.classifier.weight"], load_file(finished / case / run / "before")["model.classifier.weight"]
    )
    own = {name.removeprefix("model.") for name in before if name.startswith("model.")}
    moved = {n.removeprefix("model.") for n in before if n.startswith("model.") and not torch.equal(got[n], before[n])}
    assert moved == expected(case, own)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=2e-6, msg=name)


@quick
@pytest.mark.parametrize("case", PHASES)
def test_processes_agree_on_what_was_unfrozen(finished, case):
    """The stock trainer's do not: what was frozen when DDP wrapped it is never synchronised, and nothing says so."""
    stock = json.loads((finished / "found.json").read_text())["stock"]
    assert stock > 1e-3
    for run in RUNS:
        assert json.loads((finished / case / run / "apart.json").read_text()) < 1e-7


@quick
def test_sharded_parameters_are_unfrozen_exactly(finished):
    found = json.loads((finished / "found.json").read_text())["sharded"]
    assert found["differ"] < 2e-6
    assert found["least"] > 1e-4
    assert found["stages"] == [2, 20, 36, 41]
