"""Rounds of self-training: quotas, who teaches, what is kept, the list of candidates, and a run from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_shift

from hftransfer import AdaptationTrainer, SelectionRule
from hftransfer.adaptation import candidate_maker
from hftransfer.adaptation.candidate_folder import ModelFacts
from hftransfer.adaptation.candidate_list import candidate_list, read_candidates
from hftransfer.adaptation.candidate_run import CandidateOutcome
from hftransfer.adaptation.class_quotas import within_quotas
from hftransfer.adaptation.round_decision import RoundDecision, decide_round
from hftransfer.adaptation.round_teaching import choose_teachers
from hftransfer.adaptation.self_training_rounds import with_rounds
from hftransfer.adaptation.stored_predictions import StoredPredictions

LIST = {
    "source-only": {},
    "student": {"student_of": "source-only", "start": "source-only"},
    "student-2": {"round_of": ["source-only", "student"]},
    "student-3": {"round_of": ["source-only", "student-2"]},
}
CLASSES, SOURCE, TARGET = 3, 300, 400
RECIPES = {recipe.name: recipe for recipe in read_candidates(LIST)}


# ---- quotas


def test_of_each_class_the_surest_expected_rows_are_kept():
    draw = np.random.default_rng(0)
    for frequencies in ([0.2, 0.3, 0.5], [0.9, 0.05, 0.05]):
        p = draw.dirichlet(np.ones(3) / 2, 200)
        kept = within_quotas(p, np.array(frequencies), 0.7)
        for k, frequency in enumerate(frequencies):
            of_class = [i for i in range(200) if p[i].argmax() == k]
            quota = min(len(of_class), int(np.ceil(0.7 * frequency * 200)))
            wanted = sorted(of_class, key=lambda i: -p[i].max())[:quota]
            assert sorted(np.flatnonzero(kept & (p.argmax(1) == k))) == sorted(wanted)


def test_a_class_that_is_rarer_than_expected_is_kept_whole():
    p = np.array([[0.9, 0.1]] * 9 + [[0.4, 0.6]])
    assert within_quotas(p, np.array([0.5, 0.5]), 1.0).tolist() == [True] * 5 + [False] * 4 + [True]


# ---- teachers and decisions


def outcome(name: str, strength: float, seed: int = 0, frequencies=(1 / 3, 1 / 3, 1 / 3), tagging: bool = False):
    """A candidate whose predictions are right by as much as `strength` says; its errors are those of the seed."""
    draw = np.random.default_rng(7)
    source_labels, labels = draw.choice(CLASSES, SOURCE), draw.choice(CLASSES, TARGET, p=frequencies)
    noise = np.random.default_rng(seed)
    source, target = (
        strength * np.eye(CLASSES)[y] + noise.normal(size=(len(y), CLASSES)) for y in (source_labels, labels)
    )
    rows = np.arange(TARGET) // (4 if tagging else 1)
    stored = StoredPredictions(source, source_labels, target, rows, np.arange(0, TARGET, 2))
    task = "token-classification" if tagging else "sequence-classification"
    model = ModelFacts(["a", "b", "c"], [100, 100, 100], "classifier", task, "text")
    return CandidateOutcome(RECIPES[name], None, stored, model=model)


def relabelled(found: CandidateOutcome, change) -> CandidateOutcome:
    assert found.predictions is not None
    return replace(
        found, predictions=replace(found.predictions, target_logits=change(found.predictions.target_logits))
    )


def test_teachers_are_calibrated_and_corrected_and_quotas_follow_a_believed_shift():
    base = outcome("source-only", 3.0, frequencies=(0.7, 0.2, 0.1))
    student = outcome("student", 3.0, seed=1, frequencies=(0.7, 0.2, 0.1))
    teaching = choose_teachers(["source-only", "student"], [base, student], SelectionRule())
    assert [m.outcome.name for m in teaching.members] == ["source-only", "student"]
    assert teaching.shift.believed
    taught, follower = teaching.members
    assert np.array_equal(taught.weights, teaching.shift.weights)
    assert follower.weights is None  # what target rows did to its predictions is no shift
    mean = (taught.probabilities() + follower.probabilities()) / 2
    soft = teaching.soft_labels()
    kept = within_quotas(mean, teaching.shift.target_frequencies)
    np.testing.assert_array_equal(soft.rows, np.flatnonzero(kept))
    np.testing.assert_allclose(soft.probabilities, mean[kept])
    assert 0.5 * TARGET < len(soft.rows) < TARGET
    assert soft.class_weights["a"] > 1 > soft.class_weights["c"]


def test_without_a_believed_shift_quotas_are_of_what_the_members_predict():
    base, student = outcome("source-only", 3.0), outcome("student", 3.0, seed=1)
    teaching = choose_teachers(["source-only", "student"], [base, student], SelectionRule())
    assert not teaching.shift.believed
    mean, soft = teaching.probabilities(), teaching.soft_labels()
    np.testing.assert_array_equal(soft.rows, np.flatnonzero(within_quotas(mean, mean.mean(0))))
    assert soft.class_weights == {}


def test_of_sentences_those_are_taken_that_are_mostly_within_quotas():
    base, student = (outcome(name, 3.0, seed, tagging=True) for seed, name in enumerate(("source-only", "student")))
    teaching = choose_teachers(["source-only", "student"], [base, student], SelectionRule())
    mean, soft = teaching.probabilities(), teaching.soft_labels()
    kept = within_quotas(mean, mean.mean(0)).reshape(-1, 4).sum(1) >= 2
    np.testing.assert_array_equal(soft.rows, np.flatnonzero(kept))
    assert all(words.shape == (4, CLASSES) for words in soft.probabilities)
    np.testing.assert_allclose(soft.probabilities[0], mean.reshape(-1, 4, CLASSES)[kept][0])


def test_a_member_that_a_gate_refuses_or_that_failed_does_not_teach():
    base, student = outcome("source-only", 3.0), outcome("student", 3.0, seed=1)
    collapsed = relabelled(student, lambda z: z * 0 + np.array([9.0, 0, 0]))
    names = ["source-only", "student"]
    assert "student" in choose_teachers(names, [base, collapsed], SelectionRule()).left_out
    failed = CandidateOutcome(RECIPES["student"], failure="It broke.")
    assert choose_teachers(names, [base, failed], SelectionRule()).left_out == {"student": "It broke."}


def decided(new: CandidateOutcome, strength: float = 3.0) -> RoundDecision:
    base, student = outcome("source-only", strength), outcome("student", strength, seed=1)
    teaching = choose_teachers(["source-only", "student"], [base, student], SelectionRule())
    return decide_round(new, teaching, SelectionRule())


def test_a_round_that_goes_where_the_source_taught_predictions_lean_is_kept():
    better = decided(outcome("student-2", 6.0, seed=1))
    assert better.kept
    assert better.gain > 0
    assert "student-2 is kept beside student" in better.reason
    same = decided(replace(outcome("student", 3.0, seed=1), recipe=RECIPES["student-2"]))
    assert (same.kept, same.changed, same.gain, same.wins) == (True, 0.0, 0.0, 0)


def test_a_round_that_grows_surer_of_its_own_errors_is_not():
    """Its scores are better: surer answers, and no class lost. Those who never saw the target lean the other way."""
    student = outcome("student", 3.0, seed=1)
    assert student.predictions is not None
    draw = np.random.default_rng(3)
    wrong = draw.random(TARGET) < 0.05
    z = student.predictions.target_logits
    turned = np.where(wrong[:, None], np.roll(z, 1, axis=1), z)
    sure = replace(relabelled(student, lambda _: 5 * turned), recipe=RECIPES["student-2"])
    decision = decided(sure)
    assert not decision.kept
    assert decision.gain < 0
    assert "student stays" in decision.reason


def test_a_round_that_loses_a_class_is_refused_by_the_gate():
    lost = relabelled(outcome("student-2", 3.0, seed=1), lambda z: z - np.array([0, 0, 99.0]))
    decision = decided(lost)
    assert not decision.kept
    assert "never predicts 'c'" in decision.reason


def test_a_student_of_fewer_clear_scores_is_not_kept(monkeypatch):
    monkeypatch.setattr(SelectionRule, "_wins", lambda rule, samples: dict.fromkeys(samples, -1))
    decision = decided(replace(outcome("student", 3.0, seed=1), recipe=RECIPES["student-2"]))
    assert not decision.kept
    assert decision.gain == 0


# ---- the list


def test_a_number_of_rounds_takes_the_place_of_those_of_the_list():
    thorough = candidate_list("thorough")
    assert with_rounds(thorough, None) == thorough
    assert [r.name for r in thorough if r.round_of] == ["student-2", "student-3"]
    assert not [r for r in with_rounds(thorough, 0) if r.round_of]
    four = [r for r in with_rounds(thorough, 4) if r.round_of]
    assert [r.name for r in four] == ["student-2", "student-3", "student-4", "student-5"]
    assert [r.start for r in four] == ["student", "student-2", "student-3", "student-4"]
    assert four[0].round_of == thorough[-2].round_of
    assert four[3].round_of == (*thorough[-2].round_of[:-1], "student-4")
    assert with_rounds(candidate_list("standard"), 1)[-1].round_of == ("mean", "student")
    assert four[0].cost == 1


@pytest.mark.parametrize(
    ("entries", "rounds", "said"),
    [
        (LIST, -1, "whole number"),
        (LIST, True, "whole number"),
        (LIST, 1.5, "whole number"),
        ({"source-only": {}}, 1, "no candidate is one"),
        (LIST | {"soup": {"average_of": ["student", "student-2"]}}, 1, "is made of 'student-2'"),
        ({k: LIST[k] for k in ("source-only", "student")} | {"Student-2": {"seed": 1}}, 1, "but for capitals"),
    ],
)
def test_rounds_that_cannot_be_are_refused(entries, rounds, said):
    with pytest.raises(ValueError, match=said):
        with_rounds(read_candidates(entries), rounds)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"round_of": ["source-only", "student"], "start": "student"}, "leave start out"),
        ({"round_of": ["student", "source-only"]}, "ends with the student"),
        ({"round_of": ["student"]}, "at least two"),
        ({"round_of": ["source-only", "nobody"]}, "no candidate 'nobody'"),
        ({"round_of": ["source-only", "student"], "student_of": "source-only"}, "stands alone"),
    ],
)
def test_a_round_that_cannot_be_is_refused(value, said):
    with pytest.raises(ValueError, match=said):
        read_candidates({"source-only": {}, "student": {"student_of": "source-only"}, "x": value})


# ---- a run


@pytest.fixture(scope="module")
def model(shift_model):
    return shift_model


def adapted(model, folder, **how):
    target = tiny_shift.domain(120, 1, labelled=False)
    how = {"candidates": LIST, "target": target, "validation": tiny_shift.domain(90, 2)} | how
    return tiny_shift.run(model, folder, source_rows=80, max_steps=6, **how)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A run of two rounds, all of which are kept."""
    folder = tmp_path_factory.mktemp("rounds") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_maker, "decide_round", kept)
        return adapted(model, folder), folder


