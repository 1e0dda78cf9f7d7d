"""Shared fixtures. Nothing in the tests talks to the network; models are tiny and made in memory."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import elsewhere
import pytest

HERE = Path(__file__).parent
collect_ignore = ["benchmarks"]  # scripts; one is called test_time.py
FINGERPRINTS: list = []  # functions of `datasets` that tests do without


def set_up() -> None:
    """What every process of tests does first."""
    import accelerate.utils.memory
    import datasets
    import torch

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    FINGERPRINTS[:] = fingerprint_by(random_fingerprint, random_fingerprint)
    accelerate.utils.memory.gc = SimpleNamespace(
        collect=lambda: 0
    )  # after each run: most of a tiny one; Python's stays
    os.fsync = lambda file: (
        None
    )  # a kill loses nothing that was written; trainers/test_flushing.py looks for the calls


def fingerprint_by(update, generate) -> tuple:
    """How data sets are called, from now on; how they were called until now."""
    import datasets

    before = datasets.fingerprint.update_fingerprint, datasets.fingerprint.generate_fingerprint
    for module in (datasets.fingerprint, datasets.arrow_dataset):
        module.update_fingerprint, module.generate_fingerprint = update, generate
    return before


def random_fingerprint(*_) -> str:
    """Pickling a transform, for a name under which it may be found on disk, takes most of encoding a tiny data set."""
    import datasets

    return datasets.fingerprint.generate_random_fingerprint()


def pytest_sessionstart(session):
    """The process that only hands out tests to others needs nothing of this, and they wait for it."""
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        set_up()


LONGEST = (  # files by how long they take, of those that take ten seconds and more
    "distributed/test_resume.py",
    "objectives/test_adaptation.py",
    "distributed/test_objectives.py",
    "cli/test_signals.py",
    "cli/test_finetune.py",
    "cli/test_error_messages.py",
    "cli/test_two_processes.py",
    "adaptation/test_adaptation_runs.py",
    "distributed/test_policies_on_two.py",
    "test_hub.py",
    "test_hub_failures.py",
    "test_hub_recipes.py",
    "test_distribution.py",
    "cli/test_adapt.py",
    "test_docstrings.py",
    "cli/test_benchmark.py",
    "distributed/test_accumulation.py",
    "distributed/test_checkpoints.py",
    "trainers/test_training.py",
    "trainers/test_anchoring.py",
    "trainers/test_resuming.py",
)


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker is left alone with one when the others have ended."""
    order = {HERE / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture
def content_fingerprints():
    """Data sets are called after what they hold and went through, as outside the tests."""
    fingerprint_by(*FINGERPRINTS)
    yield
    fingerprint_by(random_fingerprint, random_fingerprint)


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage():
    """No collection need go through all imported modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A checkpoint on disk, as `from_pretrained` wants it: a tiny BERT with a tokenizer."""
    import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tiny.bert().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def shift_model(tmp_path_factory):
    """A folder with the model that `adapt` starts from in the tests, trained on tiny_shift's task."""
    import tiny_shift

    return tiny_shift.save_model(tmp_path_factory.mktemp("shift"))


@pytest.fixture(scope="session")
def source_free_model(tmp_path_factory):
    """A folder with the model that source-free adaptation starts from, with its numbers of the source."""
    import source_free_world

    return source_free_world.save_source_model(tmp_path_factory.mktemp("source_free"))


@pytest.fixture(scope="session")
def run_elsewhere():
    """A function from a script and its arguments to what it prints where hftransfer has never been heard of."""
    with elsewhere.started() as run:
        yield run
