"""The command `hftransfer pretrain`: from files to a plain model, from which other recipes start."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import masked_models
import pictures
import pytest
import tiny
from transformers import AutoModelForImageClassification, AutoModelForMaskedLM

from hftransfer import PretrainArguments, PretrainingConfig, RecipeParser
from hftransfer.cli.help import recipe_options

RECIPES = Path(__file__).parents[2] / "recipes"
QUIET = [
    "--use_cpu",
    "--disable_tqdm",
    "true",
    "--report_to",
    "none",
    "--save_strategy",
    "no",
    "--logging_steps",
    "99",
]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("pretrain_recipe", RECIPES / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, csv files with and without labels, and jsonl."""
    folder = tmp_path_factory.mktemp("pretrain")
    masked_models.masked_model().save_pretrained(folder / "bert")
    tiny.tokenizer().save_pretrained(folder / "bert")
    for name, rows in (("target", tiny.domain(40, seed=1)), ("source", tiny.domain(40, seed=2))):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"] if name == "source" else ["text"])
            writer.writerows([[r["text"], tiny.LABELS[r["label"]]][: 2 if name == "source" else 1] for r in rows])
    lines = [json.dumps({"text": row["text"]}) for row in tiny.domain(50, seed=3)]
    (folder / "pool.jsonl").write_text("\n".join(lines))
    return folder


def words(folder, *more: str) -> list[str]:
    given = ["--model", str(folder / "bert"), "--max_steps", "2", "--per_device_train_batch_size", "4"]
    return [*given, *QUIET, *more]


def test_from_files_to_a_model(recipe, folder, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--target", str(folder / "target.csv"), "--source", f"news={folder / 'source.csv'}"]
    given += ["--pool", str(folder / "pool.jsonl"), "--pool_rows", "20"]
    assert recipe(words(folder, *given, "--output_dir", str(out))) == 0
    said = capsys.readouterr().out
    assert "Pool: 20 of 50 rows, the nearest by ngrams" in said
    assert "Batches: packed" in said
    assert "Perplexity at masked words of 2 held-out rows" in said
    assert type(AutoModelForMaskedLM.from_pretrained(out)).__name__ == "BertForMaskedLM"
    scores = json.loads((out / "results.json").read_text())
    assert scores["held_out_rows"] == 2
    card = (out / "README.md").read_text()
    assert "target.csv" in card
    assert "pool.jsonl" in card


def test_lora_and_a_plan_alone(recipe, folder, tmp_path, capsys):
    out = tmp_path / "out"
    given = words(
        folder, "--target", str(folder / "target.csv"), "--use_lora", "--lora_r", "2", "--output_dir", str(out)
    )
    assert recipe([*given, "--dry_run"]) == 0
    assert "Trains: lora" in capsys.readouterr().out
    assert not out.exists()
    assert recipe(given) == 0
    assert not (out / "adapter_config.json").exists()


def test_from_folders_of_images_to_a_model(recipe, tmp_path, capsys):
    """Of a source without labels, too; nothing but the model and what is in the folders says that these are images."""
    pictures.vit(patch_size=4).save_pretrained(tmp_path / "vit")
    pictures.processor().save_pretrained(tmp_path / "vit")
    source = pictures.write_folder(tmp_path / "photos", {"train": 12}, labelled=False)
    target = pictures.write_folder(tmp_path / "scans", {"train": 20, "validation": 6}, seed=9, labelled=False)
    given = ["--model", str(tmp_path / "vit"), "--source", source, "--target", target, "--max_steps", "2"]
    given += [*QUIET, "--per_device_train_batch_size", "4", "--image_mask_share", "0.5", "--output_dir"]
    assert recipe([*given, str(tmp_path / "plan"), "--dry_run"]) == 0
    assert "Masking: 8 of 16 units of 4 x 4 pixels, in images of 16 x 16." in capsys.readouterr().out
    assert recipe([*given, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Reconstruction loss at masked patches of 6 held-out rows" in said
    assert (
        type(AutoModelForImageClassification.from_pretrained(tmp_path / "out")).__name__ == "ViTForImageClassification"
    )
    assert "reconstruction_loss_after" in json.loads((tmp_path / "out" / "results.json").read_text())
    assert "scans" in (tmp_path / "out" / "README.md").read_text()


def test_help_lists_the_options_of_the_parser():
    parser = RecipeParser((PretrainArguments, PretrainingConfig), "hftransfer pretrain").make_parser()
    names = {action.dest for action in parser._actions} - {"help"}
    options = recipe_options("pretrain")
    assert {option.name for option in options} == names
    assert not [option.name for option in options if option.group != "Training" and not option.help]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--output_dir", "out"], "--target and --source are missing"),
        (["--target", "a.csv", "--pool", "b.csv", "--output_dir", "out"], "give both, or neither"),
        (["--source", "a.csv", "--pool", "b.csv", "--pool_rows", "3", "--output_dir", "out"], "name a --target"),
        (["--target", "a.csv", "--output_dir", "out", "--objectives", "mmd"], "--objectives"),
        (["--target", "nowhere.csv", "--output_dir", "out"], "'nowhere.csv'"),
        (["--target", "a.csv", "--output_dir", "out", "--mask_probability", "2"], "mask_probability=2"),
    ],
)
def test_refusals(recipe, tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = recipe([*given, *QUIET])
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
