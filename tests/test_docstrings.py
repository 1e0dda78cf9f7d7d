"""Docstring examples run, each in a folder of its own, with tiny models in the places that examples name.

What an expression gives is compared where the docstring shows it. Examples may take as given: the public names,
`Dataset`, `Path`, `np`, `torch`, `model`, `batch`, `image_model` and `trainer`, the domains `news` and `medical`, and
the folders of `given_folders`.
"""

from __future__ import annotations

import contextlib
import copy
import doctest
import importlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

import hftransfer
from hftransfer.objectives.registry import REGISTRY

PACKAGE = Path(hftransfer.__file__).parent
MODULES = sorted(
    ".".join(["hftransfer", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
FOLDERS = r"runs/|all-MiniLM|\bbase\b"  # of `given_folders`, as examples name them


class Shown(doctest.OutputChecker):
    """Compares output that the docstring shows, and no other."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="session")
def given_folders(tmp_path_factory) -> Path:
    """Checkpoints under the names that examples use, and two adapters."""
    root = tmp_path_factory.mktemp("examples")
    for i, name in enumerate(("sentence-transformers/all-MiniLM-L6-v2", "runs/teacher", "runs/a", "runs/b")):
        tiny.bert(seed=i, num_hidden_layers=6).save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    pictures.vit().save_pretrained(root / "runs/image-encoder")
    pictures.processor().save_pretrained(root / "runs/image-encoder")
    lora = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    for name in ("medical", "law"):
        base = AutoModelForSequenceClassification.from_pretrained(root / "runs/teacher")
        base.config._name_or_path = base.name_or_path = "runs/teacher"  # as examples load it
        get_peft_model(base, lora).save_pretrained(root / "runs" / name)
    return root


def names(folder: Path, source: str) -> dict:
    """What an example may take as given, made when its source speaks of it."""
    made = {
        "Dataset": lambda: Dataset,
        "Path": lambda: Path,
        "np": lambda: np,
        "torch": lambda: torch,
        "model": lambda: tiny.bert(num_hidden_layers=6).eval(),
        "batch": lambda: dict(tiny.tokenizer()(["w1 w2", "w3"], padding=True, return_tensors="pt")),
        "image_model": pictures.resnet,
        "LoraConfig": lambda: LoraConfig,
        "trainer": lambda: runs.trainer(
            folder / "runs/trainer", eval_dataset={"source": tiny.domain(seed=2), "target": tiny.domain(seed=3)}
        ),
        "news": tiny.domain,
        "news_validation": lambda: tiny.domain(seed=2),
        "medical": lambda: tiny.domain(seed=1, labelled=False),
        "medical_validation": lambda: tiny.domain(seed=3),
        "base": lambda: AutoModelForSequenceClassification.from_pretrained("runs/teacher"),
        "score": lambda: lambda model: {"source_accuracy": 0.5},
    }
    public = {name: getattr(hftransfer, name) for name in hftransfer.__all__}
    return public | {name: make() for name, make in made.items() if re.search(rf"\b{name}\b", source)}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, given_folders, tmp_path, monkeypatch):
    """Each example in the module's own names, those of `names` besides."""
    folder = tmp_path / "work"
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]
    assert examples, f"{name} writes >>> outside docstrings that doctest finds"
    source = "\n".join(line.source for example in examples for line in example.examples)
    if re.search(FOLDERS, source):
        shutil.copytree(given_folders, folder)
    else:
        folder.mkdir()
    monkeypatch.chdir(folder)
    for variable, value in {"OMP_NUM_THREADS": "1", "DISABLE_TQDM": "1"}.items():
        monkeypatch.setenv(variable, value)
    kept = dict(REGISTRY)
    given = names(folder, source)
    runner = doctest.DocTestRunner(Shown(), verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = io.StringIO()
    try:
        for example in examples:
            unchanged = {name: copy.deepcopy(given[name]) for name in ("base",) if name in given}  # adapters change it
            example.globs = given | unchanged | example.globs
            with contextlib.redirect_stdout(io.StringIO()):
                runner.run(example, out=said.write)
    finally:
        REGISTRY.clear()
        REGISTRY.update(kept)
    assert not runner.failures, said.getvalue()


def test_every_public_name_has_an_example():
    """In its docstring, so that the reference has it; an exception needs none."""
    public = {name: getattr(hftransfer, name) for name in hftransfer.__all__}
    exceptions = {name for name, value in public.items() if isinstance(value, type) and issubclass(value, Exception)}
    without = [name for name, value in public.items() if ">>> " not in (value.__doc__ or "")]
    assert not set(without) - exceptions
