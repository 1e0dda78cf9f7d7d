"""Going on from a checkpoint: which one is meant, and that it was made by the same run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import runs
import tiny
import torch
from peft import IA3Config, LoraConfig

from hftransfer import AdaptationConfig
from hftransfer.trainers.saving.checkpoint_files import FILES
from hftransfer.trainers.saving.resume_setting import read_resume
from hftransfer.trainers.saving.run_settings import SETTINGS_FILE

STEPS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}


class PathLike(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run with checkpoints at 2 and 4."""
    folder = tmp_path_factory.mktemp("done") / "run"
    run(folder).train()
    return folder


def written(folder):
    return list(folder.iterdir()) if folder.exists() else []


def run(folder, **settings):
    return runs.trainer(folder, **{"objectives": {"dann": 0.1}, **STEPS, **settings})


@pytest.mark.parametrize("make", [str, Path, PathLike, lambda path: f"{path}/"])
@pytest.mark.parametrize("step", [2, 4])
def test_any_path_is_that_checkpoint(done, tmp_path, make, step):
    """Given to `train` or in the config."""
    for in_config in (False, True):
        where = make(str(done / f"checkpoint-{step}"))
        settings = {"max_steps": step + 1, "resume_from_checkpoint": where if in_config else None}
        again = run(tmp_path / str(in_config), **settings)
        again.train() if in_config else again.train(resume_from_checkpoint=where)
        assert again.state.global_step == step + 1
        assert len(runs.logged(again, "loss")) == step + 1
        assert [entry["step"] for entry in again.state.log_history if "loss" in entry][step] == step + 1


@pytest.mark.parametrize("last", [True, "true", "True"])
def test_true_is_the_last(done, tmp_path, last):
    go = run(tmp_path, max_steps=2)
    go.train()
    again = run(tmp_path, max_steps=3)
    began = []
    again._load_from_checkpoint = began.append
    again.train(resume_from_checkpoint=last)
    assert began == [str(tmp_path / "checkpoint-2")]


def test_false_starts_anew_whatever_the_config_says(done, tmp_path):
    again = run(tmp_path, max_steps=1, resume_from_checkpoint=str(done / "checkpoint-4"))
    again.train(resume_from_checkpoint=False)
    assert again.state.global_step == 1


@pytest.mark.parametrize("value", [1, 0, 2.0, b"checkpoint-2", ["checkpoint-2"], {}, object()])
def test_what_is_no_path_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match=r"resume_from_checkpoint=.* is of type .*True for the last one"):
        run(tmp_path).train(resume_from_checkpoint=value)
    with pytest.raises(TypeError, match=r"resume_from_checkpoint=.* is of type"):
        AdaptationConfig(output_dir=str(tmp_path), use_cpu=True, resume_from_checkpoint=value)


def test_words(tmp_path):
    assert [read_resume(word) for word in (None, False, "false", " True ")] == [False, False, False, True]
    assert read_resume("~/run/checkpoint-3") == str(Path.home() / "run/checkpoint-3")
    with pytest.raises(ValueError, match="is an empty string"):
        read_resume("")


def test_a_folder_that_is_no_checkpoint_is_named(done, tmp_path):
    """A run's folder, a model, a checkpoint that is gone and a file; nothing is written."""
    run(tmp_path / "model").save_model()
    (tmp_path / "file").touch()
    cases = {
        done: "is the folder of a run, not a checkpoint; it holds checkpoint-2, checkpoint-4. Name one of them",
        done / "checkpoint-3": f"checkpoint-3 does not exist. {done} holds checkpoint-2, checkpoint-4.",
        tmp_path / "model": "it has no trainer_state.json. A model that was saved",
        tmp_path / "gone": "does not exist. Start without resume_from_checkpoint",
        tmp_path / "file": "is a file, not the folder of a checkpoint",
    }
    for where, words in cases.items():
        with pytest.raises(FileNotFoundError) as found:
            run(tmp_path / "new").train(resume_from_checkpoint=where)
        assert str(where) in str(found.value)
        assert words in str(found.value)
    assert written(tmp_path / "new") == []


