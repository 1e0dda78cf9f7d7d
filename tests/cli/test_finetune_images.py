"""The recipe on folders of images: from scratch, end to end, to a model that loads in a fresh process."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pictures
import pytest
import recipe

from hftransfer import AdaptationConfig
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.data.digits_corpus import load_digits_corpus

LOAD = """
import json, sys
from transformers import pipeline
model = pipeline("image-classification", sys.argv[1])
print(json.dumps([rows[0]["label"] for rows in model(sorted(json.loads(sys.argv[2])), top_k=1)]))
assert "torchvision" not in sys.modules
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two domains as folders by split and class, the target's train split without classes."""
    folder = tmp_path_factory.mktemp("images")
    source = pictures.write_folder(folder / "bright", {"train": 24, "validation": 9, "test": 12})
    pictures.write_folder(folder / "dark", {"train": 18}, seed=50, dark=True)
    target = pictures.write_folder(folder / "dark", {"test": 12}, seed=60, dark=True)
    data = {"source": source, "target": target, "model_config": json.dumps(pictures.SCRATCH), "image_size": "16"}
    return SimpleNamespace(folder=folder, data=data)


@pytest.fixture(scope="module")
def finished(world):
    """One run."""
    output = world.folder / "run"
    argv = recipe.words(**world.data, output_dir=str(output), learning_rate="1e-2")
    assert recipe.run(argv) == 0
    return SimpleNamespace(output=output, argv=argv, results=json.loads((output / "results.json").read_text()))


def test_the_run_compares_with_the_source_alone(finished):
    assert set(finished.results) == {"source-only", "adapted"}
    assert {"source_accuracy", "target_oracle_accuracy"} <= set(finished.results["adapted"])
    assert not list(finished.output.glob("*.bin"))
    card = (finished.output / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card
    assert "An image-classification model adapted" in card
    assert "| base model | none: made from a config |" in card
    assert 'pipeline("image-classification", "your-name/run")' in card


def test_what_is_saved_loads_without_hftransfer_and_predicts_what_the_table_says(world, finished, run_elsewhere):
    files = sorted(str(p) for p in (world.folder / "dark" / "test").rglob("*.png"))
    predicted = json.loads(run_elsewhere(LOAD, finished.output, json.dumps(files)).splitlines()[-1])
    hits = sum(name == file.split("/")[-2] for name, file in zip(predicted, files, strict=True))
    assert hits / len(files) == pytest.approx(finished.results["adapted"]["target_oracle_accuracy"])


def test_a_run_that_was_cut_off_resumes_to_the_same_table(finished, tmp_path):
    import shutil

    cut = tmp_path / "run"
    shutil.copytree(finished.output, cut)
    shutil.rmtree(cut / "checkpoint-6")
    for name in ("model.safetensors", "config.json", "results.json"):
        (cut / name).unlink()
    argv = [str(cut) if word == str(finished.output) else word for word in finished.argv]
    assert recipe.run([*argv, "--resume_from_checkpoint", "true"]) == 0
    assert json.loads((cut / "results.json").read_text()) == finished.results
    assert (cut / "model.safetensors").read_bytes() == (finished.output / "model.safetensors").read_bytes()


def test_a_dry_run_prints_the_plan(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    argv = [*recipe.words(**world.data, output_dir="run"), "--dry_run"]
    assert recipe.run(argv) == 0
    plan = capsys.readouterr().out
    for fact in ("image-classification", "24 labelled rows", "18 unlabelled rows", "16 wide"):
        assert fact in plan
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_config_plans_the_digits_and_a_line_overrides_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus = load_digits_corpus()
    monkeypatch.setattr("hftransfer.data.domain_loading.load_digits_corpus", lambda: corpus)
    config = recipe.RECIPE.parent / "configs" / "digits.yaml"
    argv = ["--config", str(config), "--use_cpu", "--dry_run", "--target", "sample:digits_inverted"]
    assert recipe.run(argv) == 0
    plan = capsys.readouterr().out
    assert "692 labelled rows" in plan
    assert "dann" in plan
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "culprit", "remedy"),
    [
        ({"model": "x/y"}, "model and model_config are both given", "Leave one out"),
        ({"model_config": "{resnet"}, "model_config is neither JSON nor YAML", "{resnet"),
        ({"model_config": "resnet"}, "model_config must be a map", '{"model_type": "resnet"}'),
        ({"model_config": None, "model": "./gone"}, "no folder './gone'", "an existing folder"),
        ({"source": "sample:digit"}, "there is no such sample", "Did you mean 'sample:digits'?"),
        ({"max_length": "9"}, "max_length=9 is for text", "Leave it out"),
        ({"image_size": None}, "image_size is missing", "image_size=32"),
        ({"use_lora": "true"}, "no weights worth keeping", "an adapter"),
    ],
)
def test_what_the_recipe_refuses(world, tmp_path, capsys, options, culprit, remedy):
    assert recipe.run(recipe.words(**world.data | options, output_dir=str(tmp_path / "run"))) == 1
    message = capsys.readouterr().err
    assert culprit in message
    assert remedy in message
    assert not (tmp_path / "run").exists()


def test_a_model_is_named_or_made():
    one, _ = RecipeParser([FinetuneArguments, AdaptationConfig]).parse_args_and_config(["--use_cpu"])
    assert one.backbone() == "sentence-transformers/all-MiniLM-L6-v2"
    two, _ = RecipeParser([FinetuneArguments, AdaptationConfig]).parse_args_and_config(
        ["--use_cpu", "--model_config", '{"model_type": "vit"}']
    )
    assert two.backbone() == {"model_type": "vit"}
