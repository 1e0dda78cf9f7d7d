"""Label shift in a run: who is given the weights, the corrected bias, and resuming."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from hftransfer import Objective
from hftransfer.objectives.label_shift_weights import LabelShift
from hftransfer.objectives.registry import REGISTRY


class Witness(Objective):
    def forward(self, source_features, source_labels, source_weights):
        self.seen = source_labels, source_weights
        return source_features.sum() * 0.0


@pytest.fixture
def witness(monkeypatch):
    monkeypatch.setitem(REGISTRY, "witness", Witness)


def fixed(run, weights=(0.5, 1.0, 2.0)):
    """A run whose class weights are given."""
    run.model.task_loss.label_shift.weights = torch.tensor(weights)
    return run.model


def batch(run):
    return next(iter(run.get_train_dataloader()))


def test_objectives_and_task_are_weighted(tmp_path, witness):
    run = runs.trainer(tmp_path, objectives={"witness": 1.0}, label_shift="mlls")
    adapter, inputs = fixed(run).eval(), batch(run)
    out = adapter(**inputs)
    labels, weights = adapter.objectives["witness"].seen
    assert torch.equal(weights, torch.tensor([0.5, 1.0, 2.0])[labels])
    n = inputs["num_source"]
    per_row = F.cross_entropy(out.logits[:n], inputs["labels"][:n], reduction="none")
    torch.testing.assert_close(out.losses[0], (weights * per_row).sum().detach() / n)


@pytest.mark.parametrize("use", ["bias", "none"])
def test_the_task_is_left_alone_if_asked(tmp_path, witness, use):
    run = runs.trainer(tmp_path, objectives={"witness": 1.0}, label_shift="mlls", label_shift_task=use)
    adapter, inputs = fixed(run).eval(), batch(run)
    n = inputs["num_source"]
    out = adapter(**inputs)
    torch.testing.assert_close(out.losses[0], F.cross_entropy(out.logits[:n], inputs["labels"][:n]).detach())
    assert adapter.objectives["witness"].seen[1].unique().numel() > 1


def test_without_label_shift_all_rows_count_1(tmp_path, witness):
    run = runs.trainer(tmp_path, objectives={"witness": 1.0})
    run.model(**batch(run))
    labels, weights = run.model.objectives["witness"].seen
    assert torch.equal(weights, torch.ones(len(labels)))
    assert run.model.task_loss.label_shift is None


def test_tagging_weighs_words(tmp_path, witness):
    run = runs.trainer(
        tmp_path,
        model=tiny.bert(tiny.TAGS, tagging=True),
        objectives={"witness": 1.0},
        label_shift="bbse",
        train_dataset=tiny.tagged(),
        target_dataset=tiny.tagged(seed=1, labelled=False),
    )
    fixed(run, (0.5, 2.0))(**batch(run))
    labels, weights = run.model.objectives["witness"].seen
    assert set(labels.tolist()) == {0, 1}
    assert torch.equal(weights, torch.tensor([0.5, 2.0])[labels])


@pytest.mark.parametrize("objectives", [{"mmd": 0.1}, {}])
def test_a_run_estimates_as_it_goes(tmp_path, objectives):
    """Six rows of 24 a step: after each pass over the target there is a new estimate."""
    settings = {"objectives": objectives, "label_shift": "mlls", "per_device_train_batch_size": 6}
    run = runs.trainer(tmp_path / "short", max_steps=3, **settings)
    run.train()
    assert run.model.task_loss.label_shift.rows == 24
    assert torch.equal(run.model.task_loss.label_shift.weights, torch.ones(3))
    run = runs.trainer(tmp_path / "long", max_steps=4, **settings)
    run.train()
    assert run.model.task_loss.label_shift.weights.ne(1).all()


def test_the_saved_bias_is_corrected_once(tmp_path):
    """What `save_model` writes, and what is evaluated after training, is the corrected head; checkpoints are not."""
    run = runs.trainer(
        tmp_path,
        label_shift="mlls",
        label_shift_task="bias",
        max_steps=8,
        save_strategy="steps",
        save_steps=8,
    )
    run.train()
    run.save_model()
    correction = run.model.task_loss.label_shift.weights.log()
    assert correction.abs().max() > 1e-3
    checkpoint, saved = (
        AutoModelForSequenceClassification.from_pretrained(folder).classifier.bias.detach()
        for folder in (tmp_path / "checkpoint-8", tmp_path)
    )
    torch.testing.assert_close(saved, checkpoint + correction)


def test_the_correction_is_bayes_rule():
    """softmax(z + log w) is the posterior under the target's priors."""
    prior, weights = np.array([0.5, 0.3, 0.2]), np.array([0.3, 1.0, 2.75])
    likelihood = np.random.default_rng(0).random((5, 3))
    source = likelihood * prior
    target = likelihood * prior * weights
    logits = torch.from_numpy(np.log(source / source.sum(1, keepdims=True)) + np.log(weights))
    np.testing.assert_allclose(logits.softmax(-1), target / target.sum(1, keepdims=True))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    settings = {"label_shift": "bbse", "save_strategy": "steps", "save_steps": 4, "per_device_train_batch_size": 4}
    whole = runs.trainer(tmp_path / "whole", max_steps=9, **settings)
    whole.train()
    half = runs.trainer(tmp_path / "half", max_steps=9, **settings)
    half.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert whole.model.task_loss.label_shift.weights.ne(1).any()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, half.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label_shift": "mll"},
            "label_shift='mll' must be one of 'none', 'bbse', 'mlls' or 'pada'. Did you mean 'ml",
        ),
        ({"label_shift_task": "weight"}, "label_shift_task='weight' must be one of .*Did you mean 'weights'?"),
    ],
)
def test_refusals(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        runs.config(tmp_path, **settings)


def test_a_head_without_bias_cannot_be_corrected(tmp_path):
    model = tiny.bert()
    model.classifier.bias = None
    with pytest.raises(ValueError, match="the head 'classifier' has no bias; use 'weights'"):
        runs.trainer(tmp_path, model=model, label_shift="mlls", label_shift_task="bias")


def test_numbers_have_no_classes(tmp_path):
    data = tiny.domain().remove_columns("label").add_column("label", [i + 0.5 for i in range(24)])
    with pytest.raises(ValueError, match="label_shift='mlls' needs classes; regression has none"):
        runs.trainer(tmp_path, model=tiny.bert(("score",)), train_dataset=data, objectives={}, label_shift="mlls")


def test_two_estimators_agree_with_a_module_fed_by_hand(tmp_path):
    """What a run observes is every source and target row of its steps."""
    run = runs.trainer(tmp_path, label_shift="bbse", max_steps=1, per_device_train_batch_size=24)
    inputs = batch(run)
    adapter, by_hand = run.model.train(), LabelShift(3, "bbse", rows=24)
    for module in adapter.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    logits = adapter(**inputs).logits.detach()
    by_hand.observe(logits[:24], inputs["labels"][:24], logits[24:])
    torch.testing.assert_close(adapter.task_loss.label_shift.weights, by_hand.weights)


# ---- classes that count what the settings say


def test_classes_count_what_they_are_told(tmp_path, witness):
    """In the objectives and in the task, by the class's name, whatever its place in the model."""
    weights = {"flat": 0.25, "down": 3}
    run = runs.trainer(tmp_path, objectives={"witness": 1.0}, class_weights=weights)
    adapter, inputs = run.model.eval(), batch(run)
    out, n = adapter(**inputs), inputs["num_source"]
    labels, seen = adapter.objectives["witness"].seen
    by_class = np.array([weights.get(name, 1.0) for name in run.prepared.label_space.names])[labels.numpy()]
    np.testing.assert_allclose(seen.numpy(), by_class)
    logits = out.logits[:n].detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    errors = -log_p[np.arange(n), labels.numpy()]
    assert out.losses[0].item() == pytest.approx((by_class * errors).sum() / n, rel=1e-5)


def test_words_count_what_their_class_counts(tmp_path):
    run = runs.trainer(
        tmp_path,
        model=tiny.bert(tiny.TAGS, tagging=True),
        train_dataset=tiny.tagged(seed=2),
        target_dataset=tiny.tagged(seed=1, labelled=False),
        class_weights='{"split": 0}',
    )
    adapter, inputs = run.model.eval(), batch(run)
    out = adapter(**inputs)
    kept = inputs["labels"] == run.prepared.label_space.names.index("whole")
    error = F.cross_entropy(out.logits[kept], inputs["labels"][kept], reduction="sum")
    torch.testing.assert_close(out.losses[0], (error / (inputs["labels"] != -100).sum()).detach())


def test_weights_of_classes_and_of_sources_multiply(tmp_path, witness):
    settings = {"source_weights": {"broadcast": 3}, "class_weights": {"up": 0.5}, "objectives": {"witness": 1.0}}
    run = runs.trainer(tmp_path, train_dataset=TWO, **settings)
    adapter, inputs = run.model.eval(), batch(run)
    adapter(**inputs)
    labels, seen = adapter.objectives["witness"].seen
    of_source = torch.tensor([1.0, 3.0])[inputs["domain"][: inputs["num_source"]]]
    of_class = torch.where(labels == run.prepared.label_space.names.index("up"), 0.5, 1.0)
    assert torch.equal(seen, of_source * of_class)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": {"dwon": 2.0}}, "class_weights names 'dwon'; the classes are .* Did you mean 'down'"),
        ({"class_weights": dict.fromkeys(tiny.LABELS, 0)}, "class_weights leaves no class that counts"),
        ({"class_weights": {"up": 2}, "label_shift": "mlls"}, "both say what a class counts: leave one out"),
        ({"class_weights": {"up": float("nan")}}, "class_weights: 'up' must be a number of at least 0"),
    ],
)
def test_weights_of_classes_that_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, **settings)