def kept(outcome, teaching, rule):
    return replace(decide_round(outcome, teaching, rule), kept=True, reason=f"{outcome.name} is kept.")


def test_rounds_are_candidates_with_their_reasons(whole):
    result, folder = whole
    names = ["source-only", "student", "student-2", "student-3"]
    assert [c.name.split(",")[0] for c in result.facts.candidates if "corrected" not in c.name] == names
    assert sorted(path.parent.name for path in (folder / "_candidates").glob("*/model.safetensors")) == names
    assert {"student-2 is kept.", "student-3 is kept."} <= set(result.reasons)
    assert "student-3 is kept." in (folder / "report.html").read_text()


@pytest.mark.parametrize("step", [14, pytest.param(11, marks=pytest.mark.slow)])
def test_a_round_that_was_stopped_goes_on_to_the_same_end(model, whole, tmp_path, monkeypatch, step):
    """Six steps of source-only, and three each of the student and two rounds."""
    _, unbroken = whole
    monkeypatch.setattr(candidate_maker, "decide_round", kept)
    steps, compute_loss = [], AdaptationTrainer.compute_loss

    def stopped(trainer, model, inputs, *args, **kwargs):
        steps.extend([1] * ("domain" in inputs))
        if len(steps) == step:
            raise KeyboardInterrupt
        return compute_loss(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "compute_loss", stopped)
    folder = tmp_path / "mine"
    how = {"save_strategy": "steps", "save_steps": 2}
    with pytest.raises(KeyboardInterrupt):
        adapted(model, folder, **how)
    adapted(model, folder, **how)
    for name in ("student-2", "student-3"):
        file = f"_candidates/{name}/model.safetensors"
        assert (folder / file).read_bytes() == (unbroken / file).read_bytes(), name
    assert tiny_shift.result_of(folder)["reasons"] == tiny_shift.result_of(unbroken)["reasons"]


