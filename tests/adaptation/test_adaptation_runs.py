"""`adapt` end to end on a tiny shift: what is handed over, what is kept, and that nothing is trained twice."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_shift
from transformers import pipeline

from hftransfer import AdaptationTrainer
from hftransfer.adaptation.stored_predictions import StoredPredictions


@pytest.fixture(scope="module")
def model(shift_model):
    return shift_model


@pytest.fixture(scope="module")
def shifted(model, tmp_path_factory):
    """A standard run where class frequencies differ, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return tiny_shift.run(model, folder, draws=True, exact=True), folder


@pytest.fixture(scope="module")
def finished_quick(model, tmp_path_factory):
    """The folder of a quick run."""
    folder = tmp_path_factory.mktemp("quick") / "out"
    tiny_shift.run(model, folder, effort="quick")
    return folder


@pytest.fixture
def quick(finished_quick, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished_quick, tmp_path / "out"))


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_label_shift_is_seen_and_its_correction_is_better(shifted):
    result, _ = shifted
    assert result.verdicts.shift.believed
    np.testing.assert_allclose(result.verdicts.shift.target_frequencies, tiny_shift.FREQUENCIES, atol=0.12)
    assert result.verdict in ("corrected", "adapted")
    oracle = {entry.name: entry.predictions for entry in result.verdicts.entries}
    accuracy = {
        name: (p.target_test_logits.argmax(1) == p.target_test_labels_oracle).mean() for name, p in oracle.items()
    }
    assert accuracy[result.chosen] >= accuracy["source-only"] - 0.005


def test_without_a_shift_nothing_is_corrected(model, tmp_path):
    result = tiny_shift.run(model, tmp_path / "out", (1 / 3, 1 / 3, 1 / 3), effort="quick", exact=True)
    assert (result.verdict, result.chosen) == ("source-only", "source-only")
    assert "not believed" in " ".join(result.reasons)


def test_the_saved_model_is_plain_and_answers_as_it_was_judged(shifted):
    result, folder = shifted
    entry = next(e for e in result.verdicts.entries if e.name == result.chosen)
    texts = tiny_shift.domain(120, 4, tiny_shift.FREQUENCIES)["text"][:16]
    answers = pipeline("text-classification", str(folder), top_k=None)(list(texts), batch_size=16)
    by_name = [{item["label"]: item["score"] for item in row} for row in answers]
    predicted = np.array([[row[name] for name in ("down", "up", "flat")] for row in by_name])
    judged = np.exp(entry.predictions.target_test_logits[:16])
    np.testing.assert_allclose(predicted, judged, atol=1e-4)


def test_what_is_in_the_folder(shifted):
    result, folder = shifted
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "report.html",
        "adaptation.json",
    } <= names
    assert result.model == folder
    assert result.report.read_text().count("<svg") >= 4
    card = (folder / "README.md").read_text()
    assert card.startswith("---")
    assert result.chosen.split(",")[0] in card
    assert not re.search(r"_candidates|/tmp/", card)
    kept = tiny_shift.result_of(folder)
    assert kept["verdict"] == result.verdict
    assert set(kept["oracle"]) >= {"source-only", "mean, corrected", "student"}
    assert not list(folder.glob("_candidates/*/checkpoint-*"))


def test_a_second_call_trains_nothing_and_decides_the_same(model, shifted, monkeypatch):
    result, folder = shifted
    before, kept = weights_of(folder), tiny_shift.result_of(folder)
    trained = tiny_shift.training_runs(monkeypatch)
    again = tiny_shift.run(model, folder, exact=True)
    assert trained == []
    assert (again.chosen, again.verdict) == (result.chosen, result.verdict)
    assert weights_of(folder) == before
    assert tiny_shift.result_of(folder) == kept


def test_a_larger_effort_keeps_what_a_smaller_one_made(model, quick, monkeypatch):
    trained, made = tiny_shift.training_runs(monkeypatch), weights_of(quick / "_candidates" / "source-only")
    tiny_shift.run(model, quick, effort="standard")
    assert trained == ["source-only-2", "source-only-3", "student"]
    assert weights_of(quick / "_candidates" / "source-only") == made


