"""Training on the target alone: what moves, labels that are made anew, resuming in the midst of an epoch, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch

from hftransfer import AdaptationTrainer, AverageRule, SourceFreeTrainer, add_soft_labels, centroid_labels
from hftransfer.selection.model_predictions import softmax
from hftransfer.trainers.prediction_pass import predict_rows

ROWS = 24


def trainer(folder, target=None, cls=SourceFreeTrainer, model=None, **settings):
    own = {k: settings.pop(k) for k in ("label_rule", "eval_dataset") if k in settings}
    settings = {"objectives": None, "max_steps": 4} | settings
    return cls(
        tiny.bert() if model is None else model,
        runs.config(folder, **settings),
        target_dataset=tiny.domain(ROWS, seed=1, labelled=False) if target is None else target,
        processing_class=tiny.tokenizer(),
        **own,
    )


def test_the_backbone_trains_and_the_classifier_does_not(tmp_path):
    run = trainer(tmp_path)
    model = run.model.model
    before = runs.copied(model)
    run.train()
    assert set(before) - runs.moved(model, before) == {"classifier.weight", "classifier.bias"}
    assert run.train_dataset.num_source == 0
    assert [spec.name for spec in run.args.objective_specs()] == ["im", "soft_labels"]
    assert runs.logged(run, "task_loss") == [0.0] * 4
    assert len(set(runs.logged(run, "soft_labels_loss"))) > 1


def test_an_epoch_is_one_pass_over_the_target_and_each_row_comes_once(tmp_path):
    run = trainer(tmp_path, num_train_epochs=1, max_steps=-1)
    loader = run.get_train_dataloader()
    batches = list(loader)
    assert len(batches) == ROWS // 4
    assert all((batch["domain"] == -1).all() and batch["num_source"] == 0 for batch in batches)
    assert all((batch["labels"] == -100).all() for batch in batches)
    assert sorted(i for batch in run.pair_sampler for i in batch) == list(range(ROWS))


def test_the_loss_is_the_formula(tmp_path):
    run = trainer(tmp_path, max_steps=1, per_device_train_batch_size=ROWS)
    rows = run.prepared.train.domain_rows[-1].rows
    seen = predict_rows(run, rows, features=run.prepared.head.in_features)
    labels = centroid_labels(seen.features, softmax(seen.logits))
    p = softmax(seen.logits)
    mean = p.mean(0)
    im = -(p * np.log(p)).sum(1).mean() + (mean * np.log(mean)).sum()
    pseudo = -np.log(p[np.arange(ROWS), labels]).mean()
    for dropout in [m for m in run.model.modules() if isinstance(m, torch.nn.Dropout)]:
        dropout.p = 0.0
    run.train()
    assert runs.logged(run, "im_loss")[0] == pytest.approx(im, abs=1e-5)
    assert runs.logged(run, "soft_labels_loss")[0] == pytest.approx(pseudo, abs=1e-5)
    assert runs.logged(run, "loss")[0] == pytest.approx(im + 0.3 * pseudo, abs=1e-5)


class Counting:
    """A rule that says how often it was asked, and names the epoch in the labels."""

    def __init__(self):
        self.epochs = []

    def __call__(self, labels, logits, features, epoch):
        self.epochs.append(epoch)
        assert logits.shape == (ROWS, 3)
        assert features.shape == (ROWS, 32)
        return np.eye(3)[np.full(ROWS, epoch % 3)]


def test_labels_are_made_once_an_epoch_and_reach_the_batches(tmp_path):
    rule, seen = Counting(), []
    run = trainer(tmp_path, max_steps=15, label_rule=rule)
    forward = run.model.forward

    def looked_at(*args, **kwargs):
        if "soft_labels" in kwargs:  # a training batch, not a prediction
            seen.append(kwargs["soft_labels"].argmax(1).unique().tolist())
        return forward(*args, **kwargs)

    run.model.forward = looked_at
    run.train()
    assert rule.epochs == [0, 1, 2]
    assert seen == [[0]] * 6 + [[1]] * 6 + [[2]] * 3


@pytest.mark.parametrize(
    "stop", [3, pytest.param(6, marks=pytest.mark.slow)]
)  # in the midst of an epoch, and at its end
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, stop):
    def go(folder, resume=None):
        run = trainer(folder, max_steps=9, save_strategy="steps", save_steps=stop)
        run.train(resume_from_checkpoint=resume)
        return run

    whole = go(tmp_path / "whole")
    again = go(tmp_path / "again", str(tmp_path / f"whole/checkpoint-{stop}"))
    want, got = whole.model.state_dict(), again.model.state_dict()
    assert "renewed_labels.labels" in want
    assert all(torch.equal(want[name], got[name]) for name in want)


@pytest.mark.slow
def test_workers_read_the_labels_of_their_epoch(tmp_path):
    def go(folder, workers):
        run = trainer(folder, max_steps=12, dataloader_num_workers=workers)
        run.train()
        return runs.logged(run, "soft_labels_loss")

    assert go(tmp_path / "none", 0) == go(tmp_path / "one", 1)


def test_an_average_starts_from_the_column_and_moves_to_the_predictions(tmp_path):
    given = np.eye(3)[np.arange(ROWS) % 3] * 0.7 + 0.1
    target = add_soft_labels(tiny.domain(ROWS, seed=1, labelled=False), given)
    objectives = {"soft_labels": 1.0}
    run = trainer(tmp_path, target, label_rule=AverageRule(0.6), objectives=objectives, max_steps=7)
    before = runs.copied(run.model.model)
    held = run.model.renewed_labels
    seen = []
    run.train_dataset.domain_rows[-1].replace_labels = lambda labels: seen.append(labels.copy())
    run.train()
    assert "classifier.weight" in runs.moved(run.model.model, before)  # a student's head has to learn
    assert seen[0] == pytest.approx(given, abs=1e-6)
    moved = (seen[1] - 0.6 * given) / 0.4
    assert moved.sum(1) == pytest.approx(np.ones(ROWS), abs=1e-5)
    assert np.abs(moved - given).max() > 0.01
    assert int(held.epochs) == 2


def test_an_adapter_decides_what_trains(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny.bert(), LoraConfig(r=2, target_modules=["query"], modules_to_save=[]))
    run = trainer(tmp_path, model=model, objectives={"im": 1.0}, max_steps=1)
    assert all("lora_" in name for name in run.trainable.names)


REFUSED = {
    "a source": ({"train_dataset": tiny.domain()}, TypeError, "reads no source rows"),
    "no target": ({"target_dataset": None}, ValueError, "target_dataset is missing"),
    "a source's evaluation set": ({"eval_dataset": {"source": tiny.domain()}}, ValueError, "holds a source's rows"),
    "one evaluation set without a name": ({"eval_dataset": tiny.domain()}, ValueError, "holds a source's rows"),
    "a rule for nothing": ({"label_rule": AverageRule(), "objectives": {"im": 1.0}}, ValueError, "no effect"),
    "an average of nothing": ({"label_rule": AverageRule()}, ValueError, "needs a column 'soft_labels'"),
    "labels that would be replaced": (
        {"target_dataset": add_soft_labels(tiny.domain(6), np.full((6, 3), 1 / 3))}, ValueError, "would replace",
    ),
    "persistent workers": (
        {"dataloader_persistent_workers": True, "dataloader_num_workers": 1}, ValueError, "made anew for each",
    ),
    "an objective of sources": ({"objectives": {"mmd": 0.1}}, ValueError, "at least one labelled source"),
    "class weights": ({"class_weights": {"up": 2.0}}, ValueError, "class_weights=.* is about source rows"),
    "a ratio": ({"target_ratio": 2.0}, ValueError, "target_ratio=2.0 is about source rows"),
    "label shift": ({"label_shift": "mlls"}, ValueError, "is about source rows"),
    "separate batch norm": ({"batch_norm": "separate"}, ValueError, "rows of two domains"),
    "a stream": (
        {"target_dataset": tiny.domain().to_iterable_dataset(), "objectives": {"im": 1.0}}, ValueError, "is a stream",
    ),
    "a model for words": ({"model": tiny.bert(tiny.TAGS, tagging=True)}, ValueError, "rows of one class each"),
    "a model from scratch": ({"model": {"model_type": "bert"}}, ValueError, "has learned nothing"),
    "another task": ({"task": "regression", "objectives": {"im": 1.0}}, ValueError, "was trained for"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path, case):
    how, error, said = REFUSED[case]
    own = {k: how[k] for k in ("train_dataset", "eval_dataset", "label_rule") if k in how}
    settings = {k: v for k, v in how.items() if k not in (*own, "model", "target_dataset")}
    with pytest.raises(error, match=said):
        SourceFreeTrainer(
            how.get("model", tiny.bert()),
            runs.config(tmp_path / "run", **{"objectives": None} | settings),
            target_dataset=how.get("target_dataset", tiny.domain(labelled=False)),
            processing_class=tiny.tokenizer(),
            **own,
        )
    assert not (tmp_path / "run").exists()


def test_a_backbone_without_a_classifier_is_refused(tmp_path):
    backbone = tiny.bert().bert
    backbone.save_pretrained(tmp_path / "backbone")
    tiny.tokenizer().save_pretrained(tmp_path / "backbone")
    with pytest.raises(ValueError, match="has no trained classifier"):
        SourceFreeTrainer(
            str(tmp_path / "backbone"), runs.config(tmp_path / "run", objectives=None), tiny.domain(labelled=False)
        )


def test_an_adaptation_trainer_without_a_source_has_something_to_learn_from(tmp_path):
    with pytest.raises(ValueError, match="nothing to learn from"):
        AdaptationTrainer(
            tiny.bert(),
            runs.config(tmp_path, objectives=None),
            target_dataset=tiny.domain(labelled=False),
            processing_class=tiny.tokenizer(),
        )


def test_fixmatch_learns_without_a_source_from_rows_that_are_surer_than_others(tmp_path):
    run = trainer(tmp_path, objectives={"fixmatch": {"weight": 1.0, "schedule": "constant"}})
    run.train()
    assert all(runs.logged(run, "fixmatch_loss"))
