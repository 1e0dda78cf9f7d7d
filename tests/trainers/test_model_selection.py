"""Choosing a checkpoint: by source metrics or by ones that need no label, never by target labels unless asked to."""

from __future__ import annotations

import logging
import re

import pytest
import runs
import tiny
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback

from hftransfer.trainers.saving.checkpoint_files import STATE_FILE


def sets():
    return {"source": tiny.domain(9, seed=5), "target": tiny.domain(9, seed=6)}


def choosing(folder, metric, evaluation=None, **settings):
    """A run that evaluates and saves after each of its steps, at a rate at which metrics jump."""
    schedule = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 4}
    return runs.trainer(
        folder,
        settings.pop("model", None) or tiny.bert(initializer_range=0.3),
        eval_dataset=evaluation or sets(),
        metric_for_best_model=metric,
        load_best_model_at_end=True,
        learning_rate=3e-2,
        **schedule | settings,
    )


@pytest.mark.parametrize(
    ("metric", "more_is_better"),
    [
        ("eval_source_accuracy", True),
        ("source_macro_f1", True),
        ("eval_source_loss", False),
        ("eval_target_information", True),
        ("eval_target_entropy", False),
    ],
)
def test_the_best_checkpoint_comes_back(metric, more_is_better, tmp_path):
    run = choosing(tmp_path, metric)
    run.train()
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    values = runs.logged(run, key)
    assert len(values) == 4
    assert len(set(values)) > 1
    best = max(values) if more_is_better else min(values)
    assert run.state.best_metric == best
    assert run.state.best_global_step == values.index(best) + 1
    assert run.evaluate()[key] == pytest.approx(best, rel=1e-5)
    kept = type(run.model.model).from_pretrained(tmp_path / f"checkpoint-{values.index(best) + 1}")
    assert not runs.moved(run.model.model, runs.copied(kept))


@pytest.mark.parametrize("metric", ["eval_source_mse", "mae", "loss"])
def test_less_error_is_better_in_regression(metric, tmp_path):
    def data(seed):
        return tiny.domain(9, seed, labelled=False).add_column("label", [0.25, 1.5, -2.0] * 3)

    run = choosing(tmp_path, metric, data(5), train_dataset=data(0), model=tiny.bert(("score",)))
    run.train()
    values = runs.logged(run, f"eval_source_{metric.removeprefix('eval_source_')}")
    assert run.state.best_metric == min(values) < max(values)


def test_what_the_user_says_is_better_is_better(tmp_path):
    assert not runs.config(tmp_path, metric_for_best_model="eval_target_entropy").greater_is_better
    assert runs.config(tmp_path, metric_for_best_model="eval_target_entropy", greater_is_better=True).greater_is_better
    assert runs.config(tmp_path).greater_is_better is None


@pytest.mark.parametrize("metric", ["accuracy", "eval_accuracy", "eval_source_accuracy", "source_accuracy"])
def test_a_single_set_need_not_be_named(metric, tmp_path):
    run = choosing(tmp_path, metric, tiny.domain(9, seed=5), max_steps=2)
    run.train()
    assert run.state.best_metric == max(runs.logged(run, "eval_source_accuracy"))


