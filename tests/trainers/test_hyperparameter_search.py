"""Hyperparameter search: trials of new trainers in folders of their own, chosen without target labels."""

from __future__ import annotations

import json

import pytest
import runs
import tiny
import torch
from transformers import TrainerCallback

from hftransfer import AdaptationTrainer, MMDTrainer
from hftransfer.trainers import hyperparameter_search
from hftransfer.trainers.hyperparameter_search import HyperparameterSearch, Reporting, with_hyperparameters

SETS = {"source": tiny.domain(9, seed=5), "target": tiny.domain(9, seed=6)}
made: list = []


def fresh():
    made.append(None)
    return tiny.bert(initializer_range=0.3)


def searching(folder, cls=AdaptationTrainer, evaluation=None, model_init=fresh, callbacks=None, **settings):
    return cls(
        args=runs.config(folder, **settings),
        model_init=model_init,
        train_dataset=tiny.domain(),
        target_dataset=tiny.domain(seed=1, labelled=False),
        eval_dataset=evaluation or SETS,
        processing_class=tiny.tokenizer(),
        callbacks=callbacks,
    )


def search_of(run):
    return HyperparameterSearch(run, run.prepared, run.constructor_arguments)


class FixedTrial:
    """Notes what is asked for; the middle of a range, the first of choices."""

    def __init__(self):
        self.asked = {}

    def suggest_float(self, name, low, high, log=False):
        self.asked[name] = (low, high, log)
        return (low + high) / 2

    def suggest_categorical(self, name, choices):
        self.asked[name] = tuple(choices)
        return choices[0]


# ---- without optuna


def test_the_default_space_is_the_rates_and_what_the_objectives_say(tmp_path):
    trial = FixedTrial()
    run = searching(tmp_path, objectives={"mmd": 0.1, "critic": {"kind": "dann", "weight": 0.5}, "mcc": 0.0})
    found = search_of(run).default_space(trial)
    assert trial.asked["learning_rate"] == (1e-3, 1e-1, True)
    assert trial.asked["objective_lr_multiplier"] == (1.0, 100.0, True)
    assert trial.asked["objectives.mmd.weight"] == (0.01, 1.0, True)
    assert trial.asked["objectives.mmd.bandwidth"] == ("mean", "median")
    assert "objectives.critic.weight" in found
    assert not [name for name in found if ".mcc." in name]
    assert "objective_lr_multiplier" not in search_of(searching(tmp_path)).default_space(FixedTrial())


