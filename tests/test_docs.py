"""The documentation is held to the code: examples run, defaults and options are those of the code."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import runs
import tiny
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hftransfer import Objective
from hftransfer.adaptation.candidate_list import KEYS, candidate_list, read_candidates
from hftransfer.cli.help import finetune_options
from hftransfer.objectives.base import Range
from hftransfer.objectives.registry import REGISTRY
from hftransfer.reporting.adaptation_facts import VERDICTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {"cdan_e": "cdan"}  # objectives that share a page
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def rows(text: str) -> list[list[str]]:
    """Cells of all Markdown tables, without the rules below their heads."""
    lines = [line.strip() for line in text.splitlines() if line.lstrip().startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


# ---- generated pages


def test_stars_of_a_help_text_are_no_emphasis(monkeypatch):
    """Those outside code, where Markdown would take what stands between two of them for emphasis."""
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    from public_names import settings_page

    (trainable,) = re.findall(r"^`trainable`.*\n: (.*)", settings_page(), re.M)
    assert r"pattern:\*.attention.\*" in trainable
    from docstrings import escape_stars

    assert escape_stars("`x*y*` and *z") == r"`x*y*` and \*z"


# ---- examples


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, model_folder):
    """Twelve lines as printed, but for a tiny model and two steps; what they save loads without hftransfer."""
    example = next(b for b in blocks(ROOT / "README.md", "python") if "AdaptationTrainer(" in b)
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    short = 'objectives="mmd", max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True'
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(example.replace(MODEL, model_folder).replace('objectives="mmd"', short), scope)

    assert scope["trainer"].state.global_step == 2
    assert {"eval_source_accuracy", "eval_target_oracle_accuracy"} <= set(scope["trainer"].evaluate())
    saved = tmp_path / "news-to-medical"
    assert AutoModelForSequenceClassification.from_pretrained(saved).config.num_labels == 3
    assert AutoTokenizer.from_pretrained(saved).vocab_size > 0


@pytest.mark.parametrize("page", [DOCS / "python.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_the_objective_of_ones_own_runs(tmp_path, monkeypatch, page):
    """The class as the page writes it, registered under the page's name, trains a step."""
    source = next(b for b in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if "class MeanGap" in b)
    monkeypatch.setitem(REGISTRY, "mean_gap", None)  # taken out again afterwards
    del REGISTRY["mean_gap"]
    scope = {"torch": torch, "Objective": Objective, "Range": Range, "__name__": "mine"}
    exec(textwrap.dedent(source), scope)
    REGISTRY["mean_gap"] = scope["MeanGap"]
    x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0]])
    assert scope["MeanGap"]()(x, y).item() == 8.0

    run = runs.trainer(tmp_path, objectives={"mean_gap": 1.0}, max_steps=1)
    run.train()
    assert len(runs.logged(run, "mean_gap_loss")) == 1


# ---- objectives


@pytest.mark.parametrize("name", REGISTRY)
def test_every_objective_has_a_page_a_row_and_a_place_in_the_site(name):
    page = PAGES.get(name, name)
    index = (DOCS / "objectives/index.md").read_text()
    assert f"[`{name}`]({page}.md)" in index
    families = [DOCS / "anchoring.md", *(DOCS / "families").glob("*.md")]
    menus = "\n".join(menu for family in families for menu in blocks(family, "{toctree}"))
    assert [Path(entry).name for entry in menus.split()].count(page) == 1
    text = (DOCS / f"objectives/{page}.md").read_text()
    parts = ("Formula", "Needs", "When it helps", "When it hurts", "Defaults", "Cost", "Peer settings", "Paper")
    assert re.findall(r"^## (.*)$", text, re.M) == list(parts)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in PAGES])
def test_the_defaults_of_a_page_are_those_of_the_code(name):
    cls = REGISTRY[name]
    expected = {key: p.default for key, p in cls.settings().items()}
    expected |= {"weight": cls.default_weight, "schedule": cls.default_schedule}
    table = (DOCS / f"objectives/{name}.md").read_text().split("## Defaults")[1].split("\n## ")[0]
    printed = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows(table) if row[0] != "setting"}
    assert printed == expected


