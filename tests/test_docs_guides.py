"""Guides: commands and examples run as they are printed, on tiny models and data of the same names."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pictures
import pytest
import tiny
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig

ROOT = Path(__file__).parents[1]
IRIS = ROOT / "docs/guides/iris.md"  # on arrays, without a trainer; it has a test of its own
GUIDES = sorted(set((ROOT / "docs/guides").glob("*.md")) - {IRIS})
LABELS = ("improvement", "worsening", "no change")
SHORT = "report_to=[], disable_tqdm=True, use_cpu=True"
TEXTS = {  # file -> rows of text with and without a label
    "news.csv": (36, 0),
    "medical.csv": (0, 36),
    "medical_some_labels.csv": (36, 18),
    "medical_labelled.csv": (30, 0),
    "old.csv": (36, 0),
    "new.csv": (36, 0),
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[list[str]]:
    """Recipe and options of each command; what a launcher takes is left out."""
    found = []
    for line in "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["accelerate", "launch"]:
            script = next(i for i, word in enumerate(words) if word.endswith(".py"))
            found.append([Path(words[script]).stem, *words[script + 1 :]])
        elif words[:1] == ["hftransfer"]:
            at = words.index("--accelerate_config") if "--accelerate_config" in words else len(words)
            found.append(words[1:at] + words[at + 2 :])
    return found


CASES = [(page, i) for page in GUIDES for i in range(len(commands(page)))]
EXAMPLES = [(page, i) for page in GUIDES for i in range(len(blocks(page, "python")))]


def name(case: object) -> str:
    return case.stem if isinstance(case, Path) else str(case)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder with everything that the guides name."""
    root = tmp_path_factory.mktemp("guides")
    for seed, (file, (labelled, unlabelled)) in enumerate(TEXTS.items()):
        texts = tiny.domain(rows=labelled + unlabelled, seed=seed)["text"]
        labels = [LABELS[i % 3] for i in range(labelled)] + [None] * unlabelled
        columns = {"text": texts} | ({"label": labels} if labelled else {})
        Dataset.from_dict(columns).to_csv(str(root / file), index=False)
    for i, folder in enumerate(
        ("sentence-transformers/all-MiniLM-L6-v2", "runs/teacher", "runs/start", "runs/trained", "runs/encoder")
    ):
        tiny.bert(LABELS, seed=i, num_hidden_layers=6).save_pretrained(root / folder)
        tiny.tokenizer().save_pretrained(root / folder)
    pictures.resnet().save_pretrained(root / "microsoft/resnet-18")
    pictures.processor().save_pretrained(root / "microsoft/resnet-18")
    draw = np.random.default_rng(0)
    for domain in ("shop", "phone"):
        for split in ("train", "validation", "test"):
            for kind in ("cat", "dog"):
                folder = root / "photos" / domain / split / kind
                folder.mkdir(parents=True)
                for i in range(18):
                    Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


def _linked_or_copied(source: str, target: str) -> None:
    """Pictures, of which there are hundreds, are only read."""
    (os.link if source.endswith(".png") else shutil.copy2)(source, target)


@pytest.fixture(autouse=True)
def folder(files, tmp_path, monkeypatch) -> Path:
    work = tmp_path / "work"
    shutil.copytree(files, work, copy_function=_linked_or_copied)
    (work / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(work)
    return work


def recipe(stem: str):
    spec = importlib.util.spec_from_file_location(f"recipe_{stem}", ROOT / "recipes" / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("page", "i"), CASES, ids=name)
def test_a_command_runs(page, i, folder):
    """`finetune` up to its plan, which reads the data and builds the model; `interpolate` to its end."""
    stem, *argv = commands(page)[i]
    if stem == "interpolate":
        shutil.move(folder / "runs/trained", folder / "runs/after")
        assert recipe(stem).main([*argv, "--use_cpu"]) == 0
        assert AutoConfig.from_pretrained("runs/between").num_labels == 3
    else:
        dry = [] if "--dry_run" in argv else ["--dry_run"]
        assert recipe(stem).main([*argv, *dry, "--use_cpu"]) == 0


@pytest.mark.parametrize(("page", "i"), EXAMPLES, ids=name)
def test_an_example_runs(page, i):
    """Two steps of it; what it saves is there."""
    code = blocks(page, "python")[i]
    short = f"max_steps=2, {SHORT}"
    code = re.sub(r"num_train_epochs=\d+|max_steps=\d+", short, code)
    if short not in code:
        code = re.sub(r'objectives="mmd"', f'objectives="mmd", {short}', code)
    assert short in code
    scope: dict = {}
    exec(code, scope)
    if "trainer" in scope:
        assert scope["trainer"].state.global_step == 2
        assert (Path(scope["trainer"].args.output_dir) / "model.safetensors").is_file()


def test_the_page_on_iris_runs_and_fits_no_test_row():
    """Two splits of ten. Wild test rows of a class that nothing predicts are only ever counted as errors."""
    scope: dict = {}
    exec("\n".join(blocks(IRIS, "python")).replace("range(10)", "range(2)"), scope)
    table, domains = scope["table"], scope["domains"]
    (expected,) = (section for section in IRIS.read_text().split("## ") if section.startswith("What to expect"))
    assert all(f"| {name} |" in expected for name in table)
    assert table["source alone"] < table["no parameters: mapped rows"]

    def with_wild_rows(seed):
        *fitted, test, test_labels = domains(seed)
        return (*fitted, np.concatenate([test, np.full((15, 4), 1e6)]), np.concatenate([test_labels, np.full(15, -1)]))

    scope["domains"] = with_wild_rows
    for name, accuracy in scope["scores"](0).items():
        assert accuracy * 60 == pytest.approx(scope["results"][0][name] * 45), name


def test_the_page_of_adapt_runs(folder):
    """Its commands up to the plan; its example to the end, with the shortest list of candidates."""
    page = ROOT / "docs/adapt.md"
    own = [words for words in commands(page) if "recipes/configs" not in " ".join(words)]
    assert [stem for stem, *_ in own] == ["adapt"]
    for stem, *argv in own:
        assert recipe(stem).main([*argv, "--dry_run", "--use_cpu"]) == 0
    scope: dict = {}
    (code,) = blocks(page, "python")
    exec(code.replace('"runs/mine")', '"runs/mine", effort="quick")'), scope)
    assert (Path("runs/mine") / "model.safetensors").is_file()
    assert scope["result"].verdict in ("corrected", "source-only")
