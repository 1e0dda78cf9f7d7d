"""The joint module: the plain model from outside, and what its objectives are given inside."""

from __future__ import annotations

import copy

import families
import numpy as np
import pytest
import tiny
import torch

from hftransfer import JointModel, Objective
from hftransfer.models.feature_hook import FeatureHook, find_head
from hftransfer.objectives.schedules import constant, linear
from hftransfer.trainers.step.forward_chain import build_forward
from hftransfer.trainers.step.objective_inputs import TOKENS_PER_ROW, pick_words
from hftransfer.trainers.step.objective_set import ObjectiveSet
from hftransfer.trainers.step.task_loss import TaskLoss


class Witness(Objective):
    """Keeps what it was given and returns a number of its own, times what the model can be trained by."""

    def __init__(self, value: float = 1.0):
        super().__init__()
        self.value = value

    def forward(self, source_features, target_features, source_logits, target_logits, source_labels):
        self.seen = {"sf": source_features, "tf": target_features, "sl": source_logits, "tl": target_logits}
        self.seen["y"] = source_labels
        self.autocast = torch.is_autocast_enabled("cpu")
        return source_features.new_tensor(self.value)


class Scheduled(Objective):
    def forward(self, source_features, strength):
        self.strength = strength
        return source_features.new_tensor(3.0)


class Views(Objective):
    def forward(self, target_features, target_view_features):
        self.seen = target_features, target_view_features
        return target_features.new_tensor(1.0)


def adapter(objectives=None, weights=None, schedules=None, tagging=False, **forward) -> JointModel:
    model = tiny.bert(tagging=tagging)
    head, objectives = find_head(model, families.batch()), ObjectiveSet(objectives, weights, schedules)
    task_loss = TaskLoss("token-classification" if tagging else "sequence-classification")
    chain = build_forward(model, head, objectives, **forward)
    return JointModel(model, head, task_loss, objectives, forward=chain).eval()


def joint_batch(rows: int = 3, **more):
    """Rows of the tiny batch, the last of them a target row."""
    labels = torch.tensor([0, 2, -100])
    return families.batch(rows=rows) | {"labels": labels, "domain": torch.tensor([0, 0, -1]), "num_source": 2} | more


# ---- from outside


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 2])])
@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_without_domain_it_is_the_plain_model(family, labels):
    model, batch = families.build(family).eval(), families.batch()
    joint = JointModel(model, find_head(model, batch), objectives=ObjectiveSet({"w": Witness()})).eval()
    given = batch if labels is None else batch | {"labels": labels}
    ours, plain = joint(**given), model(**given)
    assert type(ours) is type(plain)
    assert list(ours) == list(plain)
    assert torch.equal(ours.logits, plain.logits)
    assert labels is None or torch.equal(ours.loss, plain.loss)
    assert not hasattr(joint.objectives["w"], "seen")


def test_attributes_fall_through_to_the_model():
    joint = adapter()
    assert joint.config is joint.model.config
    assert joint.main_input_name == "input_ids"
    assert joint.num_parameters() == joint.model.num_parameters()
    assert joint.dtype == torch.float32
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        joint.nonesuch  # noqa: B018
    with pytest.raises(AttributeError):
        JointModel.__new__(JointModel).config  # noqa: B018  (half made: no endless recursion)


def test_a_copy_hooks_itself():
    joint = adapter({"w": Witness()})
    other = copy.deepcopy(joint)
    with torch.no_grad():
        other.model.classifier.weight.mul_(2)
        other.model.bert.pooler.dense.bias.add_(1)
    batch = joint_batch()
    joint(**batch), other(**batch)
    assert not torch.equal(joint.objectives["w"].seen["sf"], other.objectives["w"].seen["sf"])
    assert set(joint.state_dict()) == set(other.state_dict())
    assert all(name.split(".")[0] in ("model", "objectives", "progress") for name in joint.state_dict())


def test_a_model_can_be_copied_after_a_forward_that_nobody_took_features_of():
    joint = adapter({"w": Witness()})
    joint.model(**families.batch())
    assert copy.deepcopy(joint.model).num_labels == joint.model.num_labels


# ---- inside