def test_a_round_that_is_not_kept_is_set_aside_and_ends_the_rounds(model, tmp_path, monkeypatch, capsys):
    def refused(outcome, teaching, rule):
        return RoundDecision(False, f"{outcome.name} is not kept, and student stays.")

    monkeypatch.setattr(candidate_maker, "decide_round", refused)
    names, folder = tiny_shift.training_runs(monkeypatch), tmp_path / "mine"
    result = adapted(model, folder)
    assert names == ["source-only", "student", "student-2"]
    assert result.chosen.split(",")[0] in ("source-only", "student")
    written = json.loads((folder / "adaptation.json").read_text())
    assert written["refused"]["student-2"] == "student-2 is not kept, and student stays."
    assert written["refused"]["student-3"] == "student-3 is not made: student-2 was not kept."
    assert not written["failed"]
    page = (folder / "report.html").read_text()
    assert "student-3 is not made: student-2 was not kept." in page
    assert "student-2 is not kept, and student stays." in capsys.readouterr().out
    names.clear()
    adapted(model, folder)
    assert names == []


def test_the_number_of_rounds_is_an_argument(model, tmp_path, monkeypatch):
    names = tiny_shift.training_runs(monkeypatch)
    adapted(model, tmp_path / "mine", rounds=0)
    assert names == ["source-only", "student"]
