"""Gathering rows, seen from one process; two real processes are tested elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from hftransfer.objectives.gathered_rows import _GatherRows, gather_rows


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def second_of_two(monkeypatch):
    """Pretends to be process 1 of 2, the other of which holds the same rows and sends the same gradients."""

    def all_gather(parts, rows):
        for part in parts:
            part.copy_(rows)

    pretended = {
        "is_initialized": lambda: True,
        "get_world_size": lambda: 2,
        "get_rank": lambda: 1,
        "all_gather": all_gather,
        "all_reduce": lambda x: x.mul_(2),
    }
    for name, function in pretended.items():
        monkeypatch.setattr(dist, name, function)


def test_without_a_group_the_tensor_itself():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(x) is x


def test_function_in_a_group_of_one(group):
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert gather_rows(x) is x
    assert torch.equal(_GatherRows.apply(x), x)
    assert torch.autograd.gradcheck(_GatherRows.apply, x)
    assert torch.equal(_GatherRows.apply(x.T), x.T)  # not contiguous


def test_rows_come_in_rank_order_and_gradients_are_summed(second_of_two):
    x = torch.randn(3, 2, requires_grad=True)
    weights = torch.randn(6, 2)
    out = gather_rows(x)
    assert torch.equal(out, torch.cat([x, x]))
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close(gradient, 2 * weights[3:])


def test_what_autograd_hands_in_is_left_alone(second_of_two):
    """A sum hands the same gradient tensor to both its terms: reducing it in place would change the other's."""
    x, y = torch.randn(3, 2, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    weights = torch.randn(6, 2)
    gradient_x, gradient_y = torch.autograd.grad(((gather_rows(x) + y) * weights).sum(), [x, y])
    torch.testing.assert_close(gradient_y, weights)
    torch.testing.assert_close(gradient_x, 2 * weights[3:])
