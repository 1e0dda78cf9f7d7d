"""Linear probes as candidates of `adapt`: alone, with answers, and as a start of fine-tuning."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import answer_sheets
import numpy as np
import pytest
import tiny
import tiny_shift
import torch
from datasets import concatenate_datasets
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaConfig, RobertaModel

from hftransfer import AdaptationTrainer
from hftransfer.adaptation import probe_candidate
from hftransfer.adaptation.answer_judging import probe_is_taken
from hftransfer.adaptation.answer_probe import PROBED, AnswerProbe
from hftransfer.adaptation.answer_reading import Answers
from hftransfer.adaptation.answer_training import TRAINED_ON
from hftransfer.adaptation.candidate_list import CandidateRecipe, candidate_list, read_candidates
from hftransfer.adaptation.candidate_maker import CandidateMaker
from hftransfer.adaptation.candidate_run import CandidateOutcome, CandidateRunner
from hftransfer.adaptation.judging import judge
from hftransfer.adaptation.question_file import Question
from hftransfer.adaptation.run_inputs import RunInputs
from hftransfer.selection.paired_decision import PairedComparison
from hftransfer.selection.rule import SelectionRule
from hftransfer.selection.transferability.probe_strength import cross_validated_strength

SOURCE = tiny_shift.domain(160, 0)
TARGET = tiny_shift.domain(240, 1, tiny_shift.FREQUENCIES)
LIST = {"source-only": {}, "probe": {"probe": True}, "tuned": {"start": "probe"}}


def run(model, folder: Path, **how):
    with tiny_shift.with_short_estimates():
        return tiny_shift.run(
            model, folder, **{"source": SOURCE, "target": TARGET, "candidates": LIST, "max_steps": 4} | how
        )


@pytest.fixture(scope="module")
def result(shift_model, tmp_path_factory):
    return run(shift_model, tmp_path_factory.mktemp("probe") / "out", ask=40)


def features_of(model: str, texts: list[str]) -> np.ndarray:
    """What the last layer of a BERT reads."""
    bert, tokenizer = (c.from_pretrained(model) for c in (AutoModelForSequenceClassification, AutoTokenizer))
    with torch.no_grad():
        return (
            bert.bert(**tokenizer(list(texts), padding=True, return_tensors="pt")).pooler_output.numpy().astype(float)
        )


def test_its_logits_are_a_regressions_on_the_backbones_features(result, shift_model):
    """Fitted here by scikit-learn, on features that transformers gives."""
    x, rows = features_of(shift_model, SOURCE["text"]), features_of(shift_model, TARGET["text"])
    mean, scale = x.mean(0), np.sqrt(x.var(0).sum())
    strength = cross_validated_strength(x, np.array(SOURCE["label"]))
    alone = LogisticRegression(C=strength, max_iter=1000, tol=1e-6).fit((x - mean) / scale, SOURCE["label"])
    expected = alone.decision_function((rows - mean) / scale)
    stored = np.load(result.model / "_candidates/probe/predictions.npz")
    found = stored["target_logits"]
    difference = (found - found.mean(1, keepdims=True)) - (expected - expected.mean(1, keepdims=True))
    assert np.abs(difference).max() < 0.02 * np.abs(expected).max()


def test_the_backbone_stays_and_the_head_is_new(result, shift_model):
    before = load_file(Path(shift_model) / "model.safetensors")
    after = load_file(result.model / "_candidates/probe/model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_it_loads_in_a_fresh_process_without_the_package(result):
    code = (
        "import sys; from transformers import pipeline\n"
        f"print(pipeline('text-classification', {str(result.model / '_candidates/probe')!r})('w1 w2')[0]['label'])\n"
        "assert not any(name.startswith('hftransfer') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] in tiny.LABELS


def test_a_training_may_start_from_it(result):
    after, before = (load_file(result.model / f"_candidates/{name}/model.safetensors") for name in ("tuned", "probe"))
    head = (after["classifier.weight"] - before["classifier.weight"]).abs().max()
    assert 0 < head < before["classifier.weight"].abs().max()


@pytest.mark.parametrize(("spoiled", "competes"), [(0.4, True), (0.0, False)])
def test_it_competes_where_training_lost_accuracy_on_the_source(result, spoiled, competes):
    """Judged as what the source taught, and corrected for class frequencies, if so."""
    base = result.verdicts.base.outcome
    labels = base.predictions.source_validation_labels
    right = 4.0 * np.eye(3)[labels]
    wrong = np.random.default_rng(0).random(len(labels)) < spoiled
    own = dataclasses.replace(base.predictions, source_validation_logits=np.where(wrong[:, None], -right, right))
    better = dataclasses.replace(base.predictions, source_validation_logits=right)
    probe = CandidateOutcome(CandidateRecipe("probe", probe=True), predictions=better, model=base.model)
    verdicts = judge([dataclasses.replace(base, predictions=own), probe], SelectionRule(), tiny.LABELS)
    refused = verdicts.judgement.refused.get("probe", "")
    assert ("probe" in {entry.name for entry in verdicts.entries}) == ("probe" in verdicts.shifts) == competes
    assert refused.startswith("probe competes only where training lost") == (not competes)
    assert verdicts.base.name == "source-only"
    assert verdicts.chosen.name == ("probe" if competes else "source-only")
    assert verdicts.judgement.reasons[0].startswith("probe takes the place of source-only") == competes
    assert ("source-only" in verdicts.judgement.refused) == competes


@pytest.mark.parametrize("answers", [0, 12])
def test_where_training_learned_less_others_have_to_beat_the_probe(shift_model, tmp_path, answers):
    """Training at far too high a rate loses to a regression on the same rows, and is reported beside it."""
    how = {"learning_rate": 0.1, "candidates": {name: LIST[name] for name in ("source-only", "probe")}}
    result = run(shift_model, tmp_path / "out", ask=12, **how)
    if answers:
        answer_sheets.fill(result.questions, lambda row: tiny.LABELS[TARGET[row]["label"]])
        result = run(shift_model, tmp_path / "out", answers=result.questions, **how)
        assert result.answers.base_accuracy.value < result.answers.accuracy.value
    kept = tiny_shift.result_of(result.model)
    assert "probe" in result.chosen or result.chosen == TRAINED_ON
    assert kept["verdict"] == "adapted"
    assert kept["reasons"][0].startswith("probe takes the place of source-only as the model that others have to beat")
    assert "that of probe" in kept["refused"]["source-only"]
    assert "source-only" in (result.model / "README.md").read_text()


def test_it_is_not_made_twice(result, shift_model, monkeypatch):
    monkeypatch.setattr(probe_candidate, "fit_probe", None)
    again = run(shift_model, result.model, ask=40)
    assert again.chosen == result.chosen


def test_it_counts_rows_as_training_does(shift_model, tmp_path):
    """`weight`, `class_weights` and `source_weights` are multiplied."""
    weights = np.linspace(0.5, 2.0, len(SOURCE))
    weighted = SOURCE.add_column("weight", weights.tolist())
    trainer = AdaptationTrainer(
        shift_model,
        tiny_shift.config(tmp_path, class_weights={tiny.LABELS[1]: 3.0}, source_weights={"b": 0.5}),
        {"a": weighted, "b": weighted.select(range(20))},
    )
    rows = probe_candidate.source_rows(trainer)
    labels = np.concatenate([SOURCE["label"], SOURCE["label"][:20]])
    expected = np.concatenate([weights, 0.5 * weights[:20]]) * np.where(labels == 1, 3.0, 1.0)
    assert np.array_equal(rows.labels, labels)
    assert np.allclose(rows.weights, expected)


def test_of_many_rows_some_are_drawn_with_their_weights(shift_model, tmp_path, monkeypatch):
    monkeypatch.setattr(probe_candidate, "MOST_ROWS", 30)
    weights = [1.0 + label for label in SOURCE["label"]]
    trainer = AdaptationTrainer(
        shift_model, tiny_shift.config(tmp_path), {"a": SOURCE.add_column("weight", weights), "b": SOURCE}
    )
    rows = probe_candidate.source_rows(trainer)
    assert len(rows.labels) == len(rows.features) == 30
    assert np.array_equal(rows.weights[:15], 1.0 + rows.labels[:15])
    assert set(rows.weights[15:]) == {1.0}


def test_rows_that_count_nothing_change_nothing(shift_model, tmp_path):
    trainer = AdaptationTrainer(shift_model, tiny_shift.config(tmp_path), SOURCE)
    rows = probe_candidate.source_rows(trainer)
    wrong = dataclasses.replace(rows, labels=(rows.labels + 1) % 3, weights=np.zeros(len(rows.labels)))
    both = probe_candidate.ProbeRows(
        *(np.concatenate(pair) for pair in zip(*map(vars_of, (rows, wrong)), strict=True))
    )
    plain, other = (probe_candidate.fitted_probe(trainer, [of], 1.0) for of in (rows, both))
    x = rows.features.astype(float)
    assert np.allclose(plain.logits(x), other.logits(x), atol=1e-2)
    counted = probe_candidate.fitted_probe(trainer, [wrong_counts(both)], 1.0)
    assert not np.allclose(plain.logits(x), counted.logits(x), atol=0.1)
    assert len({probe_candidate.source_strength(trainer, of) for of in (rows, both)}) == 1


def vars_of(rows) -> tuple:
    return rows.features, rows.labels, rows.weights


def wrong_counts(rows):
    return dataclasses.replace(rows, weights=np.ones(len(rows.labels)))


def bare_roberta(folder: Path) -> str:
    """RoBERTa without a trained head, which has a dense layer there whose features mean nothing."""
    tokenizer = tiny.tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=80, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_new_weights_below_the_final_layer_leave_it_out(tmp_path):
    result = run(bare_roberta(tmp_path / "model"), tmp_path / "out", max_steps=1)
    failed = tiny_shift.result_of(result.model)["failed"]
    assert "classifier.dense below the final layer is new" in failed["probe"]
    assert "made of probe, which failed" in failed["tuned"]
    assert result.chosen == "source-only"


def test_lists_for_images_have_one_unless_there_are_no_features_yet():
    for effort in ("standard", "thorough"):
        assert [r.name for r in candidate_list(effort, "image") if r.probe] == ["probe"]
        scratch = candidate_list(effort, "image", from_scratch=True)
        assert not any(r.probe for r in scratch)
        assert {name for r in scratch for name in r.parts} <= {r.name for r in scratch}


def test_a_mean_is_of_the_parts_that_were_made(tmp_path):
    """A probe that cannot be fitted does not take the mean and its student with it."""
    entries = {"source-only": {}, "second": {"seed": 9}, "probe": {"probe": True}, "third": {"seed": 7}}
    entries |= {"mean": {"mean_of": list(entries)}, "pair": {"mean_of": ["second", "probe"]}}
    maker = CandidateMaker(runner_of(bare_roberta(tmp_path / "model"), tmp_path / "out"), read_candidates(entries))
    outcomes = {outcome.name: outcome for outcome in maker.make_all()}
    assert outcomes["mean"].recipe.mean_of == ("source-only", "second", "third")
    assert outcomes["mean"].predictions is not None
    assert "made of probe, which failed" in outcomes["pair"].failure


def test_a_model_from_scratch_is_refused_before_anything_is_trained(tmp_path):
    settings = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    maker = CandidateMaker(runner_of(settings, tmp_path), read_candidates(LIST))
    with pytest.raises(ValueError, match=r"Candidate 'probe': .* trained from scratch, and has no features yet"):
        maker.check(tiny.LABELS)


def turned(row: int) -> str:
    """Labels of a target where the classes have changed their names."""
    return tiny.LABELS[(TARGET[row]["label"] + 1) % 3]


@pytest.fixture(scope="module")
def answered(result, shift_model, tmp_path_factory):
    """The run with answers that nothing but labels of the target can tell."""
    path = tmp_path_factory.mktemp("answers") / "mine.csv"
    path.write_bytes(result.questions.read_bytes())
    answer_sheets.fill(path, turned)
    folder = tmp_path_factory.mktemp("answered") / "out"
    return run(shift_model, folder, answers=path), path


def test_answers_make_a_probe_that_is_compared_on_rows_which_it_has_not_seen(answered):
    result, _ = answered
    by_name = {c.name: c for c in result.answers.comparisons}
    assert list(by_name)[-2:] == [TRAINED_ON, PROBED]
    assert by_name[PROBED].level == 0.02
    assert any(sentence.startswith(f"{PROBED} takes the place") or f"{PROBED} does not" in sentence
               for sentence in result.answers.sentences)  # fmt: skip
    entry = next(entry for entry in result.verdicts.entries if entry.name == PROBED)
    assert entry.verdict == "adapted"
    assert not any(entry.name == f"{PROBED}, corrected" for entry in result.verdicts.entries)
    assert (entry.outcome.folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("facts", "planned", "refused", "taken"),
    [
        ({"gain": 0.05, "p": 0.3, "p_worse": 0.7, "wins": False}, False, False, False),
        ({"gain": 0.05, "p": 0.3, "p_worse": 0.7, "wins": False}, True, False, True),
        ({"gain": 0.05, "p": 0.3, "p_worse": 0.7, "wins": False}, True, True, False),
        ({"gain": -0.05, "p": 0.9, "p_worse": 0.1, "wins": False}, True, False, False),
        ({"gain": 0.05, "p": 0.01, "p_worse": 0.99, "wins": True}, False, True, True),
    ],
)
def test_the_probe_with_answers_is_planned_where_a_probe_stood(facts, planned, refused, taken):
    comparison = PairedComparison(PROBED, "probe", level=0.2, **facts)
    assert probe_is_taken(comparison, planned, refused) == taken


def test_its_folder_is_found_again_and_other_answers_fit_another(answered, shift_model, monkeypatch, tmp_path):
    result, path = answered
    fits = []
    fit = probe_candidate.fit_probe
    monkeypatch.setattr(probe_candidate, "fit_probe", lambda *args: fits.append(1) or fit(*args))
    again = run(shift_model, result.model, answers=path)
    assert again.chosen == result.chosen
    assert len(fits) == 5  # of the parts; the candidate itself is there


def test_an_answer_has_no_part_in_its_own_prediction(result, shift_model, tmp_path):
    runner = runner_of(shift_model, tmp_path)
    answers = answers_of(list(range(10)))
    changed = answers_of(list(range(10)), flipped=3)
    one, other = (AnswerProbe(runner, given).cross_fitted_logits() for given in (answers, changed))
    same = [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]
    assert same[3]
    assert not all(same)


def answers_of(rows: list[int], flipped: int | None = None) -> Answers:
    labels = [np.array([(TARGET[row]["label"] + (row == flipped)) % 3]) for row in rows]
    questions = tuple(Question(k + 1, row, 0.1, 240) for k, row in enumerate(rows))
    return Answers(Path("a.csv"), questions, np.arange(len(rows)), tuple(labels))


def runner_of(model, folder: Path):
    args = tiny_shift.config(folder)
    inputs = RunInputs(model, args, {"source": SOURCE}, {"source": SOURCE.select(range(40))}, TARGET)
    return CandidateRunner(inputs, folder, 240)


def test_two_sources_are_one_for_the_probe(shift_model, tmp_path):
    halves = {"a": SOURCE.select(range(80)), "b": SOURCE.select(range(80, 160))}
    trainers = [
        AdaptationTrainer(shift_model, tiny_shift.config(tmp_path / name), rows)
        for name, rows in (("one", concatenate_datasets(list(halves.values()))), ("two", halves))
    ]
    one, two = (probe_candidate.fitted_probe(t, [probe_candidate.source_rows(t)], 1.0) for t in trainers)
    assert np.allclose(one.weights, two.weights, atol=1e-3)
