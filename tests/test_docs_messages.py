"""Messages in the documentation are those that one gets, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import bad_models
import bad_tables
import families
import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BertModel

from hftransfer import AdaptationConfig, AdaptationTrainer, reveal_labels
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.cli.recipe_process import run_recipe
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.label_space_resolution import resolve_label_space
from hftransfer.models.pretrained import load_model
from hftransfer.objectives.specification import parse_objectives
from hftransfer.stages import stage
from hftransfer.trainers.progress_line import Pace, describe
from hftransfer.trainers.saving.folder_lock import FolderInUse, hold
from hftransfer.trainers.saving.output_folder import check_output_dir

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


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
