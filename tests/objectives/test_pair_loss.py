"""CLIP and SigLIP losses against NumPy, in chunks, with groups, and as shares of two processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from hftransfer.objectives.pair_loss import clip_loss, siglip_loss

ROWS, WIDTH, SCALE, BIAS = 12, 5, 7.0, -3.0


def pairs(seed: int = 0, rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, rows, WIDTH, dtype=torch.float64, generator=generator)
    return tuple(normalize(side, dim=1).requires_grad_() for side in drawn)


def groups(rows: int = ROWS) -> torch.Tensor:
    return torch.tensor([9, 4, 4, 7, 9, 9, 2, 4, 2, 7, 1, 9])[:rows]


def clip_by_hand(u, v, same) -> float:
    logits = SCALE * u @ v.T
    total = 0.0
    for matrix in (logits, logits.T):
        for i, row in enumerate(matrix):
            log_shares = row - np.log(np.exp(row).sum())
            total += -np.mean([log_shares[j] for j in range(len(row)) if same[i, j]])
    return total / (2 * len(u))


def siglip_by_hand(u, v, same) -> float:
    total = 0.0
    for i in range(len(u)):
        for j in range(len(v)):
            z = 1.0 if same[i, j] else -1.0
            total += np.log1p(np.exp(-z * (SCALE * u[i] @ v[j] + BIAS)))
    return total / len(u)


def loss(name, u, v, of=None, chunk=0):
    return clip_loss(u, v, SCALE, of, chunk) if name == "clip" else siglip_loss(u, v, SCALE, BIAS, of, chunk)


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("chunk", [0, 5])
def test_loss_is_that_of_numpy(name, grouped, chunk):
    u, v = pairs()
    of = groups() if grouped else None
    same = np.equal.outer(of.numpy(), of.numpy()) if grouped else np.eye(ROWS, dtype=bool)
    by_hand = (clip_by_hand if name == "clip" else siglip_by_hand)(u.detach().numpy(), v.detach().numpy(), same)
    assert loss(name, u, v, of, chunk).item() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("grouped", [False, True])
def test_gradient_in_chunks_is_that_of_the_whole(name, grouped):
    u, v = pairs()
    of = groups() if grouped else None
    whole = torch.autograd.grad(loss(name, u, v, of), (u, v))
    parts = torch.autograd.grad(loss(name, u, v, of, chunk=5), (u, v))
    for expected, found in zip(whole, parts, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert max(float(g.abs().max()) for g in whole) > 1e-3


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        made = function(*arguments, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_chunks_keep_memory_linear(name):
    rows, chunk = 256, 8
    largest = {}
    for size in (0, chunk):
        u, v = pairs(rows=rows)
        with Largest() as mode:
            loss(name, u, v, torch.arange(rows) % 10, size).backward()
        largest[size] = mode.elements
    assert largest[0] == rows * rows
    assert largest[chunk] == rows * chunk


def share(folder: str) -> None:
    """Gradients of this process's share of the batch, averaged over the processes as DDP does."""
    torch.distributed.init_process_group("gloo")
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    part = slice(rank * ROWS // count, (rank + 1) * ROWS // count)
    found = {}
    for name in ("clip", "siglip"):
        for kind, of in (("plain", None), ("grouped", groups())):
            u, v = (side[part].detach().requires_grad_() for side in pairs())
            value = loss(name, u, v, None if of is None else of[part], chunk=2)
            gradients = [g / count for g in torch.autograd.grad(value, (u, v))]
            mean = value.detach().clone()
            torch.distributed.all_reduce(mean)
            found[f"{name} {kind}"] = [mean / count, *gradients]
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one_with_the_batch_of_both(tmp_path):
    assert processes.forked(share, str(tmp_path), processes=2, log=tmp_path / "log") == 0, (
        tmp_path / "log"
    ).read_text()
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in ("clip", "siglip"):
        for kind, of in (("plain", None), ("grouped", groups())):
            u, v = pairs()
            value = loss(name, u, v, of)
            for side, expected in enumerate(torch.autograd.grad(value, (u, v)), start=1):
                found = torch.cat([part[f"{name} {kind}"][side] for part in shares])
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
            for part in shares:
                assert part[f"{name} {kind}"][0].item() == pytest.approx(value.item(), abs=1e-9)
