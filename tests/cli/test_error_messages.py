"""Last words: one line whatever breaks, with what was being done and what helps, and no token."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recipe
import torch
from processes import heard
from torch.utils.data import DataLoader, Dataset

from hftransfer.cli.error_messages import describe_error
from hftransfer.cli.main import launch
from hftransfer.cli.recipe_process import run_recipe, split_debug
from hftransfer.cli.signals import Stopped
from hftransfer.data.domain_loading import load_shift
from hftransfer.stages import stage

TOKEN = "hf_" + "aB3" * 11


def failing(error, doing="training, step 3"):
    def job(argv):
        with stage("checking the settings", if_stopped="Nothing was saved yet."), stage(doing):
            raise error

    return job


UNKNOWN = {
    "a key": (KeyError("logits"), "training, step 3", "KeyError: 'logits'"),
    "no message": (RuntimeError(), "reading the source", "RuntimeError"),
    "many lines": (RuntimeError("size mismatch:\n\tshape a\n\tshape b"), "loading", "size mismatch: shape a shape b"),
    "a token": (RuntimeError(f"401 for {TOKEN}"), "pushing", "401 for hf_***"),
    "colours": (ValueError("\x1b[31mred\x1b[0m"), "training", "ValueError: red"),
    "memory": (MemoryError(), "training, step 3", "per_device_train_batch_size"),
    "of a GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried …"), "training, step 3", "forward_rows"),
    "in an evaluation": (torch.OutOfMemoryError("CUDA out of memory."), "evaluating", "per_device_eval_batch_size"),
    "of a CPU": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "training", "gradient_accum"),
    "a killed worker": (
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "training", "dataloader_num_workers",
    ),
    "an assertion": (AssertionError("x"), "evaluating", "AssertionError: x"),
    "the end of an iterator": (StopIteration(), "training", "StopIteration"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "doing", "words"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_nobody_knows_ends_in_one_line(capsys, error, doing, words):
    assert run_recipe(failing(error, doing), []) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"\nhftransfer: while {doing}: {type(error).__name__}")
    assert err.count("\n") == 2
    assert words in err
    assert err.endswith(" --debug shows the trace.\n")
    assert "\x1b" not in err
    assert TOKEN not in err


def test_a_refusal_of_ours_stands_alone(capsys):
    def job(argv):
        with stage("reading the source"):
            load_shift({"source": "gone.csv"}, None, 0.1, 0)

    assert run_recipe(job, []) == 1
    err = capsys.readouterr().err
    assert err.startswith("\nhftransfer: source 'gone.csv'")
    assert "--debug" not in err
    assert "while" not in err


@pytest.mark.parametrize("variable", [None, "1"])
def test_debug_shows_the_trace_without_tokens(monkeypatch, capsys, variable):
    if variable:
        monkeypatch.setenv("HFTRANSFER_DEBUG", variable)
    assert run_recipe(failing(RuntimeError(f"bad {TOKEN}")), ["--x"] + ["--debug"] * (not variable)) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in failing" not in err
    assert "in job" in err
    assert TOKEN not in err
    assert err.strip().splitlines()[-1] == "hftransfer: while training, step 3: RuntimeError: bad hf_***"


@pytest.mark.parametrize(
    ("words", "left", "wanted"),
    [
        (["--debug"], [], True),
        (["--debug", "--seed", "1"], ["--seed", "1"], True),
        (["--debug", "underflow_overflow"], ["--debug", "underflow_overflow"], False),
        (["--seed", "1"], ["--seed", "1"], False),
    ],
)
def test_debug_leaves_the_option_of_transformers_alone(words, left, wanted):
    assert split_debug(words) == (left, wanted)


@pytest.mark.parametrize(
    ("error", "status", "how"), [(KeyboardInterrupt(), 130, ""), (Stopped(15), 143, "by SIGTERM ")]
)
def test_a_stop_is_one_line_with_what_is_saved(capsys, error, status, how):
    assert run_recipe(failing(error), []) == status
    assert capsys.readouterr().err == f"\nhftransfer: stopped {how}while training, step 3. Nothing was saved yet.\n"


class Damaged(Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, i):
        raise self.error


def test_an_error_of_a_data_worker_is_its_own_message():
    loader = DataLoader(Damaged(ValueError("row 3: the image\nis cut off")), num_workers=1)
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        next(iter(loader))
    assert describe_error(caught.value) == "ValueError: row 3: the image is cut off"


RANKS = """
import os, sys, time
from hftransfer.cli.recipe_process import run_recipe, start_recipe
def job(argv):
    if os.environ["RANK"] == "1":
        raise KeyError("only here")
    if "both" in argv:
        raise KeyError("on the first")
    time.sleep(100)
