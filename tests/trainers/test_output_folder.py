"""An output folder: only what hftransfer wrote is replaced, and not before there is something to put in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import runs
from bad_folders import FOLDERS, HARMLESS
from safetensors.torch import load_file
from transformers import TrainerCallback

from hftransfer.trainers.saving import folder_replacement
from hftransfer.trainers.saving.checkpoint_choice import find_checkpoint, last_good_checkpoint
from hftransfer.trainers.saving.checkpoint_files import checkpoints
from hftransfer.trainers.saving.folder_lock import hold, locked
from hftransfer.trainers.saving.output_folder import check_output_dir, resume_hint
from hftransfer.trainers.saving.written_files import recorded_files

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


class Stops(TrainerCallback):
    """Raises when a step of that number begins."""

    def __init__(self, step: int, error: BaseException):
        self.step, self.error = step, error

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise self.error


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with checkpoints 2 and 4, a model and a card."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run = runs.trainer(folder, **SAVING)
    run.train()
    run.save_model()
    run.create_model_card()
    return folder


@pytest.fixture
def old(finished, tmp_path):
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize(("files", "settings", "error", "culprit", "remedy"), FOLDERS.values(), ids=FOLDERS.keys())
def test_what_is_somebody_elses_is_refused_by_name(tmp_path, files, settings, error, culprit, remedy):
    write(tmp_path, files)
    before = contents(tmp_path)
    with pytest.raises(error) as found:
        runs.trainer(tmp_path, **settings).train()
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("files", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_in_nobodys_way_stays(tmp_path, files):
    write(tmp_path, files)
    for overwrite in (False, True):
        run = runs.trainer(tmp_path, overwrite_output_dir=overwrite, save_total_limit=1, **SAVING)
        run.train()
        run.save_model()
        run.create_model_card()
    assert {name: text.decode() for name, text in contents(tmp_path).items() if name in files} == files
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]


def test_the_folder_that_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"train.py": "mine", "README.md": "mine"})
    with pytest.raises(FileExistsError, match=r"\. holds README.md"):
        runs.trainer(".").train()
    (tmp_path / "README.md").unlink()
    runs.trainer(".", **SAVING).train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4", "train.py"]


def test_the_mark_names_what_was_written(finished):
    files = {path.name for path in finished.iterdir() if path.is_file()}
    assert set(recorded_files(finished)) | {"_hftransfer.json"} == files
    assert recorded_files(finished)["README.md"]


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written to. Choose another output_dir"):
        runs.trainer(tmp_path / "run").train()
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        check_output_dir(tmp_path / "file" / "run", False)
    with pytest.raises(FileExistsError, match="file is a file; output_dir must be a folder"):
        runs.trainer(tmp_path / "file")


# ---- --overwrite_output_dir


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no data"), SystemExit(143)])
def test_a_run_that_fails_before_its_first_checkpoint_leaves_the_old_one_whole(old, error):
    before = contents(old)
    run = runs.trainer(old, overwrite_output_dir=True, callbacks=[Stops(1, error)], **SAVING)
    with pytest.raises(type(error)):
        run.train()
    assert contents(old) == before
    assert "the run that" in resume_hint(old)
    assert find_checkpoint(old, True) == str(old / "checkpoint-4")


def test_the_first_checkpoint_takes_the_place_of_the_whole_old_run(old):
    before = contents(old)
    stops = Stops(3, KeyboardInterrupt())
    run = runs.trainer(old, overwrite_output_dir=True, seed=5, callbacks=[stops], **SAVING)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert [path.name for path in old.iterdir()] == ["checkpoint-2"]
    assert contents(old)["checkpoint-2/model.safetensors"] != before["checkpoint-2/model.safetensors"]
    assert resume_hint(old).startswith(f"The last checkpoint is {old / 'checkpoint-2'};")


def test_a_model_takes_the_place_of_the_old_run_where_there_are_no_checkpoints(old):
    run = runs.trainer(old, overwrite_output_dir=True, seed=5)
    before = contents(old)
    run.train()
    assert contents(old) == before
    run.save_model()
    names = {path.name for path in old.iterdir()}
    assert not {name for name in names if name.startswith("checkpoint-")}
    assert "README.md" not in names  # the old run's
    assert load_file(old / "model.safetensors").keys()


def test_saving_elsewhere_leaves_the_old_run(old, tmp_path):
    run = runs.trainer(old, overwrite_output_dir=True)
    before = contents(old)
    run.train()
    run.save_model(str(tmp_path / "elsewhere"))
    assert contents(old) == before


def test_old_checkpoints_do_not_take_part_in_the_new_run(old):
    """The old one has higher steps: rotation, the best and the last are the new run's own."""
    run = runs.trainer(
        old, overwrite_output_dir=True, save_total_limit=1, **SAVING | {"max_steps": 3, "save_steps": 1}
    )
    run.train()
    assert [path.name for path in checkpoints(old)] == ["checkpoint-3"]
    assert find_checkpoint(old, True) == str(old / "checkpoint-3")