def test_without_a_metric_the_sources_loss_decides(tmp_path):
    run = choosing(tmp_path, None, tiny.domain(9, seed=5), max_steps=2)
    run.train()
    assert run.state.best_metric == min(runs.logged(run, "eval_source_loss"))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("eval_target_accuracy", "reads the labels of 'target'.*eval_target_information.*eval_target_oracle_accuracy"),
        ("target_macro_f1", "reads the labels of 'target'"),
        ("eval_target_loss", "reads the labels of 'target'"),
        ("eval_target_oracle_accuracy", "reads the labels of 'target'.*as eval_target_oracle_accuracy"),
        ("loss", "does not say of which set"),
        ("eval_loss", "does not say of which set"),
        ("accuracy", r"names none of the evaluation sets \(source, target\).*Did you mean 'source_accuracy'"),
        ("eval_macro_f1", r"names none of .*Did you mean 'source_macro_f1'"),
        ("entropy", r"names none of .*Did you mean '(source|target)_entropy'"),
        ("eval_sorce_accuracy", "names none.*Did you mean 'source_accuracy'"),
        ("eval_source_acuracy", "sequence-classification has no metric 'acuracy'.*macro_f1.*Did you mean 'accuracy'"),
        ("eval_source_mse", "sequence-classification has no metric 'mse'; it has loss, accuracy, macro_f1"),
    ],
)
def test_metrics_that_cannot_choose(metric, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, eval_dataset=sets(), metric_for_best_model=metric)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("tags", "eval_source_f1_whole"),
        ("tags", "eval_target_diversity"),
        ("numbers", "eval_source_pearson"),
        ("classes", "eval_source_recall_up"),
    ],
)
def test_metrics_of_every_task_may_choose(task, metric, tmp_path):
    if task == "tags":
        model, make = tiny.bert(tiny.TAGS, tagging=True), tiny.tagged
    elif task == "numbers":
        model = tiny.bert(("score",))
        make = lambda seed: tiny.domain(9, seed, labelled=False).add_column("label", [0.25, 1.5, -2.0] * 3)  # noqa: E731
    else:
        model, make = tiny.bert(), tiny.domain
    source, target = make(seed=0), make(seed=1)
    evaluation = {"source": make(seed=2), "target": make(seed=3)}
    data = {"train_dataset": source, "target_dataset": target.remove_columns("label"), "eval_dataset": evaluation}
    runs.trainer(tmp_path, model=model, metric_for_best_model=metric, **data)
    with pytest.raises(ValueError, match="has no metric 'nonesuch'"):
        runs.trainer(tmp_path, model=model, metric_for_best_model="eval_source_nonesuch", **data)


def test_labels_of_the_target_choose_only_when_asked_to(tmp_path):
    run = choosing(tmp_path, "eval_target_oracle_accuracy", allow_oracle_selection=True, max_steps=2)
    run.train()
    assert run.state.best_metric == max(runs.logged(run, "eval_target_oracle_accuracy"))
    with pytest.raises(ValueError, match="as eval_target_oracle_accuracy"):  # there is no metric of that name
        runs.trainer(
            tmp_path, eval_dataset=sets(), metric_for_best_model="eval_target_accuracy", allow_oracle_selection=True
        )


def test_a_run_stops_early(tmp_path):
    """A user's metric that falls at every evaluation, with patience for two."""
    scores = iter(range(10, 0, -1))
    run = choosing(
        tmp_path,
        "eval_source_score",
        {"source": tiny.domain(9, seed=5)},
        objectives={"dann": 0.1},
        compute_metrics=lambda _: {"score": float(next(scores))},
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
        max_steps=8,
    )
    run.train()
    assert run.state.global_step == 3
    assert (run.state.best_metric, run.state.best_global_step) == (10, 1)
    load = type(run.model.model).from_pretrained
    assert not runs.moved(run.model.model, runs.copied(load(tmp_path / "checkpoint-1")))
    assert runs.moved(run.model.model, runs.copied(load(tmp_path / "checkpoint-3")))
    critics = [load_file(tmp_path / f"checkpoint-{step}" / STATE_FILE) for step in (1, 3)]
    name = next(name for name, _ in run.model.named_parameters() if name.startswith("objectives."))
    assert torch.equal(run.model.get_parameter(name), critics[0][name])
    assert not torch.equal(run.model.get_parameter(name), critics[1][name])


def test_early_stopping_reads_one_set_of_several(tmp_path):
    run = choosing(
        tmp_path,
        "eval_target_diversity",
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1, early_stopping_threshold=10.0)],
        max_steps=8,
    )
    run.train()
    assert run.state.global_step == 2  # nothing rises by ten: the second evaluation ends it


def test_a_plateau_schedule_reads_it_too(tmp_path):
    args = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 10.0}}
    run = choosing(tmp_path, "eval_target_information", max_steps=3, **args)
    run.train()
    rates = runs.logged(run, "learning_rate")
    assert rates[0] > rates[-1]


HINT = re.compile(r"Did you mean '([a-z_0-9]+)'|write e\.g\. \"([a-z_]+)\"|set apart as (x)")


