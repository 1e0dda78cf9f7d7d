"""Arguments and settings that users bring along: honoured, or refused by name before anything is loaded."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from bad_arguments import ARGUMENTS, BEST, RESULTS, SETS, SETTINGS
from bad_training import trainer

from hftransfer import AdaptationConfig, AdaptationTrainer
from hftransfer.trainers.setup.model_init import call_model_init


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_setting_is_refused_when_it_is_set(tmp_path, monkeypatch, given, error, culprit, remedy):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as found:
        AdaptationConfig(**{"output_dir": "run", "use_cpu": True, **given})
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_an_argument_is_refused_in_the_constructor(tmp_path, given, error, culprit, remedy):
    with pytest.raises(error) as found:
        trainer(tmp_path / "run", **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not (tmp_path / "run").exists()


HONOURED = {
    "no clipping": {"max_grad_norm": None},
    "recomputed activations": {"gradient_checkpointing": True},
    "a schedule with settings": {
        "lr_scheduler_type": "cosine_with_restarts",
        "lr_scheduler_kwargs": '{"num_cycles": 2}',
    },
    "workers": {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True},
    "an optimizer with settings": {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
    "accelerate's own": {"accelerator_config": {"even_batches": False}},
    "reports to all there are": {"report_to": "all"},
    "reports to none": {"report_to": "none"},
}


@pytest.mark.parametrize("settings", HONOURED.values(), ids=HONOURED.keys())
def test_what_is_there_works(tmp_path, settings):
    run = runs.trainer(tmp_path / "run", **settings)
    run.train()
    assert run.state.global_step == 2


@pytest.mark.parametrize("value", [True, "true", "full_shard", "full_shard auto_wrap"])
def test_sharding_is_switched_on_as_transformers_says(tmp_path, value):
    assert runs.config(tmp_path, fsdp=value).fsdp
    assert not runs.config(tmp_path, fsdp="false").fsdp


@pytest.mark.parametrize(("compute_metrics", "culprit", "remedy"), RESULTS.values(), ids=RESULTS.keys())
def test_results_that_no_log_could_hold_are_named(tmp_path, compute_metrics, culprit, remedy):
    run = runs.trainer(tmp_path / "run", compute_metrics=compute_metrics, eval_dataset=SETS)
    with pytest.raises(TypeError, match="compute_metrics returns") as found:
        run.evaluate()
    assert culprit in str(found.value)
    assert remedy in str(found.value)


def test_arrays_and_tensors_among_the_results_are_written_into_checkpoints(tmp_path):
    def compute_metrics(prediction):
        return {"a": np.float32(0.5), "b": torch.tensor(2.0), "matrix": np.eye(2), "text": "x"}

    run = runs.trainer(tmp_path, compute_metrics=compute_metrics, eval_dataset=SETS, **BEST)
    run.train()
    assert run.compute_metrics is compute_metrics
    found = run.evaluate("source")
    assert [found[f"eval_source_{name}"] for name in ("a", "b", "matrix", "text")] == [0.5, 2.0, [[1, 0], [0, 1]], "x"]
    assert (tmp_path / "checkpoint-2").is_dir()


def test_logits_cannot_be_left_out_of_predictions(tmp_path):
    run = runs.trainer(tmp_path, eval_dataset=SETS)
    for call in (run.evaluate, lambda **how: run.predict(SETS["source"], **how)):
        with pytest.raises(ValueError, match="ignore_keys names 'logits'"):
            call(ignore_keys=["logits"])
    assert run.evaluate(ignore_keys=["hidden_states"])["eval_source_accuracy"] >= 0


def test_a_function_that_makes_the_model(tmp_path):
    """Without an argument, with defaults only, or with the trial."""
    seen = []

    def of_trial(trial):
        seen.append(trial)
        return tiny.bert()

    def with_defaults(labels=tiny.LABELS, seed=3):
        return tiny.bert(labels, seed=seed)

    for make in (lambda: tiny.bert(), with_defaults, of_trial):
        run = trainer(tmp_path, model=None, model_init=make)
        run.train()
        assert isinstance(run, AdaptationTrainer)
    assert seen == [None]
    with pytest.raises(TypeError, match="of a trial alone; this one needs a, b"):
        call_model_init(lambda a, b: None)
    with pytest.raises(TypeError, match="model_init must be a function, not str"):
        trainer(tmp_path, model=None, model_init="bert-base-uncased")