def test_class_weights_beside_an_estimate_that_leaves_the_task_alone(tmp_path, witness):
    """The objectives are given both."""
    settings = {"label_shift": "mlls", "label_shift_task": "none", "class_weights": {"up": 2.0}}
    run = runs.trainer(tmp_path, objectives={"witness": 1.0}, **settings)
    adapter = fixed(run).eval()
    adapter(**batch(run))
    labels, seen = adapter.objectives["witness"].seen
    of_class = torch.where(labels == run.prepared.label_space.names.index("up"), 2.0, 1.0)
    assert torch.equal(seen, of_class * torch.tensor([0.5, 1.0, 2.0])[labels])


def test_numbers_have_no_classes_to_weigh(tmp_path):
    data = tiny.domain(12, labelled=False).add_column("label", [i + 0.5 for i in range(12)])
    with pytest.raises(ValueError, match="class_weights needs one class a row; regression has none"):
        runs.trainer(tmp_path, model=tiny.bert(("score",)), train_dataset=data, class_weights={"score": 2})


# ---- sources that count more


TWO = {"papers": tiny.domain(12, seed=2), "broadcast": tiny.domain(12, seed=3)}


def test_sources_count_what_they_are_told(tmp_path, witness):
    run = runs.trainer(
        tmp_path, objectives={"witness": 1.0}, train_dataset=TWO, source_weights='{"broadcast": 3}', label_shift="mlls"
    )
    adapter, inputs = fixed(run).eval(), batch(run)
    out, n = adapter(**inputs), inputs["num_source"]
    labels, weights = adapter.objectives["witness"].seen
    of_source = torch.tensor([1.0, 3.0])[inputs["domain"][:n]]
    assert of_source.unique().numel() == 2
    assert torch.equal(weights, of_source * torch.tensor([0.5, 1.0, 2.0])[labels])
    per_row = F.cross_entropy(out.logits[:n], labels, reduction="none")
    torch.testing.assert_close(out.losses[0], (weights * per_row).sum().detach() / n)


