"""Source-free adaptation from end to end: verdicts, numbers, no source row, the card, going on, a student."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import source_free_world as world
import tiny
import tiny_shift
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hftransfer import SourceFreeRule, SourceFreeTrainer, adapt_source_free, print_source_free
from hftransfer.adaptation import source_free as job
from hftransfer.adaptation import source_free_run
from hftransfer.selection.source_numbers import KEY

YES = world.ANY
NO = SourceFreeRule(agreement=1.1)


@pytest.fixture(scope="module")
def model(source_free_model):
    return source_free_model


@pytest.fixture(scope="module")
def numberless(model, tmp_path_factory):
    """The same model without its numbers."""
    folder = tmp_path_factory.mktemp("numberless") / "model"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["hftransfer"].pop(KEY)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def adapted(model, tmp_path_factory):
    """A run whose adapted model is taken, whatever it is like."""
    folder = tmp_path_factory.mktemp("adapted") / "mine"
    test = world.target(60, 4, labelled=True)
    return world.run(model, folder, rule=YES, test=test), folder


# ---- what is handed over


def test_the_adapted_model_has_the_start_models_classifier(model, adapted):
    result, folder = adapted
    assert result.verdict == "adapted"
    assert result.model == folder
    before, after = (load_file(Path(f) / "model.safetensors") for f in (model, folder))
    same = {name for name in before if before[name].equal(after[name])}
    assert {"classifier.weight", "classifier.bias"} <= same
    assert len(same) < len(before) / 2
    config = json.loads((folder / "config.json").read_text())
    assert config["hftransfer"]["sources"] == []
    assert KEY not in config["hftransfer"]  # they were the start model's


def test_it_loads_where_nobody_has_heard_of_hftransfer(adapted, run_elsewhere):
    script = "from transformers import pipeline; print(pipeline('text-classification', {!r})('w1 w2 up')[0]['label'])"
    assert run_elsewhere(script.format(str(adapted[1]))).strip().splitlines()[-1] in tiny.LABELS


def test_oracle_figures_are_shown_and_named_so(adapted):
    _, folder = adapted
    facts = json.loads((folder / "source_free.json").read_text())
    assert set(facts["oracle"]) == {"the start model", "the adapted model"}
    assert all(0.3 < value <= 1 for value in facts["oracle"].values())
    assert "*oracle*" in (folder / "README.md").read_text()


def test_the_card_says_what_left_the_site(adapted):
    card = (adapted[1] / "README.md").read_text()
    section = card[card.index("### What left the site") :]
    for phrase in ("the weights of a model", "confusion matrix of 240 validation rows", "3 class counts"):
        assert phrase in section
    assert "one temperature. Nothing else, and no row." in section
    assert "weights that were trained on 96 unlabelled rows" in section
    assert "without a row of the data that it was trained on before" in card


@pytest.mark.parametrize("layer", ["hidden:0", "hidden:-1", "head"])
def test_neighbours_are_asked_in_the_layer_of_the_rule(model, tmp_path, monkeypatch, layer):
    """Of the start model, on the rows that judge."""
    asked = []
    judge = SourceFreeRule.judge

    def watching(rule, before, after, features, *arguments, **how):
        asked.append((features, how["space"]))
        return judge(rule, before, after, features, *arguments, **how)

    monkeypatch.setattr(SourceFreeRule, "judge", watching)
    rows = world.target(20)
    world.run(model, tmp_path / "mine", rows, rule=SourceFreeRule(layer=layer), max_steps=1)
    start, tokenizer = AutoModelForSequenceClassification.from_pretrained(model), tiny.tokenizer()
    expected = []
    for text in rows["text"]:
        with torch.no_grad():
            out = start(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            pooled = start.bert.pooler(out.hidden_states[-1])[0]
        index = 1 if layer == "hidden:0" else -1
        expected.append((pooled if layer == "head" else out.hidden_states[index][0].mean(0)).numpy())
    ((features, space),) = asked
    np.testing.assert_allclose(features, expected, atol=5e-3)
    places = {
        "hidden:0": "layer 1 of 2",
        "hidden:-1": "layer 2 of 2",
        "head": "what the start model's final layer sees",
    }
    assert places[layer] in space


def test_a_model_that_a_huge_rate_spoiled_is_refused(model, tmp_path):
    result = world.run(model, tmp_path / "mine", world.target(200), method="shot_im", learning_rate=0.3)
    assert result.verdict == "unchanged"
    assert "neighbours" in result.judgement.failed
    assert result.judgement.votes[1] > result.judgement.votes[0]
    assert any("by the start model's layer 1 of 2, side with it on" in reason for reason in result.reasons)


def test_a_model_without_a_stack_of_layers_is_asked_at_its_head():
    layer, space = source_free_run._layer_of(torch.nn.Linear(2, 2), "hidden:0")
    assert layer == "head"
    assert "for want of a stack of layers" in space


def test_a_refused_model_leaves_the_start_as_it_is(numberless, tmp_path):
    result = world.run(numberless, tmp_path / "mine", rule=NO)
    assert result.verdict == "unchanged"
    assert "only" in result.reasons[0]
    assert any("holds no numbers of the source" in reason for reason in result.reasons)
    before, after = (load_file(Path(f) / "model.safetensors") for f in (numberless, tmp_path / "mine"))
    assert all(before[name].equal(after[name]) for name in before)


def test_believed_frequencies_correct_the_start(model, tmp_path):
    rows = world.target(600)
    result = world.run(model, tmp_path / "mine", rows, rule=NO, correct_start=True, max_steps=1)
    assert result.shift.believed, str(result.shift)
    assert result.verdict == "corrected"
    assert np.abs(result.shift.target_frequencies - world.FREQUENCIES).max() < 0.15
    before, after = (AutoModelForSequenceClassification.from_pretrained(f) for f in (model, tmp_path / "mine"))
    temperature = result.shift.weights, json.loads((Path(model) / "config.json").read_text())["hftransfer"][KEY]
    weights, numbers = temperature
    expected = before.classifier.bias.detach().numpy() / numbers["temperature"] + np.log(weights)
    assert after.classifier.bias.detach().numpy() == pytest.approx(expected, abs=1e-5)
    assert after.classifier.weight.detach().numpy() == pytest.approx(
        before.classifier.weight.detach().numpy() / numbers["temperature"], abs=1e-5
    )
    assert not hasattr(after.config, "hftransfer") or KEY not in after.config.hftransfer


def test_believed_frequencies_alone_do_not_change_the_start(model, tmp_path):
    result = world.run(model, tmp_path / "mine", world.target(600), rule=NO, max_steps=1)
    assert result.shift.believed
    assert result.verdict == "unchanged"
    assert any("correct_start=True corrects it" in reason for reason in result.reasons)


def test_numbers_may_be_left_unread(model, tmp_path):
    result = world.run(model, tmp_path / "mine", rule=NO, source_numbers=False, max_steps=1)
    assert (result.verdict, result.shift) == ("unchanged", None)
    assert any("left unread, as asked" in reason for reason in result.reasons)
    assert "which were not read" in result.facts.left_source[-1]  # they have left the source's site all the same


@pytest.mark.slow
def test_numbers_may_be_left_out_where_they_are_made(tmp_path):
    """And are there by default, as the fixture shows."""
    folder = world.save_source_model(tmp_path, save_source_numbers=False)
    assert KEY not in json.loads((Path(folder) / "config.json").read_text())["hftransfer"]
    assert "What left the source's site" not in (Path(folder) / "README.md").read_text()


def test_the_source_models_card_says_what_left_the_site(model):
    card = (Path(model) / "README.md").read_text()
    assert "config.json holds, of 240 source validation rows" in card


# ---- no source row


def test_no_source_row_can_be_read(model, tmp_path):
    """No argument takes one, and a run opens no file of the source, though the model's config names it."""
    for function in (adapt_source_free, SourceFreeTrainer.__init__):
        names = set(inspect.signature(function).parameters)
        assert not {name for name in names if "train" in name or name in ("source", "sources", "validation")}
    here = tmp_path / "model"
    shutil.copytree(model, here)
    source = tmp_path / "secret_source.csv"
    config = json.loads((here / "config.json").read_text())
    config["hftransfer"]["sources"] = [str(source)]
    (here / "config.json").write_text(json.dumps(config))
    source.write_text("text,label\nw1 up,up\n")
    opened, watching = [], [True]

    def hook(event, arguments):
        if watching[0] and event in ("open", "os.listdir", "os.scandir") and arguments:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    try:
        world.run(str(here), tmp_path / "mine", method="shot_im", max_steps=1)
    finally:
        watching[0] = False
    assert any("model.safetensors" in name or "config.json" in name for name in opened)  # the hook sees files
    assert not [name for name in opened if "secret_source" in name]
    source.unlink()
    world.run(str(here), tmp_path / "again", method="shot_im", max_steps=1)  # nor does it miss one


