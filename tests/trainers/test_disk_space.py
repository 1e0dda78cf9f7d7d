"""A disk that fills up: one message, the last good checkpoint, and nothing half-written left to keep it full."""

from __future__ import annotations

import errno
import shutil
import sys
from collections import namedtuple

import pytest
import runs
import safetensors.torch
import torch
from processes import script

from hftransfer.models.disk_space import DiskFullError, enough_disk_space, is_disk_full, readable_size
from hftransfer.trainers.saving.checkpoint_files import checkpoints, fault

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
Usage = namedtuple("Usage", "total used free")
LIMITED = """
import resource, sys
import runs
from hftransfer.models.disk_space import DiskFullError
run = runs.trainer(sys.argv[1], save_strategy="steps", save_steps=2, max_steps=4)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    run.train()
except DiskFullError as error:
    print(error)
"""


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def of_torch(*args, **kwargs):
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


def of_safetensors(*args, **kwargs):
    raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (torch, "save", full),
        (torch, "save", of_torch),
        (safetensors.torch, "save_file", of_safetensors),
        (sys.modules["hftransfer.trainers.saving.checkpoint_writing"], "write_list", full),
        (sys.modules["hftransfer.trainers.saving.checkpoint_writing"], "flush_files", full),
    ],
)
def test_a_disk_that_fills_up_is_one_message(tmp_path, monkeypatch, module, name, error):
    run = runs.trainer(tmp_path, **SAVING)
    write = run._save_checkpoint

    def second(*args):
        if run.state.global_step == 4:
            monkeypatch.setattr(module, name, error)
        write(*args)

    monkeypatch.setattr(run, "_save_checkpoint", second)
    with pytest.raises(DiskFullError) as found:
        run.train()
    last = str(tmp_path / "checkpoint-2")
    for word in (
        f"There is no room for checkpoint-4 in {tmp_path}",
        "it needs about ",
        " are free. Make room",
        f"The last good checkpoint is {last}; resume_from_checkpoint={last!r}",
    ):
        assert word in str(found.value)
    assert len(str(found.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert fault(tmp_path / "checkpoint-2") is None


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    run = runs.trainer(tmp_path, **SAVING)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(DiskFullError, match=r"room for checkpoint-2 .*about 1\.\d MB, and 5\.0 kB are free"):
        run.train()
    with pytest.raises(DiskFullError, match="room for the model in .*There is no checkpoint to go back to"):
        run.save_model()
    assert not checkpoints(tmp_path)
    assert not (tmp_path / "_writing").exists()


def test_the_estimate_is_about_what_is_written(tmp_path):
    run = runs.trainer(tmp_path, objectives={"dann": 0.1}, **SAVING)
    run.train()
    written = sum(path.stat().st_size for path in (tmp_path / "checkpoint-4").iterdir())
    assert written < run.checkpoint_writer.checkpoint_bytes() < written + 2**20


def test_another_error_stays_what_it_is(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("cannot be pickled")

    run = runs.trainer(tmp_path, **SAVING)
    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(ValueError, match="cannot be pickled"):
        run.train()
    assert not (tmp_path / "_writing").exists()


def test_a_real_limit(tmp_path):
    assert "There is no room for checkpoint-2" in script(LIMITED, tmp_path / "run", log=tmp_path / "log")
    assert not list((tmp_path / "run").glob("_writing")) if (tmp_path / "run").exists() else True


def test_what_is_called_full():
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert is_disk_full(OSError(errno.EFBIG, "File too large"))
    assert not is_disk_full(OSError(errno.ENOENT, "No such file"))
    assert [readable_size(n) for n in (12, 5_000, 93_000_000, 3 * 10**9)] == [
        "12 bytes",
        "5.0 kB",
        "93.0 MB",
        "3.0 GB",
    ]
    with pytest.raises(KeyError), enough_disk_space("it", ".", 0):
        raise KeyError
