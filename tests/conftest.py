"""Shared fixtures. Nothing in the tests talks to the network; models are tiny and made in memory."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import datasets
import pytest
import tiny
import torch

torch.set_num_threads(1)
datasets.disable_progress_bars()


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage():
    """accelerate collects garbage after each run; going through all imported modules takes most of a tiny run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A checkpoint on disk, as `from_pretrained` wants it: a tiny BERT with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tiny.bert().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)