def test_what_was_found_goes_into_a_config(tmp_path):
    config = runs.config(tmp_path, objectives={"a": {"kind": "mmd", "weight": 0.3, "kernels": 3}, "mcc": 0.1})
    found = {"learning_rate": 1e-4, "objectives.a.weight": 2.0, "objectives.a.bandwidth": "median"}
    changed = config.with_hyperparameters(found)
    assert changed.learning_rate == 1e-4
    a, mcc = changed.objective_specs()
    assert (a.kind, a.weight, a.settings, mcc.weight) == ("mmd", 2.0, {"kernels": 3, "bandwidth": "median"}, 0.1)
    assert config.objective_specs()[0].weight == 0.3
    for wrong, message in (
        ({"learning_rat": 1e-4}, "'learning_rat' is no setting of AdaptationConfig. Did you mean 'learning_rate'"),
        ({"output_dir": "x"}, "'output_dir' is nothing to search over"),
        ({"objectives.b.weight": 1.0}, "the run's objectives are a, mcc"),
        ({"objectives.a.wieght": 1.0}, "has no setting 'wieght'.*Did you mean 'weight'"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            with_hyperparameters(config, wrong)


def test_the_aim_reads_no_target_labels_unless_allowed(tmp_path):
    def aim(*how, evaluation=None, **settings):
        return search_of(searching(tmp_path, evaluation=evaluation, **settings)).find_aim(*(how or (None, None)))

    assert (aim().metric, aim().direction) == ("eval_target_information", "maximize")
    assert aim(evaluation={"source": SETS["source"]}).metric == "eval_source_accuracy"
    chosen = aim(metric_for_best_model="eval_source_loss")
    assert (chosen.metric, chosen.direction) == ("eval_source_loss", "minimize")
    metrics = {"eval_source_accuracy": 0.5, "eval_target_oracle_accuracy": 0.9, "eval_target_information": 0.1}
    assert aim(lambda m: m["eval_source_accuracy"], "maximize").read(metrics) == 0.5
    assert aim(lambda m: sum(m.values()), "maximize").read(metrics) == pytest.approx(0.6)
    greedy = lambda m: m["eval_target_oracle_accuracy"]  # noqa: E731
    with pytest.raises(ValueError, match=r"reads 'eval_target_oracle_accuracy'.*allow_oracle_selection=True"):
        aim(greedy, "maximize").read(metrics)
    assert aim(greedy, "maximize", allow_oracle_selection=True).read(metrics) == 0.9
    with pytest.raises(ValueError, match="the worst eval_target_information; leave it out, or 'maximize'"):
        aim(None, "minimize")
    with pytest.raises(ValueError, match="Beside compute_objective, say direction"):
        aim(greedy, None)
    with pytest.raises(ValueError, match="direction='up' must be"):
        aim(greedy, "up")


@pytest.mark.parametrize(
    ("how", "given", "message"),
    [
        ({}, {"model": tiny.bert, "model_init": None}, "pass model_init, a function that returns a new model"),
        ({"backend": "ray"}, {}, "backend='ray'.*'optuna' alone"),
        ({"n_trials": 0}, {}, "n_trials=0 must be a whole number"),
        ({"trials": 3}, {}, "has no 'trials'"),
    ],
)
def test_what_cannot_be_searched_is_said_first(how, given, message, tmp_path):
    run = searching(tmp_path / "run", **given) if not given else runs.trainer(tmp_path / "run", eval_dataset=SETS)
    with pytest.raises(ValueError, match=message):
        run.hyperparameter_search(**how)
    assert not list((tmp_path / "run").glob("run-*"))


def test_a_missing_optuna_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(hyperparameter_search, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs optuna.*\[search\]"):
        searching(tmp_path).hyperparameter_search(n_trials=1)


def test_a_model_or_a_function_that_makes_one():
    with pytest.raises(ValueError, match="model and model_init are both given"):
        AdaptationTrainer(tiny.bert(), runs.config("out"), tiny.domain(), model_init=fresh)
    with pytest.raises(TypeError, match="model must be"):
        AdaptationTrainer(args=runs.config("out", objectives=None), train_dataset=tiny.domain())
    with pytest.raises(ValueError, match="model_init gives None"):
        AdaptationTrainer(args=runs.config("out"), train_dataset=tiny.domain(), model_init=lambda: None)


def test_an_evaluation_after_training_is_not_reported():
    class Trial:
        reported: list = []  # noqa: RUF012

        def report(self, value, step):
            self.reported.append((value, step))

        def should_prune(self):
            return True

    class State:
        global_step, max_steps = 2, 4

    class Control:
        should_training_stop = False

    callback, control = Reporting(Trial(), "eval_source_accuracy"), Control()
    callback.on_evaluate(None, State, control, {"eval_target_information": 1.0})
    assert not control.should_training_stop
    callback.on_evaluate(None, State, control, {"eval_source_accuracy": 1.0})
    assert control.should_training_stop
    assert Trial.reported == [(1.0, 2)]


# ---- with optuna


class Counter(TrainerCallback):
    steps = 0

    def on_step_end(self, *args, **kwargs):
        self.steps += 1


def test_each_trial_is_a_new_trainer_in_its_own_folder(tmp_path):
    pytest.importorskip("optuna")
    counter = Counter()
    run = searching(tmp_path, callbacks=[counter], save_strategy="steps", save_steps=2)
    before, count = runs.copied(run.model.model), len(made)
    best = run.hyperparameter_search(n_trials=3)
    assert len(made) == count + 3
    assert not runs.moved(run.model.model, before)  # this trainer stays as it is
    assert counter.steps == 0
    records = [json.loads((tmp_path / f"run-{i}" / "trial.json").read_text()) for i in range(3)]
    assert all((tmp_path / f"run-{i}" / "checkpoint-2" / "model.safetensors").is_file() for i in range(3))
    assert {path.name for path in tmp_path.iterdir()} == {"run-0", "run-1", "run-2"}
    assert len({record["settings"]["learning_rate"] for record in records}) == 3
    values = [record["value"] for record in records]
    assert best.objective == max(values)
    assert best.run_id == str(values.index(max(values)))
    assert best.hyperparameters == records[values.index(max(values))]["settings"]

    again = run.args.with_hyperparameters(best.hyperparameters)
    again.output_dir = str(tmp_path / "again")
    alone = searching(tmp_path / "again", **{}, callbacks=[counter])
    alone = AdaptationTrainer(args=again, **{k: v for k, v in alone.constructor_arguments.items() if k != "callbacks"})
    alone.train()
    assert alone.evaluate()["eval_target_information"] == pytest.approx(best.objective, rel=1e-5)


def test_a_search_of_ones_own(tmp_path):
    pytest.importorskip("optuna")

    def space(trial):
        return {"learning_rate": trial.suggest_float("rate", 1e-3, 1e-2), "objectives.mmd.weight": 0.5}

    run = searching(tmp_path, cls=MMDTrainer, objectives=None)
    best = run.hyperparameter_search(
        space, lambda m: m["eval_source_loss"], 2, "minimize", hp_name=lambda trial: f"mine {trial.number}"
    )
    assert set(best.hyperparameters) == {"learning_rate", "objectives.mmd.weight"}
    fronts = run.hyperparameter_search(
        space, lambda m: (m["eval_source_loss"], m["eval_target_entropy"]), 2, ["minimize", "minimize"]
    )
    assert all(len(front.objective) == 2 for front in fronts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0", "run-1", "run-2", "run-3"]
    assert {front.run_id for front in fronts} <= {"2", "3"}


def test_trials_that_break_do_not_end_the_search(tmp_path):
    pytest.importorskip("optuna")
    rates = iter([1e30, 1e-3])
    run = searching(tmp_path)
    best = run.hyperparameter_search(lambda trial: {"learning_rate": next(rates)}, n_trials=2)
    assert best.run_id == "1"
    broken = json.loads((tmp_path / "run-0" / "trial.json").read_text())
    assert broken["state"] == "failed"
    assert "FloatingPointError" in broken["error"]
    with pytest.raises(ValueError, match="None of 1 trials came to an end"):
        run.hyperparameter_search(lambda trial: {"learning_rate": 1e30}, n_trials=1)
    with pytest.raises(ValueError, match="is no setting of AdaptationConfig"):
        run.hyperparameter_search(lambda trial: {"lr": 1.0}, n_trials=1)


def test_optuna_may_stop_a_trial(tmp_path):
    optuna = pytest.importorskip("optuna")

    class Second(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    run = searching(tmp_path, eval_strategy="steps", eval_steps=1, max_steps=4)
    rates = iter([1e-3, 1e-2])
    best = run.hyperparameter_search(lambda trial: {"learning_rate": next(rates)}, n_trials=2, pruner=Second())
    assert best.run_id == "0"
    assert json.loads((tmp_path / "run-1" / "trial.json").read_text())["state"] == "pruned"
    assert torch.is_grad_enabled()


MODEL = tiny.bert()
SEARCHES = {
    "a space that is a dict": ({"hp_space": {"learning_rate": [1e-3]}}, TypeError, "hp_space must be a function"),
    "a space of nothing": ({"hp_space": lambda trial: None}, TypeError, "must return a dict of settings"),
    "a target's labels, politely": (
        {"compute_objective": lambda metrics: metrics.get("eval_target_oracle_accuracy"), "direction": "maximize"},
        ValueError, "What reads target labels is left out",
    ),
    "a dict for an aim": (
        {"compute_objective": lambda metrics: {"a": 1.0}, "direction": "maximize"}, ValueError, "a number, not dict",
    ),
    "a word for an aim": (
        {"compute_objective": lambda metrics: "good", "direction": "maximize"}, ValueError, "a number, not str",
    ),
    "two aims in one direction": (
        {"compute_objective": lambda metrics: [1.0, 2.0], "direction": "maximize"}, ValueError, "list of directions",
    ),
    "one aim in two directions": (
        {"compute_objective": lambda metrics: 1.0, "direction": ["maximize", "minimize"]}, ValueError, "one for each",
    ),
    "an aim that is no number": (
        {"compute_objective": lambda metrics: float("nan"), "direction": "maximize"}, ValueError, "None of 2 trials",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error", "words"), SEARCHES.values(), ids=SEARCHES.keys())
def test_a_search_says_what_it_cannot_use(tmp_path, given, error, words):
    pytest.importorskip("optuna")
    run = searching(tmp_path)
    with pytest.raises(error, match=words):
        run.hyperparameter_search(n_trials=2, **given)


def test_a_model_that_is_always_the_same_is_refused(tmp_path):
    pytest.importorskip("optuna")
    run = searching(tmp_path, model_init=lambda: MODEL)
    with pytest.raises(ValueError, match="model_init returns the same model each time"):
        run.hyperparameter_search(n_trials=2)