def test_push_to_hub_asks_for_the_repository_first_and_gives_it_the_result(model, tmp_path, monkeypatch):
    module, calls, folder = sys.modules["hftransfer.adaptation.adapt"], [], tmp_path / "out"

    def create(args):
        calls.append(("made", (folder / "_candidates" / "source-only").exists()))
        return "me/mine"

    def push(args, pushed):
        calls.append(("pushed", args.hub_model_id, pushed, (folder / "model.safetensors").is_file()))

    monkeypatch.setattr(module, "create_repo", create)
    monkeypatch.setattr(module, "push_folder", push)
    tiny_shift.run(model, folder, effort="quick", push_to_hub=True)
    assert calls == [("made", False), ("pushed", "me/mine", folder, True)]


@pytest.mark.parametrize("change", [{"learning_rate": 2e-3}, {"source_rows": 159}, {"seed": 7}])
def test_another_run_is_not_overwritten_unless_asked(model, quick, change):
    kept = tiny_shift.result_of(quick)
    with pytest.raises(FileExistsError, match="other data or settings"):
        tiny_shift.run(model, quick, effort="quick", **change)
    assert tiny_shift.result_of(quick) == kept
    tiny_shift.run(model, quick, effort="quick", **{"overwrite_output_dir": True} | change)
    assert tiny_shift.result_of(quick) != kept


def test_somebody_elses_files_are_left_alone(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="README.md"):
        tiny_shift.run(model, tmp_path / "out", effort="quick")
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


def test_a_candidate_that_crashes_is_named_and_the_rest_goes_on(model, tmp_path, capsys):
    candidates = {
        "source-only": {},
        "broken": {"training": {"objectives": {"mmd": 0.1}, "learning_rate": 1e30}},
        "student of it": {"student_of": "broken"},
        "im": {"training": {"objectives": {"im": 0.1}}},
    }
    result = tiny_shift.run(model, tmp_path / "out", candidates=candidates)
    assert {entry.outcome.name for entry in result.verdicts.entries} == {"source-only", "im"}
    assert "broken failed and is left out" in capsys.readouterr().out
    assert "broken" in result.report.read_text()


def test_source_only_that_crashes_ends_the_run(model, tmp_path):
    with pytest.raises(FloatingPointError):
        tiny_shift.run(model, tmp_path / "out", effort="quick", learning_rate=1e30)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize(
    ("epochs", "step"), [(1, 12), *(pytest.param(2, step, marks=pytest.mark.slow) for step in (1, 22, 55, 75))]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_end(model, shifted, tmp_path, monkeypatch, epochs, step):
    """One unbroken run, one stopped in its n-th step: the same verdict, the same weights."""
    how = {"num_train_epochs": epochs, "exact": True}  # each 10 steps: of source-only, thrice, and of the student
    whole, folder = shifted
    if epochs > 1:
        folder = tmp_path / "whole" / "mine"
        whole = tiny_shift.run(model, folder, **how)
    steps, compute_loss = [], AdaptationTrainer.compute_loss

    def stopped(trainer, model, inputs, *args, **kwargs):
        steps.extend([1] * ("domain" in inputs))
        if len(steps) == step:
            raise KeyboardInterrupt
        return compute_loss(trainer, model, inputs, *args, **kwargs)

    broken = tmp_path / "broken" / "mine"
    monkeypatch.setattr(AdaptationTrainer, "compute_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny_shift.run(model, broken, **how)
    assert not (broken / "config.json").exists()
    again = tiny_shift.run(model, broken, **how)
    assert again.chosen == whole.chosen
    assert weights_of(broken) == weights_of(folder)
    assert tiny_shift.result_of(broken) == tiny_shift.result_of(folder)


def test_stored_predictions_read_back(tmp_path):
    draw = np.random.default_rng(0)
    stored = StoredPredictions(
        draw.normal(size=(5, 2)), np.array([0, 1, 0, 1, 1]), draw.normal(size=(6, 2)), np.arange(6), np.array([0, 2])
    )
    stored.save(tmp_path / "p.npz")
    read = StoredPredictions.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(read.target_logits, stored.target_logits)
    assert read.mixed_logits is None
    assert read.predictions().target_logits.shape == (2, 2)
    (tmp_path / "p.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read as stored predictions"):
        StoredPredictions.load(tmp_path / "p.npz")
