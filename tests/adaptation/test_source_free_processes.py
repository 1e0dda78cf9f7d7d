"""Source-free adaptation on two processes, and after a kill: the same verdict and the same weights."""

from __future__ import annotations

import json

import pytest
import source_free_world as world
from processes import KILLED, forked, together
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return world.save_source_model(tmp_path_factory.mktemp("model"), dropout=0.0)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """Folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    log = folder / "log"
    assert forked(world.killed_in, model, str(folder / "mine"), timeout=900, log=log) == 0, log.read_text()[-6000:]
    return folder / "mine"


def facts(folder):
    return json.loads((folder / "source_free.json").read_text())


def test_two_processes_come_to_the_same(model, tmp_path):
    one, two, log = tmp_path / "one" / "mine", tmp_path / "two" / "mine", tmp_path / "log"
    assert forked(world.on_some, model, str(one), 16, timeout=900, log=log) == 0, log.read_text()[-6000:]
    together(world.on_some, model, str(two), 8, timeout=900, log=log)
    alone, both = facts(one), facts(two)
    assert both["verdict"] == alone["verdict"] == "adapted"
    assert both["oracle"] == pytest.approx(alone["oracle"])
    assert both["agreement"] == pytest.approx(alone["agreement"])
    start, first, second = (load_file(f"{folder}/model.safetensors") for folder in (model, one, two))
    assert max((first[name] - start[name]).abs().max() for name in first) > 1e-3
    assert max((first[name] - second[name]).abs().max() for name in first) < 1e-5


@pytest.mark.parametrize(
    ("moment", "n"),
    [
        ("in training", 3),
        ("in training", 9),  # in the second epoch
        ("while a model is half written", 2),
        ("before the model is written", 1),
        ("while the model is handed over", 2),
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(model, whole, tmp_path, moment, n):
    folder, log = tmp_path / "mine", tmp_path / "log"
    arguments = (model, str(folder), moment, n)
    assert forked(world.killed_in, *arguments, timeout=900, log=log) == KILLED, log.read_text()[-6000:]
    assert forked(world.killed_in, model, str(folder), timeout=900, log=log) == 0, log.read_text()[-6000:]
    assert facts(folder) == facts(whole)
    want, got = (load_file(f"{f}/model.safetensors") for f in (whole, folder))
    assert all(want[name].equal(got[name]) for name in want)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
