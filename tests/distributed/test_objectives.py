"""Two processes equal one process on the union batch, for every objective, under DDP; under FSDP2 and on words for one
of each kind, and in the slow tests for all."""

from __future__ import annotations

import json

import objective_worker
import pytest
from objective_worker import LOCAL, NOT_SHARDED, OBJECTIVES, TASKS, WRAPPINGS
from processes import together

FEW = (  # one of each kind, for the ways that cost more or differ less
    *("mmd", "mmd_queue", "mmd_hidden", "mmd_by_domain", "mmd_label_shift"),
    *("mmd_rff", "jan", "coral", "swd", "deepjdot"),
    *("dann", "dann_each", "cdan_randomized", "mdd", "wdgrl", "osbp", "adda"),  # with parameters of their own
    *("supcon", "nt_xent_queue", "prototype", "bnm", "im", "constraint", "fixmatch"),
    *("l2_sp", "distill_hidden", "delta"),  # with a teacher or a start
    *NOT_SHARDED,
)
EACH = {("sequence", "ddp"): OBJECTIVES, ("sequence", "fsdp2"): FEW, ("token", "ddp"): FEW}
ALONE = tuple(("sequence", LOCAL, wrapping) for wrapping in WRAPPINGS)
QUICK = ALONE + tuple((task, name, wrapping) for (task, wrapping), names in EACH.items() for name in names)
SLOW = tuple(
    (task, name, wrapping)
    for task in TASKS
    for wrapping in WRAPPINGS
    for name in OBJECTIVES
    if (task, name, wrapping) not in QUICK
)


@pytest.fixture(scope="module")
def report(request, tmp_path_factory):
    """What two processes found that went through the cases that are asked for."""
    path = tmp_path_factory.mktemp("objectives") / "report.json"
    together(objective_worker.work, str(path), request.param, timeout=600, log=path.with_name("log"))
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("report", "task", "objective", "wrapping"),
    [
        pytest.param(cases, *case, marks=marks, id="-".join(case))
        for cases, marks in ((QUICK, []), (SLOW, [pytest.mark.slow]))
        for case in cases
        if case not in ALONE
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
