"""`hftransfer few-shot` on csv files and folders of pictures: a plain model, a dry run, one line for what is wrong."""

from __future__ import annotations

import csv
import os
import signal
from types import SimpleNamespace

import pictures
import pytest
import recipe
import tiny
from huggingface_hub import ModelCard
from processes import KILLED, forked
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from hftransfer import FewShotArguments
from hftransfer.cli.help import recipe_options
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.embeddings.few_shot import pair_training


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    source = recipe.write_domain(folder, "few", 0, {"train": 9, "test": 6})
    tiny.bert().save_pretrained(folder / "bert")
    tiny.tokenizer().save_pretrained(folder / "bert")
    pictures.resnet().save_pretrained(folder / "resnet")
    pictures.processor().save_pretrained(folder / "resnet")
    photos = pictures.write_folder(folder / "photos", {"train": 6})
    return SimpleNamespace(folder=folder, source=source, bert=str(folder / "bert"), photos=photos)


def run(world, *words, source=None, model=None) -> int:
    usual = ["--source", source or world.source, "--model", model or world.bert, "--use_cpu"]
    return recipe.run([*usual, "--cache_dir", str(world.folder / "cache"), *words], "few_shot")


def test_texts_from_a_file_of_options(world, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("method: pairs\nlearning_rate: 1e-3\nmax_pairs: 1000\n")
    output = tmp_path / "out"
    words = ["--config", str(tmp_path / "mine.yaml"), "--max_pairs", "16", "--output_dir", str(output)]
    assert run(world, *words) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "source, labelled rows: down 3, flat 3, up 3." in out
    assert "Steps of pair training: 1." in out
    assert "Accuracy on the source's test split: " in out
    model = AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.id2label == {0: "down", 1: "flat", 2: "up"}
    assert run(world, *words) == 1
    assert "exists already" in capsys.readouterr().err


def killed_after(steps: int, words: list[str]) -> None:
    """Runs the command in this process, which ends itself before the step after so many."""
    stock, done = pair_training.pair_loss_of, []

    def pair_loss_of(*args):
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(1)
        return stock(*args)

    pair_training.pair_loss_of = pair_loss_of
    recipe.run(words, "few_shot")


def test_a_killed_run_goes_on_with_the_same_command(world, tmp_path, capsys):
    def words(output):
        usual = ["--source", world.source, "--model", world.bert, "--use_cpu", "--cache_dir", str(tmp_path / "cache")]
        training = ["--max_pairs", "20", "--per_device_train_batch_size", "4", "--save_steps", "2"]
        return [*usual, *training, "--learning_rate", "1e-3", "--output_dir", f"{tmp_path / output}/"]

    assert forked(killed_after, 3, words("killed"), log=tmp_path / "log") == KILLED
    assert [path.name for path in tmp_path.glob("killed*")] == ["killed.training"]
    assert recipe.run([*words("killed"), "--max_pairs", "24"], "few_shot") == 1
    assert "with other settings: name another folder, or remove it" in capsys.readouterr().err
    assert recipe.run(words("killed"), "few_shot") == 0
    assert "Steps of pair training: 5, 2 of them by a run that was stopped." in capsys.readouterr().out
    assert recipe.run(words("undisturbed"), "few_shot") == 0
    assert "Steps of pair training: 5." in capsys.readouterr().out
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "undisturbed")]
    assert weights[0] == weights[1]
    assert not list(tmp_path.glob("*.training"))


def test_the_card_says_what_the_model_was_made_of(world, tmp_path):
    assert run(world, "--method", "probe", "--output_dir", str(tmp_path / "few")) == 0
    card = ModelCard.load(tmp_path / "few" / "README.md")
    assert (card.data.pipeline_tag, card.data.base_model) == ("text-classification", None)  # which is a folder here
    assert "A classifier of 3 classes from 9 labelled rows of **few" in card.text
    assert "| down | 3 |" in card.text
    assert "Accuracy on the source's test split: " in card.text
    assert str(world.folder) not in card.content


def test_a_folder_of_images(world, tmp_path, capsys):
    words = ["--method", "prototype", "--output_dir", str(tmp_path / "out")]
    assert run(world, *words, source=world.photos, model=str(world.folder / "resnet")) == 0, capsys.readouterr().err
    assert "pair training" not in capsys.readouterr().out
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out").config.num_labels == 3


def test_a_dry_run_writes_nothing(world, tmp_path, capsys):
    assert run(world, "--dry_run", "--output_dir", str(tmp_path / "out")) == 0
    assert "source: 9 rows; to be done: pairs." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output_dir is missing"),
        (["--output_dir", "OUT", "--label_column", "lable"], "Did you mean 'label'"),
        (["--output_dir", "OUT", "--method", "probe", "--max_pairs", "9"], "--max_pairs is of pair training"),
        (["--output_dir", "OUT", "--method", "prototype", "--C", "2"], "C=2.0 is of a logistic regression"),
        (
            ["--output_dir", "OUT", "--text_column", "a", "--image_column", "b"],
            "text_column and image_column are both",
        ),
        (["--output_dir", "OUT", "--max_pairs", "0"], "max_pairs=0 must be"),
        (["--output_dir", "OUT", "--pooling", "last"], "cannot hold this probe"),
    ],
)
def test_what_is_wrong_is_one_line(world, tmp_path, capsys, words, message):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    assert run(world, *words) == 1
    err = capsys.readouterr().err
    assert message in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_one_class_alone_is_refused(world, tmp_path, capsys):
    with (tmp_path / "one.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], ["w1 w2", "up"], ["w3", "up"], ["w4", ""]])
    assert run(world, "--output_dir", str(tmp_path / "out"), source=str(tmp_path / "one.csv")) == 1
    assert "All labelled rows of the source are of one class, 'up'" in capsys.readouterr().err


def test_a_method_that_is_not_there_ends_with_status_2(world, capsys):
    with pytest.raises(SystemExit) as stopped:
        recipe.load("few_shot").learn(["--source", "x", "--method", "pair"])
    assert stopped.value.code == 2
    assert "pair" in capsys.readouterr().err


def test_help_lists_what_the_parser_takes():
    parser = RecipeParser([FewShotArguments]).make_parser()
    taken = {a.dest: a.default for a in reversed(parser._actions) if a.dest != "help"}
    listed = recipe_options("few_shot")
    assert [option.name for option in listed if len(option.help) < 5] == []
    assert {option.name for option in listed} == set(taken)


def test_the_config_beside_the_recipe_is_read():
    config = recipe.RECIPE.parent / "configs" / "few_shot.yaml"
    (options,) = RecipeParser([FewShotArguments]).parse_args_and_config(["--config", str(config)])
    assert options.pair_settings() == {
        "sampling": "oversampling",
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 2e-5,
        "max_pairs": 10_000,
        "save_steps": 50,
        "seed": 42,
    }
