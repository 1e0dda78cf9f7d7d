"""A checkpoint's list of files: what is missing or was altered is named, with the last whole checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import runs

from hftransfer.trainers.saving.checkpoint_files import checkpoints, fault

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    runs.trainer(folder, objectives={"dann": 0.1}, **SAVING).train()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def resumed(folder: Path, how=True):
    trainer = runs.trainer(folder, objectives={"dann": 0.1}, **SAVING)
    trainer.train(resume_from_checkpoint=how)
    return trainer


LISTED = [
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "model.safetensors",
    "trainer_state.json",
    "_adaptation_state.safetensors",
    "config.json",
]


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("damage", [Path.unlink, halved, altered])
def test_damage_is_named_with_the_last_whole_checkpoint(run, name, damage):
    damage(run / "checkpoint-4" / name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for how in (True, str(run / "checkpoint-4")):
        with pytest.raises((ValueError, FileNotFoundError)) as found:
            resumed(run, how)
        assert f"{run / 'checkpoint-4'} cannot be resumed: {name} is " in str(found.value)
        assert ("missing" if damage is Path.unlink else "damaged") in str(found.value)
        assert f"resume_from_checkpoint={str(run / 'checkpoint-2')!r}" in str(found.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (run / "_writing").exists()


def test_going_on_from_the_whole_one_works(run):
    halved(run / "checkpoint-4" / "optimizer.pt")
    assert resumed(run, str(run / "checkpoint-2")).state.global_step == 4
    assert fault(run / "checkpoint-4") is None  # it was made anew


def test_where_none_is_whole_the_message_says_so(run):
    for checkpoint in checkpoints(run):
        (checkpoint / "scheduler.pt").unlink()
    with pytest.raises(ValueError, match="There is no whole checkpoint beside it: start without"):
        resumed(run)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"files": {"a": 1}, "resumable": true}'])
def test_a_damaged_list_is_named(run, content):
    (run / "checkpoint-4" / "_files.json").write_text(content)
    with pytest.raises(ValueError, match="its list of files, _files.json, cannot be read"):
        resumed(run)


def test_notes_may_be_added(run):
    (run / "checkpoint-4" / "notes.txt").write_text("mine")
    (run / "checkpoint-4" / "README.md").write_text("mine")
    assert fault(run / "checkpoint-4") is None


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, halved])
def test_an_older_versions_checkpoint_must_have_what_is_needed(run, name, damage):
    for checkpoint in checkpoints(run):
        (checkpoint / "_files.json").unlink()
    assert fault(run / "checkpoint-4") is None
    damage(run / "checkpoint-4" / name)
    with pytest.raises(ValueError, match=f"{name} is (missing|damaged).*checkpoint-2"):
        resumed(run)


def test_an_older_versions_checkpoint_is_resumed(run):
    shutil.rmtree(run / "checkpoint-4")
    (run / "checkpoint-2" / "_files.json").unlink()
    assert resumed(run).state.global_step == 4


@pytest.mark.parametrize("listed", [True, False])
def test_a_model_alone_cannot_be_resumed(tmp_path, listed):
    runs.trainer(tmp_path, save_only_model=True, **SAVING).train()
    assert json.loads((tmp_path / "checkpoint-4" / "_files.json").read_text())["resumable"] is False
    for checkpoint in checkpoints(tmp_path):
        if not listed:
            (checkpoint / "_files.json").unlink()
    with pytest.raises(ValueError, match="saved with save_only_model=True.*loaded as a model but not resumed"):
        runs.trainer(tmp_path, **SAVING).train(resume_from_checkpoint=True)


def test_every_file_of_every_process_is_in_the_list(finished):
    for checkpoint in checkpoints(finished):
        listed = json.loads((checkpoint / "_files.json").read_text())["files"]
        assert set(listed) == {path.name for path in checkpoint.iterdir()} - {"_files.json"}
        assert set(LISTED) <= set(listed)
