"""The documentation is held to the code: examples run, defaults, options and messages are those of the code."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from pathlib import Path

import bad_models
import bad_tables
import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from hftransfer import AdaptationConfig, AdaptationTrainer, Objective, reveal_labels
from hftransfer.adaptation.candidate_list import KEYS, candidate_list, read_candidates
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.help import finetune_options
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.cli.recipe_process import run_recipe
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.label_space_resolution import resolve_label_space
from hftransfer.models.pretrained import load_model
from hftransfer.objectives.base import Range
from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.specification import parse_objectives
from hftransfer.reporting.adaptation_facts import VERDICTS
from hftransfer.stages import stage
from hftransfer.trainers.progress_line import Pace, describe
from hftransfer.trainers.saving.folder_lock import FolderInUse, hold
from hftransfer.trainers.saving.output_folder import check_output_dir

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


# ---- messages


def train_on(train, target=None, evaluation=None, model=None, **settings):
    """Builds a trainer that is expected to refuse."""
    settings = {"objectives": {"mmd": 0.1}, **settings}
    args = AdaptationConfig(output_dir="never-written", use_cpu=True, report_to=[], **settings)
    target = tiny.domain(seed=1, labelled=False) if target is None else target
    return AdaptationTrainer(model or tiny.bert(), args, train, target, evaluation, tiny.tokenizer())


def table(**columns) -> Dataset:
    return Dataset.from_dict(columns)


def tag(words, labels):
    return train_on(table(tokens=words, label=labels), table(tokens=[["w1"]]), model=tiny.bert(("down", "up"), True))


def differing():
    resolve_label_space(
        {"source": tiny.domain(), "source 'press'": tiny.domain(labels=("falls", "up", "flat"))}, "label"
    )


def strange_file(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    load_domain("notes.txt", "source")


def table_file(folder, name, content, encoding="utf-8"):
    (folder / name).write_text(content, encoding=encoding)
    load_domain(name, "source")


BOTH = {"source": tiny.domain(), "target": tiny.domain(seed=3)}
PAIR = {"model": tiny.bert(("down", "up"))}
MADE = {
    "data.md": [
        lambda _: train_on(tiny.domain().rename_column("text", "texts")),
        lambda _: train_on(tiny.domain(labelled=False)),
        lambda _: train_on(table(text=["w1", None], label=["up", "down"]), **PAIR),
        lambda _: train_on(table(text=["w1", " "], label=["up", "down"]), **PAIR),
        lambda _: train_on(tiny.domain(), tiny.domain().select([])),
        lambda _: train_on(BOTH["source"], BOTH["source"]),
        lambda _: train_on(table(text=["w1", "w2"], label=[["up"], ["down", "up"]]), objectives={"cdan": 0.1}, **PAIR),
        lambda _: tag([["w1", "w2"], ["w3", "w4"]], [["up", "down"], ["up"]]),
        lambda _: tag(["w1 w2"], [["up", "down"]]),
        lambda _: train_on(table(text=["w1", "w2"], label=[0.5, float("nan")]), model=tiny.bert(("score",))),
        lambda _: train_on(tiny.domain(), task="sequence-clasification"),
        lambda _: train_on(table(text=["w1"] * 3, label=["up,new", "up", "new"])),
        lambda _: differing(),
        lambda _: train_on(tiny.domain(), evaluation={"target": tiny.domain(labels=("falls", "up", "flat"))}),
        lambda _: train_on(table(text=["w1", "w2"], label=["up", None]), **PAIR),
        lambda _: train_on(table(text=["w1", "w2"], label=[0, -1])),
        lambda _: train_on(table(text=["w1", "w2"], label=["1.5", "2,5"])),
        lambda _: train_on(table(text=["w1"] * 30, label=list(range(30))), model="x/y"),
        lambda _: resolve_label_space({"source": table(text=["w1", "w2"], label=["up", "up"])}, "label"),
        lambda _: reveal_labels(tiny.domain(), per_class=100),
        lambda _: reveal_labels(tiny.domain()),
        lambda _: train_on(table(text=["w1"], label=["up"]).to_iterable_dataset(), model="x/y", max_steps=3),
        lambda _: load_domain("nofile.csv", "source"),
        strange_file,
        lambda folder: table_file(folder, "news.csv", "text,label\nso, it went up,up\n"),
        lambda folder: table_file(folder, "news.csv", "text,label\nup,up\nthe café fell,down\n", "latin-1"),
        lambda folder: table_file(folder, "news.jsonl", bad_tables.labelled(*["up"] * 7, {"name": "up"})),
    ],
    "metrics.md": [
        lambda _: train_on(tiny.domain(), evaluation=BOTH, metric_for_best_model="eval_target_accuracy"),
        lambda _: train_on(tiny.domain(), evaluation=BOTH, metric_for_best_model="loss"),
    ],
    "policies.md": [
        lambda _: train_on(tiny.domain(), trainable="last_3"),
        lambda _: train_on(tiny.domain(), freeze="block:enc.layer.1"),
        lambda _: train_on(tiny.domain(), trainable="head", freeze="block:classifier"),
        lambda _: train_on(tiny.domain(), model=families.build("albert"), unfreeze={"by": "epoch"}),
    ],
    "python.md": [
        lambda _: train_on(tiny.domain(), target_ratio=float("inf")),
        lambda _: train_on(tiny.domain(), train_sampling_strategy="sequential"),
        lambda _: train_on(tiny.domain(), model=BertModel(tiny.bert().config)),
        lambda folder: without_the_discriminator(folder),  # defined below
        lambda _: at_another_rank(),
    ],
    "objectives/index.md": [
        lambda _: parse_objectives({"mmd": {"kernel": 3}}),
    ],
}


def without_the_discriminator(folder):
    model = tiny.bert()
    optimizers = (torch.optim.AdamW(model.parameters()), None)
    runs.trainer(folder / "run", model, objectives={"dann": 0.1}, optimizers=optimizers)


def at_another_rank():
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    runs.trainer("runs/mine", peft_config=LoraConfig(r=8), **settings).train()
    Path("runs/mine/checkpoint-1").rename("runs/mine/checkpoint-500")
    runs.trainer("runs/mine", peft_config=LoraConfig(r=16), **settings).train(resume_from_checkpoint=True)


def look_at(values, target=None, model=None, **settings):
    """Builds a trainer on images, a list of them or a dataset, that is expected to refuse."""
    data = table(image=values, label=["up", "down", "flat"]) if isinstance(values, list) else values
    target = pictures.pictures(labelled=False) if target is None else target
    args = runs.config("never-written", **settings)
    return AdaptationTrainer(model or pictures.resnet(), args, data, target, processing_class=pictures.processor())


def deeper(folder):
    """A checkpoint of two layers under a config of six."""
    bad_models.good(folder / "runs/mine")
    bad_models.config(num_hidden_layers=6)(folder / "runs/mine")
    load_model("runs/mine", "sequence-classification", tiny.LABELS)


MADE["models.md"] = [deeper]
MADE["images.md"] = [
    lambda _: look_at(["https://example.org/cat.png"] * 3),
    lambda _: look_at(["cat.png"] * 3),
    lambda _: look_at([{"bytes": b"no", "path": None}] * 3),
    lambda _: look_at([[[300]]] * 3),
    lambda _: look_at([7] * 3),
    lambda _: look_at(pictures.pictures().rename_column("image", "img")),
    lambda _: look_at(pictures.pictures(), tiny.domain(labelled=False)),
    lambda _: look_at(pictures.pictures(), max_length=64),
    lambda _: look_at(pictures.pictures(), model=pictures.resnet(num_channels=1)),
]
MADE["instance_weights.md"] = [
    lambda _: train_on(tiny.domain(3).add_column("weight", [1.0, -2.0, 1.0])),
    lambda _: train_on(tiny.domain(3).add_column("weight", [0.0] * 3)),
    lambda _: train_on(*(tiny.domain(3, seed).add_column("weight", [1.0] * 3) for seed in (0, 1))),
]
CASES = [(page, i) for page, makers in MADE.items() for i in range(len(makers))]


@pytest.mark.parametrize(("page", "i"), CASES)
def test_a_message_in_the_documentation_is_the_one_you_get(page, i, tmp_path, monkeypatch):
    """The i-th message of a page, word for word."""
    monkeypatch.chdir(tmp_path)
    printed = blocks(DOCS / page, "text")
    assert len(printed) == len(MADE[page]), "each message of the page needs a case here, in order"
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        MADE[page][i](tmp_path)
    assert str(caught.value) == printed[i].strip()


def test_the_messages_of_the_recipe_page(tmp_path, monkeypatch, capsys):
    """A typo in a file and on the command line, GPUs without a launcher, a folder that holds a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("sourcee: news.csv")
    (tmp_path / "runs/mine/checkpoint-9").mkdir(parents=True)
    page = [block.strip() for block in blocks(DOCS / "recipe.md", "text")]
    _plan, file, word, parallel, lines, broken, stopped, taken, in_use = page
    for argv, message in ((["--config", "mine.yaml"], file), (["--targett", "medical.csv"], word)):
        with pytest.raises(SystemExit):
            RecipeParser([FinetuneArguments, AdaptationConfig]).parse_args_and_config(argv)
        assert message in capsys.readouterr().err
    monkeypatch.setattr(AdaptationConfig, "n_gpu", 2)
    with pytest.raises(ValueError, match="no launcher") as refused:
        train_on(tiny.domain())
    assert str(refused.value) == parallel
    with pytest.raises(FileExistsError) as refused:
        check_output_dir("runs/mine", overwrite=False)
    assert str(refused.value) == taken
    lock = tmp_path / "runs/mine/_writing/run.json"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"host": "node7", "pid": 4242, "started": "2026-01-05 10:12:33+01:00"}))
    with pytest.raises(FolderInUse) as refused:
        hold("runs/mine")
    assert str(refused.value) == in_use
    pace = Pace(at=0.0)
    pace.step(40, at=40 / 1.9)
    log = {"loss": 0.91, "task_loss": 0.9, "mmd_loss": 0.02, "learning_rate": 5e-5}
    evaluation = {"eval_target_oracle_accuracy": 0.612, "eval_target_entropy": 0.801}
    assert lines == f"{pace.describe(40, 274)}: {describe(log)}\nstep 40: {describe(evaluation)}"
    for line, error, doing in (
        (broken, torch.OutOfMemoryError("CUDA out of memory."), "evaluating"),
        (stopped, KeyboardInterrupt(), "training, step 412"),
    ):

        def job(argv, error=error, doing=doing):
            with stage(doing, if_stopped=stopped.partition(". ")[2]):
                raise error

        run_recipe(job, [])
        assert capsys.readouterr().err.strip() == line


def test_resuming_from_the_last_checkpoint_can_be_said_in_words():
    """`--resume_from_checkpoint true` is the last checkpoint, not a folder called true."""
    for word, meant in (("true", True), ("True", True), ("false", False), ("runs/checkpoint-5", "runs/checkpoint-5")):
        _, config = RecipeParser([FinetuneArguments, AdaptationConfig]).parse_args_and_config(
            ["--resume_from_checkpoint", word, "--use_cpu"]
        )
        assert config.resume_from_checkpoint == meant
