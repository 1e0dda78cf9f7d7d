"""`hftransfer align-image-text` on folders of pictures: a table, a plain dual encoder, and refusals."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pictures
import pytest
import recipe
import tiny
from transformers import BertModel, VisionTextDualEncoderModel

from hftransfer.cli import main as cli


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Pictures in folders by class, and two encoders."""
    folder = tmp_path_factory.mktemp("align")
    pictures.write_folder(folder / "photos", {"train": 24, "validation": 12, "test": 12})
    pictures.vit().save_pretrained(folder / "vit")
    pictures.processor().save_pretrained(folder / "vit")
    BertModel(tiny.bert().config).save_pretrained(folder / "bert")
    tiny.tokenizer().save_pretrained(folder / "bert")
    return SimpleNamespace(folder=folder)


def words(world, *more, **options) -> list[str]:
    usual = {"image_encoder": "vit", "text_encoder": "bert", "source": "photos", "cache_dir": "cache"}
    out = [word for name, value in usual.items() for word in (f"--{name}", str(world.folder / value))]
    out += ["--steps", "4", "--batch_size", "16", "--learning_rate", "1e-2", "--use_cpu", *more]
    return out + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def test_from_folders_to_a_model_and_its_card(world, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    output = world.folder / "dual"
    argv = words(world, "--new_classes", "flat", "--templates", "{}", "w1 {}", output_dir=output)
    assert recipe.run(argv, "align_image_text") == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    table = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert re.findall(r"[\d.]+ %", table["chance"])[:2] == ["33.3 %", "100.0 %"]
    assert "aligned" in table
    model = VisionTextDualEncoderModel.from_pretrained(output)
    assert model.config.hftransfer["image_text"]["names"] == ["down", "up"]
    card = (output / "README.md").read_text()
    assert "pipeline_tag: zero-shot-image-classification" in card
    assert "Trained on: down, up." in card
    assert "| aligned |" in card
    assert json.loads((output / "processor_config.json").read_text())
    assert "Two frozen encoders, a local checkpoint for images and a local checkpoint for text" in card
    texts = {path.name: path.read_text() for path in output.iterdir() if path.suffix in (".md", ".json", ".txt")}
    assert [name for name, text in texts.items() if str(world.folder) in text] == []
    assert not list(world.folder.glob("dual.*"))  # the state of the training
    assert recipe.run(argv, "align_image_text") == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--new_classes", "cat"], "--new_classes cat is no class of the source"),
        (["--caption_column", "text", "--new_classes", "up"], "leave one of them out"),
        (["--caption_column", "text"], "has no column 'text'; its columns are 'image', 'label'."),
        (["--ridge", "0"], "ridge=0.0 must be positive"),
        (["--steps", "-1"], "steps=-1 must be a whole number"),
        (["--templates", "a photo"], "must have {} once"),
    ],
)
def test_refusals(world, capsys, more, message):
    output = world.folder / "refused"
    assert recipe.run(words(world, *more, output_dir=output), "align_image_text") == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_several_processes_are_refused(world, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert recipe.run(words(world, output_dir=world.folder / "two"), "align_image_text") == 1
    assert "Start it as one process" in capsys.readouterr().err


def test_the_command_has_a_dash(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hftransfer", "align-image-text", "--help"])
    cli.main()
    assert "--new_classes NAME" in capsys.readouterr().out
