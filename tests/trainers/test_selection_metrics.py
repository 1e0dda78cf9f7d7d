"""Choosing by source and target together, without target labels: the selection score and single validators."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from transformers import EarlyStoppingCallback

from hftransfer import AdaptationTrainer, Predictions, get_validator
from hftransfer.selection.model_predictions import MixedPairs, softmax
from hftransfer.selection.selection_score import SelectionScore, calibrate
from hftransfer.selection.validators.mixval import draw_pairs
from hftransfer.trainers.hyperparameter_search import HyperparameterSearch
from hftransfer.trainers.prediction_pass import predict_mixed, predict_rows

SCORE = "eval_selection_score"
PARTS = {"source_accuracy", "information", "nuclear_norm", "mixval_inter"}


def sets(**more):
    return {"source": tiny.domain(30, seed=5), "target": tiny.domain(30, seed=6), **more}


def choosing(folder, metric=SCORE, evaluation=None, **settings):
    """A run that evaluates and saves after each of its steps, at a rate at which metrics jump."""
    schedule = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 4}
    return runs.trainer(
        folder,
        settings.pop("model", None) or tiny.bert(initializer_range=0.3),
        eval_dataset=evaluation or sets(),
        metric_for_best_model=metric,
        **{"load_best_model_at_end": True, "learning_rate": 1e-2} | schedule | settings,
    )


def predictions(run, source, target, mixed=True):
    """By hand, of what the model now says."""
    s, t = predict_rows(run, source), predict_rows(run, target)
    first, second = draw_pairs(t.logits.argmax(1))
    pairs = MixedPairs(softmax(predict_mixed(run, target, first, second)), first, second) if mixed else None
    return Predictions(s.logits, s.labels, t.logits, s.features, t.features, mixed=pairs)


def test_the_best_checkpoint_by_the_score_comes_back(tmp_path):
    run = choosing(tmp_path, max_steps=6)
    run.train()
    values = runs.logged(run, SCORE)
    assert len(values) == 6
    assert len(set(values)) > 1
    assert run.state.best_metric == max(values)
    assert run.state.best_global_step == values.index(max(values)) + 1
    metrics = run.evaluate()
    scored = SelectionScore().score(predictions(run, *sets().values()))
    assert metrics[SCORE] == pytest.approx(max(values), abs=1e-6)
    assert scored.value == pytest.approx(max(values), abs=1e-6)
    assert {name: metrics[f"eval_selection_{name}"] for name in PARTS} == pytest.approx(scored.parts)


def test_it_reads_no_label_of_the_target(tmp_path):
    shuffled = sets()["target"]
    labels = np.random.default_rng(0).permutation(shuffled["label"]).tolist()
    shuffled = shuffled.remove_columns("label").add_column("label", labels, feature=shuffled.features["label"])
    scores = []
    for i, target in enumerate((sets()["target"], shuffled, shuffled.remove_columns("label"))):
        run = choosing(tmp_path / str(i), evaluation=sets(target=target), max_steps=2)
        run.train()
        scores.append(runs.logged(run, SCORE))
    assert scores[0] == scores[1] == scores[2]


def test_without_a_target_set_the_rows_of_the_training_target_are_scored(tmp_path):
    run = choosing(tmp_path, "selection_score", tiny.domain(30, seed=5))
    expected = SelectionScore().score(predictions(run, tiny.domain(30, seed=5), tiny.domain(seed=1))).value
    assert run.evaluate()[SCORE] == pytest.approx(expected, abs=1e-6)
    assert SCORE not in runs.trainer(tmp_path / "other", eval_dataset=sets()).evaluate()  # nobody asked


def test_accuracy_on_the_source_that_has_fallen_is_refused(tmp_path, caplog):
    run = choosing(tmp_path)
    run.state.log_history.append({"eval_selection_source_accuracy": 1.0, "step": 3})
    metrics = run.evaluate()
    assert metrics[SCORE] == -1
    assert metrics["eval_selection_source_accuracy"] < 0.97
    assert "this checkpoint is refused. Accuracy on the source is" in caplog.text
    run.state.best_global_step = 2  # the model is that of step 2, before accuracy was better
    run.state.log_history.pop(-1)
    assert run.evaluate()[SCORE] > 0


def test_broken_predictions_are_refused(tmp_path):
    run = choosing(tmp_path)
    run.model.model.classifier.weight.data[0] = torch.nan
    assert run.evaluate()[SCORE] == -1


def test_a_run_stops_early(tmp_path):
    stopper = EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=10.0)
    run = choosing(tmp_path, callbacks=[stopper], max_steps=8)
    run.train()
    assert run.state.global_step == 3  # nothing rises by ten: the third evaluation ends it


@pytest.mark.parametrize("metric", ["snd", "entropy", "class_ami", "mixval_intra", "atc"])
def test_a_validator_chooses(metric, tmp_path):
    run = choosing(tmp_path, f"validator_{metric}", max_steps=2)
    run.train()
    values = runs.logged(run, f"eval_validator_{metric}")
    assert run.state.best_metric == max(values)
    expected = get_validator(metric).score(calibrate(predictions(run, *sets().values())))
    assert run.evaluate()[f"eval_validator_{metric}"] == pytest.approx(expected, abs=1e-5)


def test_a_run_that_is_scored_is_the_same_run(tmp_path):
    states = []
    for metric in (SCORE, "eval_source_loss"):
        run = choosing(tmp_path / metric, metric, load_best_model_at_end=False)
        run.train()
        states.append(run.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_resumed_run_scores_alike(tmp_path):
    def go(folder, steps, resume=None):
        run = choosing(folder, max_steps=steps, load_best_model_at_end=False)
        run.train(resume)
        return run

    whole = go(tmp_path / "whole", 4)
    again = go(tmp_path / "again", 4, str(tmp_path / "whole/checkpoint-2"))
    assert runs.logged(whole, SCORE) == runs.logged(again, SCORE)


def test_several_sources_a_stream_and_tags(tmp_path):
    two = {"news": tiny.domain(8), "law": tiny.domain(9, seed=4)}
    evaluation = {"news": tiny.domain(9, seed=5), "target": tiny.domain(7, seed=6).to_iterable_dataset()}
    run = choosing(tmp_path / "two", evaluation=evaluation | {"law": tiny.domain(12, seed=7)}, train_dataset=two)
    source = [predict_rows(run, evaluation["news"]), predict_rows(run, tiny.domain(12, seed=7))]
    right = np.concatenate([p.logits.argmax(1) == p.labels for p in source])
    assert run.evaluate()["eval_selection_source_accuracy"] == pytest.approx(right.mean())

    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)}
    run = choosing(
        tmp_path / "tags",
        model=tiny.bert(tiny.TAGS, tagging=True, initializer_range=0.3),
        evaluation={"source": tiny.tagged(seed=2), "target": tiny.tagged(seed=3)},
        **data,
    )
    metrics = run.evaluate()
    expected = SelectionScore().score(predictions(run, tiny.tagged(seed=2), tiny.tagged(seed=3), mixed=False))
    assert metrics[SCORE] == pytest.approx(expected.value, abs=1e-6)
    assert "eval_selection_mixval_inter" not in metrics


def test_a_search_aims_at_it(tmp_path):
    pytest.importorskip("optuna")
    run = AdaptationTrainer(
        args=runs.config(tmp_path, metric_for_best_model=SCORE, max_steps=1),
        model_init=lambda: tiny.bert(initializer_range=0.3),
        train_dataset=tiny.domain(),
        target_dataset=tiny.domain(seed=1, labelled=False),
        eval_dataset=sets(),
        processing_class=tiny.tokenizer(),
    )
    aim = HyperparameterSearch(run, run.prepared, run.constructor_arguments).find_aim(None, None)
    assert (aim.metric, aim.direction) == (SCORE, "maximize")
    best = run.hyperparameter_search(n_trials=2)
    assert -1 <= best.objective <= 1


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("selection_score", {"greater_is_better": False}, "would keep the worst checkpoint by selection_score"),
        ("selection_score", {"eval_dataset": {"target": tiny.domain(9)}}, "needs a source's labelled validation"),
        ("selection_score", {"eval_dataset": None}, "needs a source's labelled validation rows"),
        ("selection_score", {"eval_dataset": sets(target=tiny.domain(1))}, "needs two target rows"),
        ("validator_snt", {}, "There is no validator 'snt'.*Did you mean 'snd'"),
        ("eval_validator_ensemble_agreement", {}, "compares several models, and a run has one"),
        ("validator_snd", {"eval_dataset": sets(validator=tiny.domain(9))}, "Rename the set"),
        ("selection_scor", {}, "Did you mean 'selection_score'"),
    ],
)
def test_what_cannot_be_scored_is_said_at_once(metric, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, metric_for_best_model=metric, **{"eval_dataset": sets()} | settings)


def test_other_tasks_and_runs_without_a_target_have_none(tmp_path):
    numbers = tiny.domain(9, labelled=False).add_column("label", [0.25, 1.5, -2.0] * 3)
    with pytest.raises(ValueError, match="this is regression"):
        runs.trainer(
            tmp_path, tiny.bert(("score",)), train_dataset=numbers, eval_dataset=numbers, metric_for_best_model=SCORE
        )
    with pytest.raises(ValueError, match="needs target rows"):
        AdaptationTrainer(
            tiny.bert(),
            runs.config(tmp_path, objectives=None, metric_for_best_model=SCORE),
            tiny.domain(),
            eval_dataset={"source": tiny.domain(9)},
            processing_class=tiny.tokenizer(),
        )
    with pytest.raises(ValueError, match="sentences of tagged words"):
        runs.trainer(
            tmp_path,
            tiny.bert(tiny.TAGS, tagging=True),
            train_dataset=tiny.tagged(),
            target_dataset=tiny.tagged(seed=1, labelled=False),
            eval_dataset={"source": tiny.tagged(seed=2)},
            metric_for_best_model="validator_mixval_inter",
        )