@pytest.mark.parametrize("name", REGISTRY)
def test_a_page_says_what_the_weight_is(name):
    cls = REGISTRY[name]
    table = (DOCS / f"objectives/{PAGES.get(name, name)}.md").read_text().split("## Defaults")[1].split("\n## ")[0]
    (meaning,) = (row[2] for row in rows(table) if row[0] == "`weight`")
    assert ("throughout" if cls.default_schedule == "constant" else "at the schedule's end") in meaning
    assert ("fully" in meaning) == ("strength" in cls.needs())


# ---- adapt


def test_the_page_of_adapt_has_every_key_verdict_and_cost():
    """Keys of a list of candidates, and what each effort costs, are those of the code."""
    text = (DOCS / "adapt.md").read_text()
    table_rows = {row[0].strip("`"): row for row in rows(text)}
    assert [key for key in table_rows if key in KEYS] == list(KEYS)
    assert set(VERDICTS) <= set(table_rows)
    for effort in ("quick", "standard", "thorough"):
        (row,) = (row for name, row in table_rows.items() if name.startswith(effort))
        costs = [sum(recipe.cost for recipe in candidate_list(effort, kind)) for kind in ("text", "image")]
        assert {f"{cost:g}" for cost in costs} == {row[2]}, effort


def test_the_list_of_candidates_on_the_page_is_one():
    (text,) = blocks(DOCS / "adapt.md", "yaml")
    assert [recipe.name for recipe in read_candidates(yaml.safe_load(text))][:2] == ["source-only", "source-only-2"]


# ---- features


@pytest.mark.parametrize("page", ["feature_space.md", "instance_weights.md"])
def test_the_examples_on_features_run(page, tmp_path, monkeypatch, model_folder):
    """In order, in one scope, on small domains that overlap; a trainer is made and trained for a step."""
    draw = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    names = ("source_features", "target_features", "target_test_features", "few_features")
    scope: dict = {name: draw.normal(size=(24, 3)) + 0.3 * i for i, name in enumerate(names)}
    scope |= {"labels": np.arange(24) % 2, "few_labels": np.arange(24) % 2}
    scope |= {"news": tiny.domain(), "medical": tiny.domain(seed=1, labelled=False)}
    short = 'objectives="mmd", max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True'
    for code in blocks(DOCS / page, "python"):
        exec(code.replace(MODEL, model_folder).replace('objectives="mmd"', short), scope)
    if page == "feature_space.md":
        assert scope["predictions"].shape == scope["pipeline"].predict(scope["target_features"]).shape == (24,)
    else:
        scope["trainer"].train()
        assert scope["trainer"].prepared.weighs_rows
        assert scope["boosted"].predict(scope["few_features"]).shape == (24,)


def test_the_examples_on_texts_for_pretraining_run(tmp_path, monkeypatch, model_folder):
    """In order, in one scope, on small domains: rows are chosen, and a tokenizer and a model are saved."""
    monkeypatch.chdir(tmp_path)
    target = [*tiny.domain(seed=1)["text"], *["w1x w2y"] * 40]
    scope: dict = {"news": tiny.domain(60), "medical": Dataset.from_dict({"text": target})}
    for code in blocks(DOCS / "pretraining_data.md", "python"):
        exec(code.replace(MODEL, model_folder), scope)
    assert len(scope["texts"]) == 20
    assert set(scope["extension"].words) == {"w1x", "w2y"}
    assert AutoTokenizer.from_pretrained("medical-words").tokenize("w1x") == ["w1x"]


# ---- options


def test_the_recipe_page_lists_every_option_with_its_default():
    """All options but those of `TrainingArguments`, no other, each beside its default."""
    options = {o.name: o.default for o in finetune_options() if o.group != "Training"}
    section = (DOCS / "recipe.md").read_text().split("## Options")[1].split("\n## ")[0]
    printed: dict[str, str] = {}
    for row in rows(section):
        names = re.findall(r"`([a-z_]+)`", row[0])
        defaults = [d.strip("` ") for d in row[1].split(",")] if len(names) > 1 else [row[1].strip("`")]
        printed |= dict(zip(names, defaults, strict=True)) if names else {}
    printed = {name: {"–": "", "true": "True", "false": "False"}.get(value, value) for name, value in printed.items()}
    assert printed == options
