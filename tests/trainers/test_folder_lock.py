"""The lock of an output folder: two runs never write to one, and what a run that is gone left is taken over."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from hftransfer.trainers.saving import folder_lock
from hftransfer.trainers.saving.folder_lock import FolderInUse, hold, locked, release

HOLDER = """
import sys, time
from hftransfer.trainers.saving.folder_lock import hold
hold(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path/run`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def write_lock(folder: Path, **facts) -> Path:
    lock = folder / "_writing" / "run.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps(folder_lock._own_holder() | facts))
    return lock


def test_a_second_run_is_refused_with_who_holds_it(tmp_path, other):
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(FolderInUse) as found:
        runs.trainer(tmp_path / "run").train()
    for word in (
        str(tmp_path / "run"),
        f"process {other.pid}",
        socket.gethostname(),
        "started 20",
        "Wait until it ends",
    ):
        assert word in str(found.value)
    with pytest.raises(FolderInUse):
        runs.trainer(tmp_path / "run").save_model()
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_the_lock_of_a_run_that_was_killed_is_taken_over(tmp_path, other):
    (tmp_path / "run" / "_writing" / "checkpoint-3").mkdir()
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and a zombie until it is reaped
    with locked(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run" / "_writing").iterdir()] == ["run.json"]
    assert not (tmp_path / "run" / "_writing").exists()


@pytest.mark.parametrize(
    "stale",
    [
        {"pid": 2**22 + 1},
        {"created": 1.0},  # the number belongs to another process by now
        {"machine": ["another boot", "pid:[1]"]},
        {"pid": "nonsense"},
    ],
)
def test_a_stale_lock_is_taken_over(tmp_path, stale):
    lock = write_lock(tmp_path, **stale)
    with locked(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_lock_that_cannot_be_read_is_taken_over(tmp_path, content, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    write_lock(tmp_path).write_text(content)
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [{"host": "node7"}, {"machine": [*folder_lock._machine()[:1], "pid:[1]"]}])
def test_a_lock_of_another_machine_says_how_to_remove_it(tmp_path, where):
    lock = write_lock(tmp_path, **where)
    with pytest.raises(FolderInUse) as found:
        hold(tmp_path)
    for word in (where.get("host", socket.gethostname()), f"if it is gone, remove {lock}"):
        assert word in str(found.value)
    lock.unlink()
    with locked(tmp_path):
        pass


def test_one_process_may_hold_it_several_times(tmp_path):
    folder = tmp_path / "new" / "run"
    with locked(folder), locked(str(folder)), locked(folder / ".." / "run"):
        assert (folder / "_writing" / "run.json").is_file()
    assert not folder.exists()
    assert not folder_lock._held
    release(folder)  # once too often does nothing


def test_trainers_one_after_the_other_and_after_a_failure(tmp_path):
    runs.trainer(tmp_path).train()
    broken = runs.trainer(tmp_path)
    broken.train_dataset = None
    with pytest.raises(Exception, match=r"train_dataset"):
        broken.train()
    assert not folder_lock._held
    runs.trainer(tmp_path).train()
    assert not (tmp_path / "_writing").exists()


def test_a_staging_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "_writing").mkdir()
    (tmp_path / "_writing" / "chapter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="_writing was not made by hftransfer"):
        runs.trainer(tmp_path).train()
    assert (tmp_path / "_writing" / "chapter.txt").read_text() == "mine"
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "_writing").write_text("mine")
    with pytest.raises(FileExistsError, match="_writing was not made by hftransfer"):
        runs.trainer(tmp_path / "file").train()
    assert (tmp_path / "file" / "_writing").read_text() == "mine"


def test_an_older_versions_left_over_staging_is_cleared(tmp_path):
    (tmp_path / "_writing" / "checkpoint-3").mkdir(parents=True)
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_links_the_lock_is_made_all_the_same(tmp_path, monkeypatch):
    def refuses(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    with locked(tmp_path):
        lock = tmp_path / "_writing" / "run.json"
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        assert not folder_lock._create(lock)


def test_a_lock_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            hold(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
