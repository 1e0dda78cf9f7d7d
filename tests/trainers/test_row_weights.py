"""Weights of rows in training: a row of weight 2 is a row twice, one of weight 0 is none, in every task."""

from __future__ import annotations

import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from test_task_loss import TASKS, adapter, labels_for, without_label

from hftransfer import AdaptationTrainer, Objective, instance_weights
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.setup.plan import plan

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
SGD = {"optim": "sgd", "weight_decay": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 1e9, "max_steps": 3}


class Witness(Objective):
    def forward(self, source_features, source_weights):
        self.seen = source_weights
        return source_features.sum() * 0.0


@pytest.fixture(autouse=True)
def witness(monkeypatch):
    monkeypatch.setitem(REGISTRY, "witness", Witness)


# ---- the task loss


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_the_weighted_sum_by_labelled_items(task):
    """In float64, from the model's own logits; a tagger's words count what their row does, a target row counts 1."""
    joint, batch = adapter(task), families.batch()
    labels, weights = labels_for(task), torch.tensor([0.25, 3.0, 7.0])
    domain = torch.tensor([0, 0, -1])
    out = joint(**batch, labels=labels, domain=domain, num_source=2, row_weights=weights)
    z, y = out.logits.detach().double().numpy(), labels.numpy()
    if task == "regression":
        losses = (z[:, 0] - y) ** 2
    elif task == "multi-label-classification":
        losses = (np.logaddexp(0, z) - y * z).mean(1)
    else:
        losses = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, y[..., None], -1)[..., 0]
    by_row = np.array([0.25, 3.0, 1.0]).reshape(-1, *[1] * (losses.ndim - 1))
    assert out.loss.item() == pytest.approx((by_row * losses).sum() / losses.size, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_weights_multiply_those_of_sources_and_classes(task):
    classes = {"class_weights": [1.0, 2.0, 0.5]} if task in TASKS[:2] else {}
    both, settings = adapter(task, source_weights=[0.5, 3.0], **classes), families.batch()
    labels, domain = labels_for(task), torch.tensor([0, 1, 1])
    given = {**settings, "labels": labels, "domain": domain, "num_source": 3}
    halves = [both(**given, row_weights=torch.eye(3)[i]).loss for i in range(3)]
    torch.testing.assert_close(sum(halves), both(**given).loss)
    torch.testing.assert_close(2.5 * halves[1], both(**given, row_weights=torch.tensor([0.0, 2.5, 0.0])).loss)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_without_a_label_counts_nothing_whatever_its_weight(task):
    joint, batch = adapter(task), families.batch()
    labels, domain = without_label(labels_for(task), slice(2, 3)), torch.zeros(3, dtype=torch.long)
    losses = [
        joint(**batch, labels=labels, domain=domain, num_source=3, row_weights=torch.tensor([1.0, 1.0, w])).loss
        for w in (0.0, 5.0)
    ]
    assert losses[0] == losses[1] > 0


# ---- whole runs


def weighted(data: Dataset, weights) -> Dataset:
    return data.add_column("weight", [float(w) for w in weights])


def source_of(kind: str, rows: int = 6, seed: int = 0) -> Dataset:
    if kind == "image":
        return pictures.pictures(rows, seed)
    return tiny.tagged(rows, seed) if kind == "tagging" else tiny.domain(rows, seed)


def trained(folder, kind: str, source: Dataset, **settings) -> dict[str, torch.Tensor]:
    """Weights after three steps of SGD on the whole source at once."""
    if kind == "image":
        own = {"model": pictures.resnet(), "processing_class": pictures.processor(), "augment": "none"}
        own |= {"target_dataset": pictures.pictures(8, 1, labelled=False), "batch_norm": "frozen"}
    else:
        tagging = kind == "tagging"
        target = tiny.tagged(8, 1, labelled=False) if tagging else tiny.domain(8, 1, labelled=False)
        own = {"model": tiny.bert(tiny.TAGS if tagging else tiny.LABELS, tagging, **STILL), "target_dataset": target}
    settings = {"learning_rate": 0.1, "objectives": None} | settings
    rows = settings.pop("rows", len(source))
    run = runs.trainer(folder, train_dataset=source, per_device_train_batch_size=rows, **own, **SGD, **settings)
    run.train()
    return runs.copied(run.model.model)


def assert_equal(one: dict, other: dict, tolerance: float = 1e-6) -> None:
    assert max(float((one[name] - other[name]).abs().max()) for name in one) <= tolerance


def assert_unequal(one: dict, other: dict) -> None:
    assert max(float((one[name] - other[name]).abs().max()) for name in one) > 1e-4


@pytest.mark.parametrize("kind", ["text", "tagging", "image"])
def test_weight_2_is_the_row_twice(tmp_path, kind):
    """The mean over n items becomes one over n + those of the row: the rate makes up for it."""
    source = source_of(kind)
    twice = source.select([0, 1, 2, 2, 3, 4, 5])
    items = lambda data: sum(len(y) for y in data["label"]) if kind == "tagging" else len(data)  # noqa: E731
    rate = 0.1 * items(source) / items(twice)
    by_weight = trained(tmp_path / "weight", kind, weighted(source, [1, 1, 2, 1, 1, 1]), learning_rate=rate)
    by_copy = trained(tmp_path / "copy", kind, twice)
    assert_equal(by_weight, by_copy)
    assert_unequal(by_weight, trained(tmp_path / "plain", kind, source, learning_rate=rate))


@pytest.mark.parametrize("kind", ["text", "tagging", "image"])
def test_weight_0_has_no_influence(tmp_path, kind):
    """Another row in its place, with another label, trains the same model; with weight 1 it does not."""
    source, other = source_of(kind, 7), source_of(kind, 12, seed=5)
    settings = {"objectives": {"mmd": 0.5}}

    def with_last(row, weight):
        columns = source.column_names
        rows = [source[i] for i in range(6)] + [other[row]]
        data = Dataset.from_dict({name: [r[name] for r in rows] for name in columns}, features=source.features)
        return weighted(data, [1] * 6 + [weight])

    first, second = 0, 1
    if kind == "tagging":  # rows of as many words, by whose number the loss is divided
        lengths = [len(y) for y in other["label"]]
        first, second = next((i, j) for i in range(12) for j in range(i) if lengths[i] == lengths[j])
    runs_of = {
        (row, weight): trained(tmp_path / f"{row}-{weight}", kind, with_last(row, weight), **settings)
        for row in (first, second)
        for weight in (0, 1)
    }
    assert_equal(runs_of[first, 0], runs_of[second, 0])
    assert_unequal(runs_of[first, 1], runs_of[second, 1])


def test_a_source_without_the_column_counts_1(tmp_path):
    """Beside one with it; and in every batch, so that processes agree on what is there."""
    one, two = tiny.domain(8, 2), tiny.domain(8, 3)
    mixed = {"one": weighted(one, [3.0] * 8), "two": two}
    run = runs.trainer(tmp_path, train_dataset=mixed, objectives={"witness": 1.0})
    batch = next(iter(run.get_train_dataloader()))
    by_source = torch.tensor([3.0, 1.0])[batch["domain"][: batch["num_source"]]]
    assert torch.equal(batch["row_weights"][: batch["num_source"]], by_source)
    run.model(**batch)
    assert torch.equal(run.model.objectives["witness"].seen, by_source)


def test_words_of_a_row_count_what_it_counts_in_objectives(tmp_path):
    run = runs.trainer(
        tmp_path,
        model=tiny.bert(tiny.TAGS, tagging=True),
        train_dataset=weighted(tiny.tagged(), np.arange(24)),
        target_dataset=tiny.tagged(seed=1, labelled=False),
        objectives={"witness": 1.0},
    )
    batch = next(iter(run.get_train_dataloader()))
    run.model(**batch)
    own = batch["row_weights"][: batch["num_source"]]
    assert own.unique().numel() == 4
    assert torch.equal(run.model.objectives["witness"].seen, own.repeat_interleave(8))


def test_a_collator_that_drops_weights_is_refused(tmp_path):
    source, target = weighted(tiny.domain(), np.ones(24)), tiny.domain(seed=1, labelled=False)

    def dropping(rows):
        batch = inner.prepared.collator(rows)
        return {name: x for name, x in batch.items() if name != "row_weights"}

    inner = runs.trainer(tmp_path / "inner", train_dataset=source)
    batch = next(iter(inner.get_train_dataloader()))
    with pytest.raises(ValueError, match="leaves 'row_weights' out of training batches"):
        AdaptationTrainer(
            tiny.bert(), runs.config(tmp_path), source, target, None, tiny.tokenizer(), data_collator=dropping
        )
    del batch["row_weights"]
    with pytest.raises(ValueError, match="a training batch came without 'row_weights'"):
        inner.model(**batch)


def test_the_plan_says_what_rows_count(tmp_path):
    weights = np.repeat([0.0, 1.0, 3.0], 8)
    mixed = {"one": weighted(tiny.domain(), weights), "two": tiny.domain(seed=2)}
    run = runs.trainer(tmp_path, train_dataset=mixed, objectives={"mmd": 0.1, "rkd": 1.0})
    share = weights.sum() ** 2 / (weights**2).sum() / 24
    assert plan(run.args, run.prepared)["row weights"] == (
        f"source one: from 0 to 3, mean 1.33, worth {100 * share:.0f} % of the rows\nsource two: 1 each\n"
        "rkd: count all rows alike"
    )
    plain = runs.trainer(tmp_path / "plain")
    assert "row weights" not in plan(plain.args, plain.prepared)


def test_the_setting_takes_another_column_or_none(tmp_path):
    source = weighted(tiny.domain(), np.arange(24))
    named = runs.trainer(tmp_path / "a", train_dataset=source.rename_column("weight", "w"), weight_column="w")
    assert next(iter(named.get_train_dataloader()))["row_weights"].max() > 1
    unread = runs.trainer(tmp_path / "b", train_dataset=source, weight_column="none")
    assert "row_weights" not in next(iter(unread.get_train_dataloader()))
    with pytest.raises(ValueError, match="target_dataset has a column 'weight'"):
        runs.trainer(tmp_path / "c", train_dataset=source, target_dataset=source.select(range(20)))


def test_a_stream_of_weighted_rows_trains_as_the_data_set_does_not(tmp_path):
    """Weights matter in a stream; a run on one that has them differs from one on the same rows without."""
    source, target = tiny.domain(), tiny.domain(seed=1, labelled=False).to_iterable_dataset()
    states = []
    for i, data in enumerate((source, weighted(source, np.arange(24)))):
        run = runs.trainer(tmp_path / str(i), train_dataset=data.to_iterable_dataset(), target_dataset=target)
        run.train()
        states.append(runs.copied(run.model.model))
    assert_unequal(*states)


def test_weights_from_features_go_into_a_run(tmp_path):
    """The way of the documentation, end to end: features, weights, column, training."""
    draw = np.random.default_rng(0)
    weights = instance_weights(draw.normal(size=(24, 2)), 0.5 + draw.normal(size=(40, 2)))
    source = tiny.domain().add_column("weight", weights)
    run = runs.trainer(tmp_path, train_dataset=source)
    run.train()
    assert len(runs.logged(run, "task_loss")) == 2
