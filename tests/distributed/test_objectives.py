"""Two processes equal one process on the union batch, for every objective, under DDP and FSDP2."""

from __future__ import annotations

import json

import objective_worker
import pytest
from objective_worker import LOCAL, NOT_SHARDED, OBJECTIVES
from processes import together

QUICK = (("sequence", "ddp"), ("sequence", "fsdp2"), ("token", "ddp"))
SLOW = (("token", "fsdp2"),)


@pytest.fixture(scope="module")
def report(request, tmp_path_factory):
    """What two processes found that went through the ways that are asked for."""
    path = tmp_path_factory.mktemp("objectives") / "report.json"
    together(objective_worker.work, str(path), request.param, timeout=600, log=path.with_name("log"))
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("report", "task", "objective", "wrapping"),
    [
        pytest.param(ways, task, objective, wrapping, marks=marks, id=f"{task}-{objective}-{wrapping}")
        for ways, marks in ((QUICK, []), (SLOW, [pytest.mark.slow]))
        for task, wrapping in ways
        for objective in OBJECTIVES
    ],
    indirect=["report"],
    scope="module",
)
def test_two_processes_equal_one_on_the_union_batch(report, task, objective, wrapping):
    if objective in NOT_SHARDED and wrapping == "fsdp2":
        assert wrapping not in report.get(f"{task}/{objective}", {})  # the worker saw it refused
        return
    found = report[f"{task}/{objective}"][wrapping]
    assert found["seen"] > 1e-3, "the objective was zero throughout, so nothing was compared"
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-5


@pytest.mark.parametrize("report", [QUICK], indirect=True, ids=[""])
@pytest.mark.parametrize("wrapping", ["ddp", "fsdp2"])
def test_statistics_of_each_process_alone_would_not(report, wrapping):
    found = report[f"sequence/{LOCAL}"][wrapping]
    assert found["loss"] > 1e-3
    assert found["gradient"] > 1e-3
