"""Two processes come to the same verdict, scores and weights as one with the same global batch."""

from __future__ import annotations

import json

import adapting
import pytest
from processes import forked, together
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return adapting.save_model(tmp_path_factory.mktemp("model"))


def test_two_processes_decide_as_one(model, tmp_path):
    one, two = tmp_path / "one" / "mine", tmp_path / "two" / "mine"
    log = tmp_path / "log"
    assert forked(adapting.adapt, model, str(one), 16, timeout=600, log=log) == 0, log.read_text()[-6000:]
    together(adapting.adapt, model, str(two), 8, timeout=600, log=log)
    alone, both = (json.loads((folder / "adaptation.json").read_text()) for folder in (one, two))
    assert (both["verdict"], both["chosen"], both["refused"]) == (alone["verdict"], alone["chosen"], alone["refused"])
    assert both["estimated_accuracy"] == pytest.approx(alone["estimated_accuracy"], abs=1e-6)
    for kind in ("scores", "ranks", "oracle"):
        assert both[kind].keys() == alone[kind].keys()
        for name, values in alone[kind].items():
            assert both[kind][name] == pytest.approx(values, abs=1e-6), (kind, name)
    start = load_file(f"{model}/model.safetensors")
    for candidate in adapting.CANDIDATES:
        before, after = (load_file(f / "_candidates" / candidate / "model.safetensors") for f in (one, two))
        assert max((before[name] - start[name]).abs().max() for name in start if name in before) > 1e-3
        assert max((before[name] - after[name]).abs().max() for name in before) < 1e-6
    handed_over = [load_file(folder / "model.safetensors") for folder in (one, two)]
    assert max((handed_over[0][name] - handed_over[1][name]).abs().max() for name in handed_over[0]) < 1e-6


def test_processes_with_other_rows_are_refused_together(model, tmp_path):
    folder, log = tmp_path / "mine", tmp_path / "log"
    together(adapting.adapt_other_rows, model, str(folder), str(tmp_path / "said"), timeout=600, log=log)
    for rank in (0, 1):
        said = (tmp_path / f"said.{rank}").read_text()
        assert "The 2 processes of this run do not work on the same: the target of process 1 differ" in said
        assert "Give all of them the same data and settings" in said
    assert not folder.exists()
