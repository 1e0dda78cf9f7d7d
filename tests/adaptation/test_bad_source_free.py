"""What source-free adaptation refuses, before anything is trained or written, with a message that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import source_free_world as world
import tiny
import tiny_shift

from hftransfer import SourceFreeRule, SourceFreeTrainer, adapt_source_free
from hftransfer.selection.source_numbers import KEY


@pytest.fixture(scope="module")
def model(source_free_model):
    return source_free_model


TARGET = tiny_shift.domain(30, 1, labelled=False)
BAD = {
    "no target": ({"target": None}, ValueError, "There is no target"),
    "few rows": ({"target": TARGET.select(range(5))}, ValueError, "5 rows.* use the source model as it is"),
    "a target without text": ({"target": TARGET.rename_column("text", "body")}, ValueError, "neither a column 'text'"),
    "a stream": ({"target": TARGET.to_iterable_dataset()}, ValueError, "is a stream, and `adapt-source-free`"),
    "a target that is not there": ({"target": "nowhere.csv"}, FileNotFoundError, "nowhere.csv"),
    "no model": ({"model": None}, TypeError, "model must be"),
    "a loaded model": ({"model": tiny.bert()}, TypeError, "model must be"),
    "a model that is not there": ({"model": "./nowhere"}, (FileNotFoundError, OSError, ValueError), "nowhere"),
    "a model from scratch": ({"model": {"model_type": "bert"}}, ValueError, "has learned nothing"),
    "the model's own folder": ({"output_dir": "model"}, ValueError, "would be replaced"),
    "an unknown method": ({"method": "shto"}, ValueError, "Did you mean|must be one of"),
    "no config": ({"args": {"learning_rate": 1}}, TypeError, "args must be"),
    "no rule": ({"rule": "strict"}, TypeError, "rule must be"),
    "model_kwargs that are no map": ({"model_kwargs": ["revision"]}, TypeError, "model_kwargs must be"),
    "numbers that are no switch": ({"source_numbers": "yes"}, TypeError, "source_numbers must be"),
    "labels without predictions": ({"labels": ["a", "b"]}, ValueError, "labels is about predictions"),
    "epsilon without predictions": ({"epsilon": 0.2}, ValueError, "epsilon is about predictions"),
    "a method with predictions": ({"predictions": ["up"], "method": "shot_im"}, ValueError, "is for a source model"),
    "predictions of other rows": ({"predictions": ["up", "down"]}, ValueError, "holds 2 rows, and the target 30"),
    "labels as one text": ({"predictions": ["up"] * 30, "labels": "up"}, TypeError, "labels must be a list"),
    "an epsilon above 1": ({"predictions": ["up", "down"] * 15, "epsilon": 1.5}, ValueError, "epsilon=1.5"),
    "objectives": ({"settings": {"objectives": {"im": 1.0}}}, ValueError, "objectives cannot be set here"),
    "label shift": ({"settings": {"label_shift": "mlls"}}, ValueError, "label_shift cannot be set here"),
    "a checkpoint": ({"settings": {"resume_from_checkpoint": True}}, ValueError, "goes on by itself"),
    "revealed labels": ({"settings": {"reveal_target_labels": 3}}, ValueError, "no target label is read"),
    "an adapter kept apart": ({"settings": {"merge_adapter": False}}, ValueError, "merge_adapter=False"),
    "a rule of no neighbours": ({"rule": SourceFreeRule(neighbours=0)}, ValueError, "neighbours=0.*at least 1"),
    "a rule of no number": ({"rule": SourceFreeRule(clear=float("nan"))}, ValueError, "clear=nan.*at least 0"),
    "predictions without a label": ({"predictions": ["up", " "] * 15}, ValueError, "row 1 has no label"),
    "a test of another class": (
        {"test": TARGET.add_column("label", ["x"] * 30)}, ValueError, "^test row 0: label 'x'",
    ),
    "a test without labels": ({"test": TARGET}, ValueError, "test has no column 'label'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_trained_or_written(model, tmp_path, monkeypatch, case):
    how, error, said = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SourceFreeTrainer, "train", lambda *args, **kwargs: pytest.fail("it trains"))
    how = dict(how)
    folder = model if how.get("output_dir") == "model" else str(tmp_path / "mine")
    settings = how.pop("settings", {})
    how = {"model": model, "target": TARGET, "args": tiny_shift.config(Path(folder), **settings)} | how
    how["output_dir"] = folder
    with pytest.raises(error, match=said):
        adapt_source_free(how.pop("model"), how.pop("target"), **how)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: n | {"temperature": -1}, "from 0.05 to 20"),
        (lambda n: n | {"labels": ["a", "b", "c"]}, "are of the labels"),
        (lambda n: {"rows": [["a text of the source"]]}, "must be a map with"),
    ],
)
def test_damaged_numbers_are_named_with_the_remedy(model, tmp_path, change, said):
    here = tmp_path / "model"
    shutil.copytree(model, here)
    config = json.loads((here / "config.json").read_text())
    config["hftransfer"][KEY] = change(config["hftransfer"][KEY])
    (here / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"(?s){said}.*source_numbers=False"):
        world.run(str(here), tmp_path / "mine", max_steps=1)
    assert not (tmp_path / "mine/_candidates").exists()


def test_models_of_another_kind_are_refused(tmp_path):
    for name, other, said in (
        ("words", tiny.bert(tiny.TAGS, tagging=True), "is for token-classification"),
        ("scores", tiny.bert(("score",)), "is for regression"),
    ):
        other.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match=said):
            world.run(str(tmp_path / name), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_layer_that_is_not_there_is_refused_before_training(model, tmp_path, monkeypatch):
    monkeypatch.setattr(SourceFreeTrainer, "train", lambda *args, **kwargs: pytest.fail("it trains"))
    with pytest.raises(ValueError, match="layer='hidden:2' is not there: .* has 2 layers"):
        world.run(model, tmp_path / "mine", rule=SourceFreeRule(layer="hidden:2"))
    assert not (tmp_path / "mine/_candidates").exists()


@pytest.mark.parametrize("how", [{"source_numbers": False}, {"predictions": ["up"]}], ids=["unread", "predictions"])
def test_a_correction_that_cannot_be_is_refused(model, tmp_path, how):
    with pytest.raises(ValueError, match="correct_start has no effect"):
        world.run(model, tmp_path / "mine", correct_start=True, **how)
