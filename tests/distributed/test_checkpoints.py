"""At no moment is there a part of a checkpoint or of a model: each is whole or absent."""

from __future__ import annotations

import json

import pytest
import watching
from processes import forked


@pytest.mark.parametrize(("case", "processes"), [("plain", 1), ("peft", 1), ("best_is_not_last", 1), ("plain", 2)])
def test_whole_or_absent(tmp_path, case, processes):
    folder, report, log = tmp_path / "run", tmp_path / "report.json", tmp_path / "log"
    status = forked(watching.run, str(folder), case, str(report), processes=processes, log=log)
    assert status == 0, log.read_text()[-6000:]
    found = json.loads(report.read_text())
    assert found["moments"] > 100
    assert found["partial"] > 20, "nothing was ever seen half-written, so the watch does not look"
    checkpoints = {f"checkpoint-{step}" for step in (3, 6, 9)}
    assert set(found["states"]) == {*checkpoints, "model"}
    for name in checkpoints:
        absent, whole, *gone = found["states"][name]
        assert absent is None
        assert whole is not None
        assert gone in ([], [None]), f"{name} changed or was taken apart"
    kept = sorted(p.name for p in folder.glob("checkpoint-*"))
    assert kept == (["checkpoint-3"] if case == "best_is_not_last" else ["checkpoint-6", "checkpoint-9"])
    assert not (folder / "_writing").exists()
    models = found["states"]["model"]  # it is saved three times
    assert [m is None for m in models] == [True, False] * 3, "the config must go first and come last"
    assert not list(folder.glob("adapter_*")), "the last one was merged"