def test_the_total_is_task_plus_weighted_parts():
    """Schedules read the progress; one that takes `strength` is handed weight times schedule and counts in full."""
    objectives = {"a": Witness(5.0), "b": Witness(7.0), "c": Scheduled()}
    joint = adapter(objectives, {"a": 0.5, "b": 2.0, "c": 0.2}, {"a": constant, "b": linear, "c": linear})
    joint.progress.fill_(0.25)
    out = joint(**joint_batch())
    task = out.losses[0].item()
    assert joint.loss_names == ["task", "a", "b", "c"]
    assert out.losses.tolist() == [task, 5.0, 7.0, 3.0]
    assert out.loss.item() == pytest.approx(task + 0.5 * 5 + 2 * 0.25 * 7 + 3)
    assert objectives["c"].strength.item() == pytest.approx(0.2 * 0.25)
    assert not out.losses.requires_grad
    joint.task_loss.weight = 0.5
    assert joint(**joint_batch()).loss.item() == pytest.approx(0.5 * task + 0.5 * 5 + 2 * 0.25 * 7 + 3)


@pytest.mark.parametrize(("family", "left"), [("bert", False), ("llama", False), ("llama", True)])
def test_objectives_are_given_each_domains_rows(family, left):
    model, inputs, witness = families.build(family), families.batch(left), Witness()
    head, batch = find_head(model, inputs), joint_batch() | inputs
    joint = JointModel(model, head, objectives=ObjectiveSet({"w": witness})).eval()
    out = joint(**batch)
    hook = FeatureHook(model, head)
    logits = model(**inputs).logits
    features = hook.take(inputs)
    expected = {"sf": features[:2], "tf": features[2:], "sl": logits[:2], "tl": logits[2:], "y": batch["labels"][:2]}
    assert all(torch.equal(witness.seen[name], value) for name, value in expected.items())
    assert torch.equal(out.logits, logits)


def test_objectives_compute_in_fp32_outside_autocast():
    witness = Witness()
    joint = adapter({"w": witness})
    with torch.autocast("cpu", torch.bfloat16):
        out = joint(**joint_batch())
    assert out.logits.dtype == torch.bfloat16
    assert not witness.autocast
    assert {x.dtype for name, x in witness.seen.items() if name != "y"} == {torch.float32}
    assert out.loss.dtype == torch.float32


@pytest.mark.parametrize("batch_norm", ["joint", "separate"])
def test_a_second_view_is_another_dropout_of_the_target(batch_norm):
    views = Views()
    joint, batch = adapter({"v": views}, batch_norm=batch_norm), joint_batch()
    alone = adapter().forward(**batch)
    out = joint(**batch)
    torch.testing.assert_close(views.seen[0], views.seen[1])  # without dropout, the same
    assert views.seen[0].shape == (1, 32)
    torch.testing.assert_close(out.logits, alone.logits)
    assert out.losses[0].item() == pytest.approx(alone.loss.item())
    joint.train()
    joint(**batch)
    assert (views.seen[0] - views.seen[1]).abs().max() > 1e-3


# ---- words of a tagger


@pytest.mark.parametrize("left", [False, True])
def test_words_are_picked_evenly(left):
    """Of c words, the words ⌊i·c/k⌋ for i < k: all of them when there are k, repeated when there are fewer."""
    draw = np.random.default_rng(0)
    counts, width = [1, 3, TOKENS_PER_ROW, 13, 20], 30
    mask = np.zeros((len(counts), width), dtype=np.int64)
    for row, count in enumerate(counts):
        places = draw.choice(np.arange(8, width) if left else np.arange(1, width - 8), count, replace=False)
        mask[row, places] = 1
    values = torch.arange(len(counts) * width).reshape(len(counts), width)
    expected = []
    for row, count in enumerate(counts):
        words = np.flatnonzero(mask[row])
        expected += [row * width + words[i * count // TOKENS_PER_ROW] for i in range(TOKENS_PER_ROW)]
    assert pick_words(values, torch.from_numpy(mask)).tolist() == expected
    deep = pick_words(values.unsqueeze(-1).expand(-1, -1, 4), torch.from_numpy(mask))
    assert deep.shape == (len(counts) * TOKENS_PER_ROW, 4)


def test_a_taggers_objectives_see_words_only():
    witness, views = Witness(), Views()
    joint = adapter({"w": witness, "v": views}, tagging=True)
    mask = torch.tensor([[0, 1, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0]])
    labels = torch.where(mask.bool(), torch.tensor([[0], [1], [2]]), -100)
    joint(**joint_batch(labels=labels, word_mask=mask))
    assert witness.seen["sf"].shape == (2 * TOKENS_PER_ROW, 32)
    assert witness.seen["tl"].shape == (TOKENS_PER_ROW, 3)
    assert witness.seen["y"].tolist() == [0] * TOKENS_PER_ROW + [1] * TOKENS_PER_ROW
    torch.testing.assert_close(views.seen[0], witness.seen["tf"])
    torch.testing.assert_close(*views.seen)
