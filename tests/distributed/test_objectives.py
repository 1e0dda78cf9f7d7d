"""Two processes equal one process on the union batch, for every objective, under DDP and FSDP2."""

from __future__ import annotations

import json

import objective_worker
import pytest
from objective_worker import LOCAL, NOT_SHARDED, OBJECTIVES, TASKS
from processes import together


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("objectives") / "report.json"
    together(objective_worker.work, str(path), timeout=600, log=path.with_name("log"))
    return json.loads(path.read_text())


@pytest.mark.parametrize("wrapping", ["ddp", "fsdp2"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_equal_one_on_the_union_batch(report, task, objective, wrapping):
    if objective in NOT_SHARDED and wrapping == "fsdp2":
        assert wrapping not in report[f"{task}/{objective}"]  # the worker saw it refused
        return
    found = report[f"{task}/{objective}"][wrapping]
    assert found["seen"] > 1e-3, "the objective was zero throughout, so nothing was compared"
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-5


@pytest.mark.parametrize("wrapping", ["ddp", "fsdp2"])
def test_statistics_of_each_process_alone_would_not(report, wrapping):
    found = report[f"sequence/{LOCAL}"][wrapping]
    assert found["loss"] > 1e-3
    assert found["gradient"] > 1e-3
