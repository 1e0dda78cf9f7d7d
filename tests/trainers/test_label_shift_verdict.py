"""Class weights estimated in training are tested, and a run says whether they are to be trusted."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import runs
import tiny
import torch

from hftransfer.objectives.label_shift_weights import LabelShift
from hftransfer.selection.explained_gap import explain_gap
from hftransfer.selection.model_predictions import Predictions
from hftransfer.trainers.label_shift_verdict import judge_weights
from hftransfer.trainers.results import save_results

BANK = Path(__file__).parents[3] / "shared" / "bank"


def predictions(frequencies, blurred: float = 1.0, seed: int = 1) -> Predictions:
    """Of a calibrated classifier of Gaussians: half of each class in the source."""
    draw = np.random.default_rng(seed)

    def rows(frequencies, n=600):
        labels = draw.choice(2, n, p=frequencies)
        return labels, 4 * (np.eye(2)[labels] + draw.normal(size=(n, 2)) / 2)

    (labels, source), (_, target) = rows([0.5, 0.5]), rows(frequencies)
    return Predictions(source, labels, blurred * target)


def test_right_weights_are_trusted_and_wrong_ones_are_not():
    p = predictions([0.2, 0.8])
    verdict = judge_weights(p, np.array([0.4, 1.6]))
    assert verdict.trusted is True
    assert verdict.text.startswith("The class weights are to be trusted: they explain 9")
    assert verdict.text.endswith("times what chance shows.")
    assert "weak evidence" in judge_weights(p, np.array([0.4, 1.6]), trained_with="mmd").text
    verdict = judge_weights(p, np.array([1.6, 0.4]))
    assert verdict.trusted is False
    assert "they explain 0 % of the gap" in verdict.text
    assert verdict.text.endswith("so that the domains differ in something else; leave label_shift out.")


def test_without_a_gap_there_is_nothing_to_correct():
    verdict = judge_weights(predictions([0.5, 0.5]), np.array([0.6, 1.4]))
    assert verdict.trusted is False
    assert "no more than by chance" in verdict.text


def test_a_shift_of_inputs_is_no_label_shift():
    verdict = judge_weights(predictions([0.5, 0.5], blurred=0.3), np.array([1.2, 0.8]))
    assert verdict.trusted is False
    assert "what is left is" in verdict.text


def test_weights_need_a_factor_for_each_class():
    with pytest.raises(ValueError, match=r"weights has shape \(3,\) where predictions have 2 classes"):
        explain_gap(predictions([0.5, 0.5]), np.ones(3))


@pytest.mark.skipif(not BANK.is_dir(), reason="needs stored predictions")
def test_stored_predictions_tell_the_press_from_the_sample():
    """Weights as a run estimates them, from source rows and the target of several epochs: right on press → PubMed,
    whose class frequencies differ, and wrong on the sample corpus, whose do not."""
    for name, trusted in (("press-pubmed", [True, True]), ("sample", [False, False])):
        for seed, expected in zip((1, 2), trusted, strict=True):
            with np.load(BANK / f"{name}.source-only.{seed}.npz") as file:
                arrays = {key: file[key].astype(np.float32) for key in file.files if key.endswith("logits")}
                labels = {key: file[key].astype(int) for key in file.files if "source" in key and "labels" in key}
            target = arrays["target_train_logits"]
            estimate = LabelShift(target.shape[1], "mlls", rows=len(target))
            for _ in range(3):
                source = torch.from_numpy(arrays["source_test_logits"])
                source_labels = torch.from_numpy(labels["source_test_labels"])
                estimate.observe(source, source_labels, torch.from_numpy(target))
            p = Predictions(arrays["source_validation_logits"], labels["source_validation_labels"], target)
            assert judge_weights(p, estimate.weights.numpy()).trusted is expected, (name, seed)


# ---- runs


def test_a_run_says_whether_its_weights_are_to_be_trusted(tmp_path, caplog):
    """In log, card and results; random states stay as they were."""
    sets = {"source": tiny.domain(seed=2), "target": tiny.domain(seed=3)}
    settings = {"objectives": {"mmd": 0.1}, "max_steps": 8, "label_shift": "mlls", "label_shift_task": "bias"}
    run = runs.trainer(tmp_path / "run", eval_dataset=sets, **settings)
    with caplog.at_level(logging.INFO, "hftransfer"):
        run.train()
    verdict = run.label_shift_verdict
    assert verdict.trusted is False  # nothing differs
    assert f"label_shift: {verdict.text}" in [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    save_results(run, {"adapted": {"source_accuracy": 0.5}})
    assert json.loads((tmp_path / "run/results.json").read_text())["notes"][-1] == verdict.text
    card = (tmp_path / "run/README.md").read_text()
    assert "| label shift | mlls: the class weights are not to be trusted: " in card

    untested = runs.trainer(tmp_path / "untested", **settings)
    untested.train()
    assert untested.label_shift_verdict.trusted is None
    assert untested.label_shift_verdict.text == (
        "Whether the class weights are to be trusted could not be tested: the source has no evaluation set; pass one "
        "in eval_dataset."
    )
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), untested.model.parameters(), strict=True))


def test_a_run_without_an_estimate_has_nothing_to_test(tmp_path):
    run = runs.trainer(tmp_path, label_shift="mlls", max_steps=1, eval_dataset={"source": tiny.domain(seed=2)})
    run.train()
    assert "none was estimated" in run.label_shift_verdict.text
    plain = runs.trainer(os.path.join(tmp_path, "plain"), max_steps=1)
    plain.train()
    assert plain.label_shift_verdict is None
