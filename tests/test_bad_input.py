"""Bad input: one clear message that names what is wrong and what to do, before anything is trained or written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import runs
import tiny
from bad_cases import DATA, IDS, MODELS, NAMES, NEWS, SELECTION, TEXTS, rows, tables, tokenizer_without_pad, trainer
from datasets import ClassLabel

from hftransfer import AdaptationConfig

CASES = DATA | MODELS | SELECTION


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_the_trainer_says_what_is_wrong(tmp_path, given, error, culprit, remedy):
    folder = tmp_path / "run"
    with pytest.raises(error) as found:
        trainer(folder, **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not folder.exists()


def test_every_table_says_culprit_and_remedy():
    """More than four hundred bad inputs in all, each in a table that a test file imports."""
    found = tables()
    entries = {id(entry): (table, name, entry) for table, part in found.items() for name, entry in part.items()}
    assert len(entries) >= 400
    for table, name, (given, *_, culprit, remedy) in entries.values():
        assert given is not None, (table, name)
        for words in (culprit, remedy):
            assert isinstance(words, str), (table, name)
            assert len(words.strip()) > 2, (table, name, words)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    for file in {table.split()[0] for table in found}:
        assert f"from {file.removesuffix('.py')} import" in tests or f"import {file.removesuffix('.py')}" in tests, (
            file
        )


def test_a_checkpoint_that_was_cut_off_is_named(tmp_path, model_folder):
    broken = tmp_path / "model"
    shutil.copytree(model_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(FileNotFoundError, match="the folder is not a whole checkpoint") as found:
        trainer(tmp_path / "run", model=str(broken))
    assert str(broken) in str(found.value)


@pytest.mark.parametrize(
    ("settings", "culprit", "remedy"),
    [
        ({"objectives": {"mdm": 1.0}}, "no objective 'mdm'", "Did you mean 'mmd'?"),
        ({"objectives": "dannn"}, "no objective 'dannn'", "Did you mean 'dann'?"),
        ({"objectives": {"mmd": -0.1}}, "weight of objective 'mmd'", "at least 0, not -0.1"),
        ({"objectives": {"mmd": float("nan")}}, "weight of objective 'mmd'", "at least 0, not nan"),
        ({"objectives": {"mmd": "strong"}}, "weight of objective 'mmd'", "a number of at least 0, not 'strong'"),
        ({"objectives": {"mmd": True}}, "weight of objective 'mmd'", "a number of at least 0, not True"),
        ({"objectives": {"mmd": {"wieght": 1}}}, "no setting 'wieght'", "Did you mean 'weight'?"),
        ({"objectives": {"mmd": {"schedule": "linaer"}}}, "schedule 'linaer'", "is not one of constant, linear"),
        ({"objectives": "{mmd: "}, "objectives is neither JSON nor YAML", "{mmd: "),
        ({"objectives": 3}, "objectives must map names to weights", '{"mmd": 0.1}'),
        ({"target_ratio": 0}, "target_ratio=0", "must be positive"),
        ({"epoch_by": "target"}, "epoch_by='target'", "'source' or 'longest'"),
        ({"batch_norm": "apart"}, "batch_norm='apart'", "'joint', 'separate', 'frozen' or 'stochastic'"),
        ({"reveal_target_labels": -1}, "reveal_target_labels=-1", "at least 0"),
        ({"max_length": 2}, "max_length=2", "at least 4"),
        ({"objective_lr_multiplier": 0}, "objective_lr_multiplier=0", "must be positive"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0", "at least 1"),
        ({"per_device_eval_batch_size": -1}, "per_device_eval_batch_size=-1", "at least 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0", "at least 1"),
        ({"bf16": True, "use_cpu": False}, "bf16=True", "Leave it off; use_cpu=True"),
        ({"bf16_full_eval": True, "use_cpu": False}, "bf16_full_eval=True", "Leave it off; use_cpu=True"),
        ({"bf16": True, "fp16": True}, "fp16 and bf16", "At most one"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch"}, "save and eval strategy", "to match"),
    ],
)
def test_the_config_says_what_is_wrong(tmp_path, monkeypatch, settings, culprit, remedy):
    monkeypatch.setattr("hftransfer.trainers.setup.precision_check.is_torch_bf16_gpu_available", lambda: False)
    with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is looked at below)
        runs.config(tmp_path / "run", **settings)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(TypeError, match="objectivs"):
        runs.config(tmp_path, objectivs={"mmd": 0.1})


def test_bf16_on_the_cpu_is_asked_for_by_name(tmp_path):
    assert runs.config(tmp_path, bf16=True, use_cpu=True).mixed_precision == "bf16"


def test_several_gpus_without_a_launcher_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(AdaptationConfig, "n_gpu", property(lambda self: 2))
    with pytest.raises(
        ValueError, match="2 GPUs are visible but no launcher.*`accelerate launch`.*CUDA_VISIBLE_DEVICES"
    ):
        trainer(tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- an output folder that holds something


@pytest.mark.parametrize("kind", ["a model", "a checkpoint", "an adapter"])
def test_another_run_is_never_overwritten(tmp_path, kind):
    name = {
        "a model": "config.json",
        "a checkpoint": "checkpoint-3/model.safetensors",
        "an adapter": "adapter_config.json",
    }
    other = tmp_path / name[kind]
    other.parent.mkdir(exist_ok=True)
    other.write_text("somebody's")
    with pytest.raises(FileExistsError, match="already holds a run") as found:
        trainer(tmp_path).train()
    for word in (str(tmp_path), "Choose another output_dir", "overwrite_output_dir=True"):
        assert word in str(found.value)
    assert ("resume_from_checkpoint" in str(found.value)) == (kind == "a checkpoint")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [other]
    assert other.read_text() == "somebody's"


def test_what_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    trainer(tmp_path).train()
    trainer(tmp_path, config={"overwrite_output_dir": True}).train()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("resume", [True, "checkpoint-7"])
def test_there_must_be_something_to_resume_from(tmp_path, resume):
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from.*Start without resume_from_checkpoint"):
        trainer(tmp_path / "run").train(resume_from_checkpoint=resume)


# ---- what looks bad and works


@pytest.mark.parametrize(("source", "target"), [(3, 3000), (3000, 3), (12, 1), (2, 1)])
def test_sizes_may_differ_by_a_thousand(tmp_path, source, target):
    run = trainer(tmp_path, train_dataset=tiny.domain(source), target_dataset=tiny.domain(target, seed=1))
    run.train()
    assert run.state.global_step == 2
    assert all(0 <= value < 10 for value in runs.logged(run, "task_loss"))


def test_names_in_another_order_are_the_same_names(tmp_path):
    swapped = ClassLabel(names=list(reversed(tiny.LABELS)))
    other = rows(TEXTS, [2 - i for i in IDS]).cast_column("label", swapped)
    scores = trainer(tmp_path, eval_dataset={"as_is": NEWS, "other": other, "text": rows(TEXTS, NAMES)}).evaluate()
    wanted = {k.removeprefix("eval_as_is_"): v for k, v in scores.items() if k.startswith("eval_as_is_oracle")}
    assert len(wanted) > 10
    for name in ("other", "text"):
        assert {k: scores[f"eval_{name}_{k}"] for k in wanted} == wanted


def test_a_tokenizer_pads_with_its_end_of_sequence_where_it_has_no_pad_token(tmp_path):
    def tokenizer():
        tokenizer = tokenizer_without_pad()
        tokenizer.eos_token = "[SEP]"
        return tokenizer

    run = trainer(tmp_path, processing_class=tokenizer)
    assert run.processing_class.pad_token == "[SEP]"
    run.train()


def test_text_that_is_too_long_is_cut(tmp_path):
    run = trainer(tmp_path, target_dataset=rows(["w1 " * 500, "w2"]))
    assert max(run.train_dataset.lengths) == run.prepared.encoder.max_length < 500
    run.train()