def test_words_of_a_source_count_what_it_counts(tmp_path):
    run = runs.trainer(
        tmp_path,
        model=tiny.bert(tiny.TAGS, tagging=True),
        train_dataset={"papers": tiny.tagged(seed=2), "broadcast": tiny.tagged(seed=3)},
        target_dataset=tiny.tagged(seed=1, labelled=False),
        source_weights={"papers": 0.0},
    )
    adapter, inputs = run.model.eval(), batch(run)
    out = adapter(**inputs)
    kept = (inputs["labels"] != -100) & (inputs["domain"] == 1).unsqueeze(1)
    error = F.cross_entropy(out.logits[kept], inputs["labels"][kept], reduction="sum")
    torch.testing.assert_close(out.losses[0], (error / (inputs["labels"] != -100).sum()).detach())


def test_numbers_of_a_source_count_what_it_counts(tmp_path):
    def numbers(seed):
        return tiny.domain(12, seed, labelled=False).add_column("label", [i + 0.5 for i in range(12)])

    data = {"papers": numbers(2), "broadcast": numbers(3)}
    run = runs.trainer(tmp_path, model=tiny.bert(("score",)), train_dataset=data, source_weights={"papers": 0.5})
    adapter, inputs = run.model.eval(), batch(run)
    out, n = adapter(**inputs), inputs["num_source"]
    weights = torch.tensor([0.5, 1.0])[inputs["domain"][:n]]
    error = (out.logits[:n, 0] - inputs["labels"][:n]).square()
    torch.testing.assert_close(out.losses[0], ((weights * error).sum() / n).detach())


def test_revealed_target_rows_count_1(tmp_path):
    """Few-shot rows are the target's already: neither a class's weight nor a source's applies to them."""
    run = runs.trainer(
        tmp_path,
        target_dataset=tiny.domain(seed=1),
        reveal_target_labels=8,
        label_shift="mlls",
        source_weights={"source": 2.0},
    )
    adapter, inputs = fixed(run, (0.1, 0.1, 0.1)).eval(), batch(run)
    out, n = adapter(**inputs), inputs["num_source"]
    known = inputs["labels"] != -100
    assert known[n:].any()
    per_row = F.cross_entropy(out.logits, inputs["labels"], reduction="none")
    expected = (0.2 * per_row[:n].sum() + per_row[n:].sum()) / known.sum()
    torch.testing.assert_close(out.losses[0], expected.detach())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paper": 2.0}, "source_weights names 'paper'; the sources are papers, broadcast. Did you mean 'papers'"),
        ({"papers": -1}, "source_weights: 'papers' must be a number of at least 0, not -1"),
        ({"papers": "much"}, "source_weights: 'papers' must be a number"),
        ({"papers": 0, "broadcast": 0}, "source_weights leaves no source that counts"),
        ("{papers: 1", "source_weights is neither JSON nor YAML"),
        ("[papers]", "source_weights must map names to weights"),
    ],
)
def test_weights_of_sources_that_are_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, train_dataset=TWO, source_weights=given)
