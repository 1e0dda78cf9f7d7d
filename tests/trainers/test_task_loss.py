"""The task loss is the model's own where rows are labelled, and rows without a label do not exist for it."""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
import tiny
import torch
from families import SEQUENCE, TOKEN

from hftransfer import JointModel
from hftransfer.models.feature_hook import find_head
from hftransfer.trainers.step.task_loss import TaskLoss

TASKS = [SEQUENCE, TOKEN, "multi-label-classification", "regression"]
PROBLEMS = {"multi-label-classification": "multi_label_classification", "regression": "regression"}


def adapter(task: str, family: str = "bert", **settings) -> JointModel:
    """In eval mode: without dropout two forwards agree."""
    names = ("score",) if task == "regression" else tiny.LABELS
    model = families.build(family, task, names, problem_type=PROBLEMS.get(task))
    return JointModel(model, find_head(model, families.batch()), TaskLoss(task, **settings)).eval()


def labels_for(task: str, rows: int = 3, width: int = 7) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    if task == "regression":
        return torch.randn(rows, generator=draw)
    if task == "multi-label-classification":
        return torch.randint(0, 2, (rows, 3), generator=draw).float()
    return torch.randint(0, 3, (rows, width) if task == TOKEN else (rows,), generator=draw)


def without_label(labels: torch.Tensor, rows: slice) -> torch.Tensor:
    out = labels.clone()
    out[rows] = math.nan if labels.is_floating_point() else -100
    return out


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
@pytest.mark.parametrize("task", TASKS)
def test_it_is_the_models_own(task, family):
    joint, batch, labels = adapter(task, family), families.batch(), labels_for(task)
    own = joint.model(**batch, labels=labels).loss
    out = joint(**batch, labels=labels, domain=torch.zeros(3, dtype=torch.long), num_source=3)
    torch.testing.assert_close(out.loss, own, rtol=1e-6, atol=1e-7)
    assert torch.equal(out.losses, out.loss.detach().reshape(1))
    for computed, expected in zip(
        torch.autograd.grad(out.loss, list(joint.model.parameters()), allow_unused=True),
        torch.autograd.grad(own, list(joint.model.parameters()), allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("task", TASKS)
def test_rows_without_a_label_do_not_count(task):
    joint, batch, labels = adapter(task), families.batch(), labels_for(task)
    known = {name: x[:2] for name, x in batch.items()}
    own = joint.model(**known, labels=labels[:2]).loss
    out = joint(**batch, labels=without_label(labels, slice(2, 3)), domain=torch.tensor([0, 0, -1]), num_source=2)
    torch.testing.assert_close(out.loss, own, rtol=1e-6, atol=1e-7)
    assert out.logits.shape[0] == 3


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_without_any_label_costs_nothing(task):
    joint, batch = adapter(task), families.batch()
    labels = without_label(labels_for(task), slice(None))
    loss = joint(**batch, labels=labels, domain=torch.full((3,), -1), num_source=0).loss
    assert loss == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in joint.model.parameters())


@pytest.mark.parametrize("task", TASKS)
def test_it_divides_by_the_items_of_the_update(task):
    """Two unequal micro-batches, each divided by the mean number of labelled items, average to the whole's mean."""
    joint, batch, labels = adapter(task), families.batch(), labels_for(task)
    domain = torch.zeros(3, dtype=torch.long)
    whole = joint(**batch, labels=labels, domain=domain, num_source=3).loss
    items = (torch.isfinite(labels.view(3, -1)).all(1) if labels.is_floating_point() else labels != -100).sum() / 2
    halves = [
        joint(
            **{name: x[part] for name, x in batch.items()},
            labels=labels[part],
            domain=domain[part],
            num_source=len(domain[part]),
            num_items=items,
        ).loss
        for part in (slice(0, 2), slice(2, 3))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
def test_label_smoothing_is_the_textbooks(task, smoothing):
    r"""\((1 - ε)(-\log p_y) + ε/K \sum_k -\log p_k\), averaged over labelled items, in float64."""
    joint, batch = adapter(task, label_smoothing=smoothing), families.batch()
    labels = without_label(labels_for(task), slice(0, 1))
    out = joint(**batch, labels=labels, domain=torch.zeros(3, dtype=torch.long), num_source=3)
    z = out.logits.detach().double().numpy().reshape(-1, 3)
    y = labels.numpy().reshape(-1)
    surprise = np.log(np.exp(z).sum(1, keepdims=True)) - z
    known = y != -100
    expected = (1 - smoothing) * surprise[known, y[known]] + smoothing * surprise[known].mean(1)
    assert out.loss.item() == pytest.approx(expected.mean(), rel=1e-6)


def test_labels_are_asked_for():
    with pytest.raises(ValueError, match="training batch came to the model without labels.*leave them there"):
        adapter(SEQUENCE)(**families.batch(), domain=torch.zeros(3))