start_recipe(lambda argv: run_recipe(job, argv), "finetune")
"""


@pytest.mark.parametrize("words", [[], pytest.param(["both"], marks=pytest.mark.slow)])
def test_of_two_processes_one_says_it_and_both_end(tmp_path, words):
    (tmp_path / "two.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nmixed_precision: 'no'\nnum_machines: 1\n"
        "num_processes: 2\nrdzv_backend: static\n"
    )
    (tmp_path / "script.py").write_text(RANKS)
    done = heard(launch, Path("script.py"), ["--accelerate_config", "two.yaml", *words], cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("hftransfer: ") == 1, done.stderr
    assert "KeyError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", ["align_image_text", "finetune", "benchmark", "interpolate", "choose_source", "few_shot"]
)
def test_no_recipe_shows_a_traceback(monkeypatch, capsys, tmp_path, name):
    """Whatever breaks, wherever: here in what each asks for first."""
    module = recipe.load(name)

    def broken(*args, **kwargs):
        raise ZeroDivisionError("division by zero")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run", broken)
    argv = {
        "align_image_text": ["--image_encoder", "a", "--source", "x.csv", "--output_dir", "out"],
        "finetune": ["--source", "x.csv", "--output_dir", "run", "--use_cpu"],
        "benchmark": ["--config", "x.yaml"],
        "interpolate": ["--models", "a", "--source", "x.csv", "--output_dir", "out"],
        "choose_source": ["--source", "x.csv"],
        "few_shot": ["--source", "x.csv", "--output_dir", "out"],
    }[name]
    assert module.main(argv) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in err
    assert "Traceback" not in err
    assert "--debug shows the trace" in err


TALKER = """
from hftransfer.cli.recipe_process import run_recipe, start_recipe
from hftransfer.reporting.console import print_lines
def job(argv):
    for step in range(10000):
        print_lines(f"step {step}")
start_recipe(lambda argv: run_recipe(job, argv), "finetune")
"""


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", TALKER], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read().decode() == ""
    assert process.wait() in (0, 141)


@pytest.mark.slow
def test_a_reader_of_the_recipe_that_goes_away_is_no_error(tmp_path, model_folder):
    source = recipe.write_domain(tmp_path, "news", 0, {"train": 12})
    words = recipe.words(source=source, model=model_folder, output_dir="run", objectives=None)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(recipe.RECIPE), *words, "--dry_run"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read().decode() == ""
    assert process.wait() in (0, 141)


def test_a_run_of_several_says_itself_how_it_goes_on(capsys):
    """What a part of it advises is not the whole's: of two advices the inner one counts, unless another takes over."""
    outer, inner = "The same call goes on from there.", "resume_from_checkpoint='run/checkpoint-6' goes on with it."

    def job(argv):
        takes_over = argv == ["whole"]
        with stage("adapting", if_stopped=outer, takes_over=takes_over), stage("training, step 7", if_stopped=inner):
            raise KeyboardInterrupt

    for argv, advice in ((["whole"], outer), ([], inner)):
        assert run_recipe(job, argv) == 130
        assert capsys.readouterr().err == f"\nhftransfer: stopped while training, step 7. {advice}\n"


def test_a_disk_that_is_full_elsewhere_is_said_with_what_is_saved(capsys):
    """Whatever was being written: a save of the trainer's own has its own words."""
    hint = "The last checkpoint is run/checkpoint-6; resume_from_checkpoint='run/checkpoint-6' goes on with it."

    def job(argv):
        with stage("checking the settings", if_stopped=hint), stage("training, step 7"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.json")

    assert run_recipe(job, []) == 1
    err = capsys.readouterr().err
    assert err.startswith("\nhftransfer: while training, step 7: OSError: [Errno 28] No space left on device")
    assert "The disk is full: " in err
    assert "are free. Make room, or choose an output_dir on another disk. The last checkpoint is" in err
    assert err.endswith(f"{hint} --debug shows the trace.\n")
    assert err.count("\n") == 2