def test_target_labels_are_never_read(model, tmp_path):
    """Wrong ones, and none, come to the same weights and reasons."""
    labelled = world.target(labelled=True)
    spoiled = labelled.map(lambda row: {"label": 0})
    results = [
        world.run(model, tmp_path / name, rows, max_steps=3)
        for name, rows in (("without", world.target()), ("spoiled", spoiled))
    ]
    assert results[0].reasons == results[1].reasons
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("without", "spoiled"))
    assert all(first[name].equal(second[name]) for name in first)


# ---- going on


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_a_finished_one_trains_nothing(model, adapted, tmp_path, monkeypatch):
    folder, test = tmp_path / "mine", world.target(60, 4, labelled=True)
    compute, left = SourceFreeTrainer.compute_loss, [9]  # six steps an epoch: in the midst of the second

    def stopping(trainer, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return compute(trainer, *args, **kwargs)

    how = {"rule": YES, "test": test, "num_train_epochs": 2}
    whole = world.run(model, tmp_path / "whole", **how)
    with monkeypatch.context() as patch:
        patch.setattr(SourceFreeTrainer, "compute_loss", stopping)
        with pytest.raises(KeyboardInterrupt):
            world.run(model, folder, **how)
    assert not (folder / "model.safetensors").exists()
    assert (folder / "_candidates/adapted/checkpoint-6").is_dir()
    again = world.run(model, folder, **how)
    assert again.reasons == whole.reasons
    first, second = (load_file(f / "model.safetensors") for f in (tmp_path / "whole", folder))
    assert all(first[name].equal(second[name]) for name in first)
    assert not list(folder.glob("_candidates/*/checkpoint-*"))

    monkeypatch.setattr(SourceFreeTrainer, "train", lambda *args, **kwargs: pytest.fail("it trains again"))
    assert world.run(model, folder, **how).reasons == whole.reasons
    with pytest.raises(FileExistsError, match="other data or settings: the target differs"):
        world.run(model, folder, world.target(seed=7), **how)


# ---- predictions alone


@pytest.mark.slow
def test_a_student_learns_from_an_interface(model_folder, tmp_path):
    """From a backbone that has never seen the task, with a head of its own for two classes."""
    even, names = (0.5, 0.5), list(tiny.LABELS[:2])
    rows, test = tiny_shift.domain(160, 5, even, clear=1.0), tiny_shift.domain(90, 6, even, clear=1.0)
    settings = {"num_train_epochs": 5, "learning_rate": 5e-3, "per_device_train_batch_size": 8}
    how = {"predictions": world.answers(rows), "labels": names, "test": test}
    result = world.run(model_folder, tmp_path / "mine", rows.remove_columns("label"), **how, **settings)
    assert result.verdict == "student", result.reasons
    assert result.judgement.agreement > 0.7
    assert result.facts.oracle["the student"] > 0.85
    assert result.facts.left_source == ["an interface's answers on 160 target rows, probabilities of 2 classes"]
    loaded = AutoModelForSequenceClassification.from_pretrained(result.model)
    assert list(loaded.config.id2label.values()) == names


def test_a_student_that_has_collapsed_is_not_handed_over(model, tmp_path):
    rows = tiny_shift.domain(60, 5)
    labels = [tiny.LABELS[k] for k in rows["label"]]
    how = {"predictions": labels, "rule": NO, "max_steps": 1}
    result = world.run(model, tmp_path / "mine", rows.remove_columns("label"), **how)
    assert (result.verdict, result.model) == ("refused", None)
    assert not (tmp_path / "mine/config.json").exists()
    assert json.loads((tmp_path / "mine/source_free.json").read_text())["verdict"] == "refused"
    assert (tmp_path / "mine/_candidates/adapted/model.safetensors").is_file()


def test_the_result_is_printed(adapted, capsys):
    print_source_free(adapted[0])
    said = capsys.readouterr().out
    for phrase in ("Verdict: adapted.", "The model is in", "What left the source's site", "(oracle:"):
        assert phrase in said


# ---- the command line


def test_the_command_line(model, tmp_path, capsys):
    import importlib.util

    recipe = Path(job.__file__).parents[2] / "recipes/adapt_source_free.py"
    spec = importlib.util.spec_from_file_location("adapt_source_free_recipe", recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    world.target(60).to_csv(tmp_path / "notes.csv", index=False)
    options = f"--model {model} --target {tmp_path}/notes.csv --output_dir {tmp_path}/mine --use_cpu true"
    options += " --report_to none --disable_tqdm true --max_steps 2 --save_strategy no"
    assert module.adapt_without_source([*options.split(), "--dry_run"]) == 0
    assert "none is read" in capsys.readouterr().out
    assert not (tmp_path / "mine").exists()
    assert module.adapt_without_source(options.split()) == 0
    assert "Verdict: " in capsys.readouterr().out
    assert (tmp_path / "mine/model.safetensors").is_file()
    with pytest.raises(ValueError, match="--model is missing"):
        module.adapt_without_source(["--target", "sample", "--output_dir", str(tmp_path / "other")])


def test_numbers_of_many_classes_stay_small():
    """Only cells that hold rows are written."""
    from hftransfer import SourceNumbers

    labels = np.arange(500)
    numbers = SourceNumbers.of(5 * np.eye(500), labels, [f"c{k}" for k in labels])
    assert len(numbers.as_json()["confusion"]) == 500
