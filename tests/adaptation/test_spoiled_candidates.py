"""Spoiled candidates and a target that lacks classes: what is handed over is not worse, and the page says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_shift
import torch

from hftransfer import AdaptationTrainer, SelectionRule
from hftransfer.adaptation.adapt import domain_lines
from hftransfer.adaptation.candidate_folder import ModelFacts
from hftransfer.adaptation.candidate_list import CandidateRecipe
from hftransfer.adaptation.candidate_run import CandidateOutcome
from hftransfer.adaptation.judging import judge
from hftransfer.adaptation.stored_predictions import StoredPredictions

CLASSES = ["0", "1", "2"]
WORSE = 0.005  # of accuracy on the target's test rows, that may be lost
SPOILED = {
    "heavy": {
        "about": "an objective that is nearly all there is",
        "training": {"objectives": {"mmd": 1000.0}, "learning_rate": 1e-2},
    },
    "flipped": {"about": "trained on the next class's labels", "training": {"objectives": {"im": 0.1}}},
    "collapsed": {
        "about": "one class alone counts",
        "training": {"objectives": {"im": 0.0}, "class_weights": {"down": 1.0, "up": 0.0, "flat": 0.0}},
    },
}


def accuracies(result) -> dict[str, float]:
    """Accuracy on the target's test rows of all that was judged."""
    return {
        e.name: float((e.predictions.target_test_logits.argmax(1) == e.predictions.target_test_labels_oracle).mean())
        for e in result.verdicts.entries
    }


@pytest.fixture
def flipping(monkeypatch):
    """The candidate `flipped` is trained with each label replaced by the next class's."""
    compute_loss = AdaptationTrainer.compute_loss

    def flipped(trainer, model, inputs, *args, **kwargs):
        if Path(trainer.args.output_dir).name == "flipped":
            labels = inputs["labels"]
            inputs = inputs | {"labels": torch.where(labels >= 0, (labels + 1) % 3, labels)}
        return compute_loss(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "compute_loss", flipped)


def test_spoiled_candidates_are_not_handed_over(shift_model, tmp_path, flipping):
    folder = tmp_path / "mine"
    result = tiny_shift.run(shift_model, folder, candidates={"source-only": {}} | SPOILED, learning_rate=3e-3)
    oracle, kept = accuracies(result), tiny_shift.result_of(folder)
    page = result.report.read_text()
    assert result.chosen in ("source-only", "source-only, corrected")
    for name in SPOILED:
        if name != "collapsed":  # which answers as most rows of the target are
            assert oracle[name] < oracle["source-only"] - 0.1, (name, oracle)
        assert kept["refused"][name]
        assert kept["refused"][name] in page.replace("&#39;", "'")
    assert oracle[result.chosen] >= oracle["source-only"] - WORSE


def logits_of(kind: str, labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(n, 3) logits of a model of some kind."""
    right = np.eye(3)[labels]
    noise = draw.normal(size=right.shape)
    return {
        "fair": 2 * right + noise,
        "constant": np.zeros_like(right),
        "one class": noise + np.array([50, 0, 0]),
        "huge": 1e30 * (right + noise),
        "sure": 1e4 * right,
        "flipped": np.roll(2 * right + noise, 1, axis=1),
    }[kind].astype(np.float32)


def predicted(kind: str, seed: int, rows: tuple[int, int]) -> CandidateOutcome:
    """Outcome of a candidate of some kind; the first is the plain run."""
    draw, (n, m) = np.random.default_rng(seed), rows
    labels, target = np.arange(n) % 3, np.random.default_rng(0).integers(3, size=m)
    first, second = np.arange(m - 1), np.arange(1, m)
    features = [np.zeros((r, 4)) if kind == "constant" else 6e4 * draw.uniform(-1, 1, (r, 4)) for r in rows]
    stored = StoredPredictions(
        logits_of(kind, labels, draw), labels, logits_of(kind, target, draw), np.arange(m), np.arange(m),
        *(part.astype(np.float16) for part in features), logits_of(kind, target[first], draw), first, second,
    )  # fmt: skip
    plan = CandidateRecipe(f"{kind} {seed}", training={"objectives": "im"} if seed else {})
    facts = ModelFacts(CLASSES, [10] * 3, "classifier", "sequence-classification", "text")
    return CandidateOutcome(plan, Path(kind), stored, model=facts)


KINDS = ("fair", "constant", "one class", "huge", "sure", "flipped")


@pytest.mark.parametrize("base", KINDS)
def test_whatever_models_predict_they_can_be_judged(base):
    """From three validation rows, one of each class, and twenty target rows on."""
    outcomes = [predicted(kind, seed, (3, 20)) for seed, kind in enumerate((base, *KINDS))]
    with tiny_shift.with_short_estimates():
        verdicts = judge(outcomes, SelectionRule(), CLASSES)
    assert verdicts.chosen.name not in verdicts.judgement.refused
    assert {"constant 2", "one class 3", "flipped 6"} <= set(verdicts.judgement.refused)
    assert domain_lines(verdicts, None)
    assert all(np.isfinite(list(values.values())).all() for values in verdicts.judgement.scores.values())


@pytest.mark.slow
@pytest.mark.parametrize("frequencies", [(0.5, 0.5, 0, 0), (0.8, 0.2, 0, 0)], ids=str)
@pytest.mark.parametrize("clear", [0.8, 0.6], ids=["as clear as the source", "less clear"])
def test_a_target_that_lacks_half_the_classes_is_not_harmed(tmp_path, frequencies, clear):
    even = (0.25,) * 4
    result = tiny_shift.run(
        tiny_shift.save_model(tmp_path / "model", classes=4),
        tmp_path / "mine",
        exact=True,
        source=tiny_shift.domain(240, 0, even),
        target=tiny_shift.domain(400, 1, frequencies, labelled=False, clear=clear),
        validation=tiny_shift.domain(240, 2, even),
        test={"target": tiny_shift.domain(600, 4, frequencies, clear=clear)},
    )
    oracle = accuracies(result)
    assert oracle[result.chosen] >= oracle["source-only"] - WORSE, oracle
    page = result.report.read_text()
    assert result.facts.headline in page
    if result.verdict == "corrected":  # the page says that these classes are not expected
        rare = {facts.name for facts in result.facts.classes if facts.estimated_share < 0.2 / 4}
        assert rare
        assert rare <= {"flat", "other"}
        said = next(reason for reason in result.reasons if reason.startswith("Hardly any target row is expected of"))
        assert all(f"'{name}'" in said for name in rare)
        assert "Hardly any target row is expected of" in page
