"""The feature queue, against a plain deque, and its state."""

from __future__ import annotations

from collections import deque

import pytest
import torch

from hftransfer.objectives.feature_queue import FeatureQueue


def rows(count: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbered rows, so that each can be told from the others, and their labels."""
    numbers = torch.arange(start, start + count, dtype=torch.float32)
    return torch.stack([numbers, -numbers], dim=1), torch.arange(start, start + count) % 5


def content(queue: FeatureQueue) -> list[tuple[float, int]]:
    features, labels = queue.rows()
    assert torch.equal(features[:, 0], -features[:, 1])
    return sorted(zip(features[:, 0].tolist(), labels.tolist(), strict=True))


@pytest.mark.parametrize("pushes", [[3, 3, 3, 3], [7], [1] * 20, [5, 9, 2], [20], [7, 7], []])
def test_first_in_first_out(pushes):
    queue, plain, start = FeatureQueue(7, 2), deque(maxlen=7), 0
    for count in pushes:
        features, labels = rows(count, start)
        queue.push(features, labels)
        plain.extend(zip(features[:, 0].tolist(), labels.tolist(), strict=True))
        start += count
        assert content(queue) == sorted(plain)
    assert len(queue.rows()[0]) == len(plain)


def test_rows_have_no_gradient_and_are_copies():
    queue = FeatureQueue(4, 2)
    features = torch.ones(2, 2, requires_grad=True)
    queue.push(features)
    before, labels = queue.rows()
    assert not before.requires_grad
    assert labels.tolist() == [-100, -100]
    queue.push(torch.zeros(4, 2))
    assert torch.equal(before, torch.ones(2, 2))


def test_state_round_trip_and_what_follows():
    queue, start = FeatureQueue(7, 2), 0
    for count in (3, 3, 3):
        queue.push(*rows(count, start))
        start += count
    other = FeatureQueue(7, 2)
    other.load_state_dict(queue.state_dict())
    assert set(queue.state_dict()) == {"features", "labels", "pushed.stored"}
    assert not list(queue.parameters())
    assert other.pushed.value == queue.pushed.value == 9
    for count in (2, 6):  # the next push overwrites the same rows
        for each in (queue, other):
            each.push(*rows(count, start))
        start += count
        assert all(torch.equal(a, b) for a, b in zip(queue.rows(), other.rows(), strict=True))


def test_count_comes_back_inside_a_larger_module():
    module = torch.nn.ModuleDict({"queue": FeatureQueue(5, 2)})
    module["queue"].push(*rows(3, 0))
    other = torch.nn.ModuleDict({"queue": FeatureQueue(5, 2)})
    other.load_state_dict(module.state_dict())
    assert other["queue"].pushed.value == 3
    assert content(other["queue"]) == content(module["queue"])