OTHERS = {
    "trainable": ({"trainable": "head"}, "another choice of what trains: there 'all: ", "here 'head: "),
    "objectives": ({"objectives": {"mmd": 0.1}}, "other objectives: dann is dann there and none here", "mmd is none"),
    "an objective's settings": (
        {"objectives": {"dann": {"hidden": 7}}}, "objectives: dann.hidden is none there and 7 here", "Resume with",
    ),
    "an objective's place": (
        {"objectives": {"dann": {"features": "hidden:0"}}}, "dann.features is head there and hidden:0 here", "Resume",
    ),
    "size": (
        {"model": tiny.bert(hidden_size=16)}, "another model: hidden_size is 32 there and 16 here", "start without",
    ),
    "depth": ({"model": tiny.bert(num_hidden_layers=1)}, "num_hidden_layers is 2 there and 1 here", "Resume with"),
    "labels": (
        {"model": tiny.bert(("a", "b")), "train_dataset": tiny.domain(labels=("a", "b"))},
        'other labels: ["down", "up", "flat"] there, ["a", "b"] here', "Resume with",
    ),
    "sources": (
        {"train_dataset": {"books": tiny.domain(), "dvd": tiny.domain(seed=5)}},
        'other sources: ["source"] there, ["books", "dvd"] here', "Resume with",
    ),
    "an adapter": ({"peft_config": LoraConfig(r=2)}, "another adapter: none there, LORA here", "Resume with"),
    "an optimizer": ({"optim": "sgd"}, f"optim is {AdaptationConfig.optim} there and sgd here", "Resume with"),
    "rates": ({"layer_decay": 0.9}, "other rates: layer_decay is 1.0 there and 0.9 here", "Resume with"),
    "unfreezing": (
        {"unfreeze": {"by": "step", "every": 1}}, "another schedule of what trains: unfreeze is none there", "step",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "words", "more"), OTHERS.values(), ids=OTHERS.keys())
def test_another_run_is_named_before_anything_is_loaded(done, tmp_path, settings, words, more):
    again = run(tmp_path / "new", **settings)
    before = runs.copied(again.model)
    with pytest.raises(ValueError, match="was made with") as found:
        again.train(resume_from_checkpoint=done / "checkpoint-2")
    assert str(done / "checkpoint-2") in str(found.value)
    assert words in str(found.value)
    assert more in str(found.value)
    assert runs.moved(again.model, before) == set()
    assert written(tmp_path / "new") == []


ADAPTERS = {
    "rank": ({"peft_config": LoraConfig(r=4)}, "another adapter: default.r is 2 there and 4 here"),
    "scale": ({"peft_config": LoraConfig(r=2, lora_alpha=32)}, "default.lora_alpha is 8 there and 32 here"),
    "targets": ({"peft_config": LoraConfig(r=2, target_modules=["query"])}, "default.target_modules is ["),
    "method": ({"peft_config": IA3Config()}, "default.peft_type is LORA there and IA3 here"),
    "none": ({}, "another adapter: LORA there, none here"),
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted") / "run"
    run(folder, peft_config=LoraConfig(r=2), max_steps=2).train()
    return folder / "checkpoint-2"


@pytest.mark.parametrize(("settings", "words"), ADAPTERS.values(), ids=ADAPTERS.keys())
def test_another_adapter_is_named(adapted, tmp_path, settings, words):
    with pytest.raises(ValueError, match="was made with") as found:
        run(tmp_path / "new", **settings).train(resume_from_checkpoint=adapted)
    assert words in str(found.value)
    assert written(tmp_path / "new") == []


def test_what_may_change_may(adapted, tmp_path):
    """Weights of objectives, the base rate, dropout, and another way to say the same of what trains."""
    settings = {
        "peft_config": LoraConfig(r=2, lora_dropout=0.2),
        "objectives": {"dann": 0.05},
        "learning_rate": 1e-3,
        "max_steps": 3,
    }
    again = run(tmp_path / "new", **settings)
    again.train(resume_from_checkpoint=adapted)
    assert again.state.global_step == 3


def test_a_policy_counts_by_what_it_moves(tmp_path):
    run(tmp_path / "a", trainable=["head", "block:1"], max_steps=2).train()
    again = run(tmp_path / "b", trainable=["block:encoder.layer.1", "head"], max_steps=3)
    again.train(resume_from_checkpoint=tmp_path / "a/checkpoint-2")
    assert again.state.global_step == 3


def test_a_passed_optimizer_is_part_of_it(tmp_path):
    def again(folder, cls, steps):
        model = tiny.bert()
        made = run(
            folder, model=model, objectives={"mmd": 0.1}, max_steps=steps, optimizers=(cls(model.parameters()), None)
        )
        return made

    again(tmp_path / "a", torch.optim.AdamW, 2).train()
    with pytest.raises(ValueError, match="another optimizer or other rates: optim is AdamW there and SGD here"):
        again(tmp_path / "b", torch.optim.SGD, 3).train(resume_from_checkpoint=tmp_path / "a/checkpoint-2")
    again(tmp_path / "b", torch.optim.AdamW, 3).train(resume_from_checkpoint=tmp_path / "a/checkpoint-2")


def test_a_checkpoint_that_does_not_describe_its_run_is_named_by_its_shapes(done, tmp_path):
    """One of an older version, which had no list of its files either."""
    old = tmp_path / "checkpoint-2"
    shutil.copytree(done / "checkpoint-2", old)
    described = json.loads((old / SETTINGS_FILE).read_text())
    assert described["labels"] == list(tiny.LABELS)
    for name in (SETTINGS_FILE, FILES):
        (old / name).unlink()
    with pytest.raises(ValueError, match="does not fit this run's model, adapter or objectives: .*size mismatch"):
        run(tmp_path / "new", model=tiny.bert(hidden_size=16)).train(resume_from_checkpoint=old)
