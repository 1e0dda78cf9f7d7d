"""Spoiled candidates and a target that lacks classes: what is handed over is not worse, and the page says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_shift
import torch

from hftransfer import AdaptationTrainer

WORSE = 0.005  # of accuracy on the target's test rows, that may be lost
SPOILED = {
    "heavy": {"about": "an objective at 10,000 times its weight", "training": {"objectives": {"im": 1000.0}}},
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


def test_spoiled_candidates_are_not_handed_over(tmp_path, flipping):
    model = tiny_shift.save_model(tmp_path / "model")
    folder = tmp_path / "mine"
    result = tiny_shift.run(model, folder, candidates={"source-only": {}} | SPOILED, learning_rate=3e-3)
    oracle, kept = accuracies(result), tiny_shift.result_of(folder)
    page = result.report.read_text()
    assert result.chosen in ("source-only", "source-only, corrected")
    for name in SPOILED:
        assert oracle[name] < oracle["source-only"] - 0.1, (name, oracle)  # it was spoiled indeed
        assert kept["refused"][name]
        assert kept["refused"][name] in page.replace("&#39;", "'")
    assert oracle[result.chosen] >= oracle["source-only"] - WORSE


@pytest.mark.slow
@pytest.mark.parametrize("frequencies", [(0.5, 0.5, 0, 0), (0.8, 0.2, 0, 0)], ids=str)
@pytest.mark.parametrize("clear", [0.8, 0.6], ids=["as clear as the source", "less clear"])
def test_a_target_that_lacks_half_the_classes_is_not_harmed(tmp_path, frequencies, clear):
    even = (0.25,) * 4
    result = tiny_shift.run(
        tiny_shift.save_model(tmp_path / "model", classes=4),
        tmp_path / "mine",
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
        shares = {facts.name: facts.estimated_share for facts in result.facts.classes}
        assert max(shares["flat"], shares["other"]) < 0.1
        assert all(name in page for name in shares)
