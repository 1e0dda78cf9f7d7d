"""`hftransfer interpolate` on csv files and tiny folders: one table, a choice by source or label-free scores alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pictures
import pytest
import recipe
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertModel, pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two domains as csv files, a bare start, two models and an adapter, fine-tuned for all the recipe knows."""
    folder = tmp_path_factory.mktemp("interpolate")
    source = recipe.write_domain(folder, "news", 0, {"train": 12, "validation": 24})
    target = recipe.write_domain(folder, "medical", 50, {"train": 12, "test": 12}, ("train",))
    whole = tiny.bert(seed=9)
    whole.save_pretrained(folder / "whole")
    BertModel.from_pretrained(folder / "whole").save_pretrained(folder / "start")
    for i, name in enumerate("ab"):
        tiny.bert(seed=i).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    base = AutoModelForSequenceClassification.from_pretrained(folder / "whole")
    get_peft_model(
        base, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], init_lora_weights=False)
    ).save_pretrained(folder / "adapter")
    tiny.tokenizer().save_pretrained(folder / "adapter")
    return SimpleNamespace(folder=folder, source=source, target=target)


def words(world, *more, **options) -> list[str]:
    out = ["--source", world.source, "--per_device_eval_batch_size", "12", "--use_cpu", *map(str, more)]
    return out + [word for key, value in options.items() for word in (f"--{key}", str(value))]


def lines(out: str, name: str) -> list[str]:
    return [line for line in out.splitlines() if re.match(rf"[│|] {re.escape(name)} ", line)]