@pytest.mark.parametrize("at", range(1, 22))
def test_a_kill_while_the_old_run_is_replaced_leaves_one_of_the_two(old, monkeypatch, at):
    """Every move is one moment; the next start makes good what was under way."""

    class Killed(BaseException):
        pass

    count = 0

    def dying(call):
        def move(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return call(*args, **kwargs)

        return move

    before = contents(old)
    with locked(old):
        write(old, {"_writing/checkpoint-1/trainer_state.json": "new"})
        from hftransfer.trainers.saving.written_files import run_item_names

        monkeypatch.setattr(folder_replacement.os, "rename", dying(os.rename))
        monkeypatch.setattr(folder_replacement.os, "replace", dying(os.replace))
        try:
            new = [("checkpoint-1", "checkpoint-1")]
            folder_replacement.replace_items(old, old / "_writing", run_item_names(old), new)
        except Killed:
            pass
        monkeypatch.undo()
    found = contents(old)
    new = {"checkpoint-1/trainer_state.json": b"new"}
    assert found in (before, new)
    assert (found == before) == (at == 1)  # before it was written down


# ---- the card


def test_a_card_that_was_edited_is_kept(old, caplog):
    run = runs.trainer(old)
    run.create_model_card()
    assert not caplog.records
    (old / "README.md").write_text("mine")
    run.create_model_card()
    assert (old / "README.md").read_text() == "mine"
    assert "README.md is not as hftransfer wrote it and was kept" in caplog.text


def test_a_model_is_not_saved_over_somebody_elses(tmp_path):
    run = runs.trainer(tmp_path / "run")
    write(tmp_path / "theirs", {"config.json": '{"port": 80}', "notes.txt": "x"})
    with pytest.raises(FileExistsError, match="theirs holds config.json, which hftransfer did not write"):
        run.save_model(str(tmp_path / "theirs"))
    assert set(contents(tmp_path / "theirs")) == {"config.json", "notes.txt"}
    for _ in range(2):  # again over one's own
        run.save_model(str(tmp_path / "mine"))
    assert not [path for path in (tmp_path / "mine").iterdir() if path.name.startswith("_")]


def test_a_run_of_an_older_version_can_be_replaced(old):
    """Without marks and lists: by what its files hold."""
    (old / "_hftransfer.json").unlink()
    for checkpoint in checkpoints(old):
        (checkpoint / "_files.json").unlink()
    (old / "results.json").write_text(json.dumps({"adapted": {}}))
    run = runs.trainer(old, overwrite_output_dir=True, **SAVING | {"max_steps": 2})
    run.train()
    assert [path.name for path in old.iterdir()] == ["checkpoint-2"]
    run.save_model()


def test_going_on_from_elsewhere_does_not_write_over_a_run(old, tmp_path):
    run = runs.trainer(tmp_path / "other", **SAVING)
    run.train()
    with pytest.raises(FileExistsError, match="already holds a run"):
        runs.trainer(old, **SAVING).train(resume_from_checkpoint=str(tmp_path / "other" / "checkpoint-2"))


def test_one_line_says_how_to_go_on(old, tmp_path):
    assert resume_hint(tmp_path / "nothing") == "Nothing was saved yet."
    last = str(old / "checkpoint-4")
    assert resume_hint(old) == (
        f"The model is saved in {old}. The last checkpoint is {last}; resume_from_checkpoint={last!r} goes on with it."
    )
    (old / "checkpoint-4" / "optimizer.pt").unlink()
    (old / "config.json").unlink()
    assert last_good_checkpoint(old) == str(old / "checkpoint-2")
    assert "checkpoint-2" in resume_hint(old)
    assert "The model" not in resume_hint(old)


def test_names_that_no_folder_can_have(tmp_path):
    link, ring = tmp_path / "link", tmp_path / "ring"
    link.symlink_to(tmp_path / "gone")
    ring.symlink_to(ring)
    cases = {
        link: (FileExistsError, f"is a link to {tmp_path / 'gone'}, which is not there"),
        ring: (OSError, "too many levels of symbolic links. Choose another output_dir"),
        tmp_path / ("x" * 300): (OSError, "file name too long. Choose another output_dir"),
        "a\0b": (ValueError, "holds a character that no path can"),
    }
    for path, (error, words) in cases.items():
        for write in (lambda path=path: check_output_dir(path, False), lambda path=path: hold(path)):
            with pytest.raises(error) as found:
                write()
            assert words in str(found.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "ring"]


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    runs.trainer(tmp_path / "link", **SAVING).train()
    assert [path.name for path in checkpoints(tmp_path / "there")] == ["checkpoint-2", "checkpoint-4"]
    assert (tmp_path / "link").is_symlink()


def test_a_working_directory_that_changes_moves_no_run(tmp_path, monkeypatch):
    class Moves(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            monkeypatch.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = runs.trainer("run", callbacks=[Moves()], **SAVING)
    run.train()
    run.save_model()
    run.create_model_card()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"checkpoint-2", "checkpoint-4", "model.safetensors", "README.md"} <= names
    assert "_writing" not in names