@pytest.mark.parametrize(
    "metric",
    ["accuracy", "acuracy", "eval_accuracy", "loss", "mse", "information", "target_acuracy", "eval_sorce_loss",
     "f1_up", "eval_target_entrop", "oracle_accuracy", "eval_source_oracle_accuracy"],
)  # fmt: skip
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_a_hint_is_itself_accepted(metric, task, tmp_path):
    """Whatever a message offers instead is taken in the next try."""
    model = tiny.bert() if task == "classes" else tiny.bert(("score",))
    make = tiny.domain if task == "classes" else scored
    given = {"train_dataset": make(seed=0), "eval_dataset": {"source": make(seed=2), "target": make(seed=3)}}
    with pytest.raises(ValueError, match="metric_for_best_model=") as error:
        runs.trainer(tmp_path, model=model, metric_for_best_model=metric, **given)
    found = HINT.search(str(error.value))
    if found:
        offered = found[1] or found[2]
        prefix = f"{metric.removeprefix('eval_').split('_')[0]}_" if offered in ("loss", "accuracy", "entropy") else ""
        runs.trainer(tmp_path, model=model, metric_for_best_model=f"{prefix}{offered}", **given)
    elif metric in ("accuracy", "loss", "information"):
        assert task == "numbers"


def scored(seed):
    return tiny.domain(9, seed, labelled=False).add_column("label", [0.25, 1.5, -2.0] * 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_strategy": "epoch"}, "eval_strategy='epoch' needs rows to evaluate on: pass eval_dataset"),
        ({"eval_on_start": True}, "eval_on_start=True needs rows to evaluate on"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end=True needs rows"),
        ({"save_strategy": "best", "metric_for_best_model": "accuracy"}, "save_strategy='best' needs rows"),
        ({"load_best_model_at_end": True, "eval_dataset": 1}, "nothing to choose by: set eval_strategy"),
        ({"save_strategy": "best", "eval_dataset": 1}, "save_strategy='best' has nothing to choose by"),
        (
            {"save_strategy": "best", "eval_strategy": "epoch", "eval_dataset": 1},
            "save_strategy='best' needs metric_for_best_model .*eval_source_accuracy",
        ),
        (
            {"callbacks": [EarlyStoppingCallback()], "eval_dataset": 1},
            "EarlyStoppingCallback has nothing to choose by",
        ),
        (
            {"callbacks": [EarlyStoppingCallback], "eval_strategy": "steps", "eval_dataset": 1},
            "EarlyStoppingCallback needs metric_for_best_model",
        ),
        ({"eval_dataset": 1, "metric_for_best_model": "accuracy", "prediction_loss_only": True}, "has no metric"),
        (
            {"eval_dataset": 1, "metric_for_best_model": "entropy", "prediction_loss_only": True},
            "has no metric 'entropy'; it has loss.*which these settings do not keep",
        ),
        ({"label_smoothing_factor": 0.1, "task": "numbers"}, "label_smoothing_factor=0.1 has no effect on regression"),
    ],
)
def test_what_waits_for_an_evaluation_is_checked_first(settings, message, tmp_path):
    settings = dict(settings)
    if settings.pop("task", None):
        settings |= {"train_dataset": scored(0), "model": tiny.bert(("score",))}
    if settings.get("eval_dataset"):
        settings["eval_dataset"] = tiny.domain(9, seed=5)
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_best_checkpoints_alone_are_saved_on_request(tmp_path):
    run = choosing(tmp_path, "accuracy", tiny.domain(9, seed=5), save_strategy="best")
    run.train()
    assert run.state.best_metric == max(runs.logged(run, "eval_source_accuracy"))
    assert (tmp_path / f"checkpoint-{run.state.best_global_step}").is_dir()


def test_early_stopping_says_nothing_false(tmp_path, caplog):
    """The callback warned at every evaluation of the other set that it was disabled, and was not."""
    evaluation = {
        "source": tiny.domain(9, seed=5),
        "source_b": tiny.domain(9, seed=6),
        "target": tiny.domain(9, seed=7),
    }
    stopping = EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=10.0)
    logging.getLogger("transformers").propagate = True
    with caplog.at_level("WARNING"):
        run = choosing(tmp_path, "eval_source_b_accuracy", evaluation, callbacks=[stopping], max_steps=8)
        run.train()
        assert run.state.global_step == 3
        run.evaluate()
        run.evaluate("target")
        run.evaluate({"test": tiny.domain(9, seed=8)}, metric_key_prefix="test")
    assert "disabled" not in caplog.text
    assert any(callback is stopping for callback in run.callback_handler.callbacks)