def test_wise_ft_from_a_shell_to_a_pipeline(world, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    output = world.folder / "wise"
    folder = world.folder
    argv = words(world, start=folder / "start", target=world.target, output_dir=output)
    assert recipe.run([*argv, "--models", str(folder / "a"), "--alphas", "0", "0.5", "1"], "interpolate") == 0
    out = capsys.readouterr().out
    assert "note: " in out
    assert "classifier.weight" in out
    assert out.count("(oracle)") == 2
    for name in ("alpha 0", "alpha 0.5", "alpha 1"):
        assert len(lines(out, name)) == 1
    found = {n: float(re.findall(r"([\d.]+) %", lines(out, f"alpha {n}")[0])[0]) for n in ("0", "0.5", "1")}
    best = max(found.values())
    chosen = json.loads((output / "config.json").read_text())["hftransfer"]["interpolation"]["alpha"]
    assert chosen == max(float(n) for n, value in found.items() if value == best)

    start, tuned, mixed = (load_file(folder / n / "model.safetensors") for n in ("start", "a", "wise"))
    assert set(mixed) == set(tuned)
    for name, x in mixed.items():
        theta = tuned[name].double().numpy()
        if name.startswith("bert."):
            theta = (1 - chosen) * start[name.removeprefix("bert.")].double().numpy() + chosen * theta
        np.testing.assert_allclose(x.numpy(), theta, rtol=1e-6, atol=1e-8)
    assert pipeline("text-classification", str(output))("w1 up")[0]["label"] in tiny.LABELS
    card = (output / "README.md").read_text()
    assert "Robust fine-tuning of zero-shot models" in card
    assert "| alpha 0.5 |" in card


def test_an_adapter_alone_is_chosen_by_a_label_free_score(world, monkeypatch, capsys):
    """All members are adapters: the labels are those of the source's rows."""
    monkeypatch.setenv("COLUMNS", "200")
    output, adapter = world.folder / "soup", str(world.folder / "adapter")
    argv = words(world, start=world.folder / "whole", target=world.target, output_dir=output)
    argv += ["--metric", "eval_target_information", "--alphas", "0.2", "0.8", "--models", adapter]
    assert recipe.run([*argv], "interpolate") == 1  # whole has its labels in another order than the source's rows
    assert "same labels in another order: down, up, flat; down, flat, up" in capsys.readouterr().err
    assert not output.exists()
    argv[argv.index(str(world.folder / "whole"))] = str(world.folder / "start")
    assert recipe.run(argv, "interpolate") == 0
    assert "Chosen by target_information: " in capsys.readouterr().out
    assert json.loads((output / "config.json").read_text())["id2label"] == {"0": "down", "1": "flat", "2": "up"}


def test_a_soup_of_two_models(world, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    output = world.folder / "uniform"
    argv = words(world, output_dir=output, soup="uniform")
    assert recipe.run([*argv, "--models", str(world.folder / "a"), str(world.folder / "b")], "interpolate") == 0
    assert "Chosen by source_accuracy: 0.5 a + 0.5 b." in capsys.readouterr().out
    a, b, mixed = (load_file(world.folder / n / "model.safetensors") for n in ("a", "b", "uniform"))
    for name, x in mixed.items():
        np.testing.assert_allclose(x, (a[name].double() + b[name].double()) / 2, rtol=1e-6, atol=1e-8)


def test_a_soup_of_image_models_has_statistics_of_its_own(tmp_path, capsys):
    """Batch norm is estimated anew on the source's training images; the folders' averages would be something else."""
    source = pictures.write_folder(tmp_path / "day", {"train": 12, "validation": 9})
    for i, name in enumerate("ab"):
        model = pictures.resnet(seed=i).train()
        model(torch.randn(4, 3, 16, 16) + i)
        model.save_pretrained(tmp_path / name)
        pictures.processor().save_pretrained(tmp_path / name)
    argv = ["--source", source, "--use_cpu", "--output_dir", str(tmp_path / "soup"), "--soup", "uniform"]
    assert recipe.run([*argv, "--models", str(tmp_path / "a"), str(tmp_path / "b")], "interpolate") == 0
    assert "0.5 a + 0.5 b" in capsys.readouterr().out
    a, b, mixed = (load_file(tmp_path / n / "model.safetensors") for n in ("a", "b", "soup"))
    for name, x in mixed.items():
        average = (a[name].double() + b[name].double()) / 2
        if "running" in name:
            assert not np.allclose(x, average, atol=1e-3), name
        elif x.is_floating_point():
            np.testing.assert_allclose(x, average, rtol=1e-6, atol=1e-8)
    assert (tmp_path / "soup/preprocessor_config.json").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--start", "START", "--metric", "eval_target_oracle_accuracy"], "reads the labels of 'target'"),
        (["--start", "START", "--metric", "eval_source_acuracy"], "has no metric 'acuracy'"),
        (["--alphas", "0.5"], "--alphas needs a --start"),
        ([], "nothing to average: give a start, or more than one model"),
        (["--start", "START", "--source", "x.csv"], "several sources: say with --metric"),
        (["--start", "nowhere/none/such"], "nowhere/none/such"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(world, more, message, capsys):
    output = world.folder / "never"
    argv = words(world, models=world.folder / "a", target=world.target, output_dir=output)
    more = [str(world.folder / "start") if word == "START" else word for word in more]
    assert recipe.run([*argv, *more], "interpolate") == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_folder_that_exists_and_a_source_without_validation_are_refused_before_anything_is_loaded(
    world, monkeypatch, capsys
):
    argv = words(world, models="none", start="none", output_dir=world.folder)
    assert recipe.run(argv, "interpolate") == 1
    assert "exists already; name an output folder" in capsys.readouterr().err
    argv = ["--source", str(world.folder / "news_train.csv"), "--models", "none", "--start", "none"]
    argv += ["--output_dir", str(world.folder / "never"), "--validation_fraction", "0"]
    assert recipe.run(argv, "interpolate") == 1
    assert "has no validation split and --validation_fraction is 0" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert recipe.run(argv, "interpolate") == 1
    assert "Start it as one process" in capsys.readouterr().err


def test_help_needs_no_heavy_import():
    start = (
        "import sys; from hftransfer.cli.main import main; sys.argv = ['hftransfer', 'interpolate', '-h']; main()\n"
    )
    check = 'assert not {"torch", "transformers", "datasets", "numpy"} & set(sys.modules)'
    done = subprocess.run([sys.executable, "-c", start + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--alphas" in done.stdout
