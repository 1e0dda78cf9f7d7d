"""A positive's share among candidates, in chunks: value, and what is alive at once."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from cases import array, asked, batch, call, leaves, make
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from variants import confident

from hftransfer.objectives.contrastive import contrastive_loss, excluded_logit


@pytest.mark.parametrize("skip_self", [False, True])
@pytest.mark.parametrize("offset", [False, True])
def test_value_is_the_definition(skip_self, offset):
    g = torch.Generator().manual_seed(0)
    shapes = ((7, 3), (7, 3), (5, 3), (12,))
    anchors, positives, more, offsets = (torch.randn(*shape, generator=g) for shape in shapes)
    candidates = torch.cat([anchors, more])
    z, p, c = array(anchors), array(positives), array(candidates)
    o = array(offsets) if offset else np.zeros(12)
    expected = [
        np.log(sum(np.exp(z[i] @ c[k] / 0.3 + o[k]) for k in range(12) if not (skip_self and i == k)))
        - z[i] @ p[i] / 0.3
        for i in range(7)
    ]
    for chunk in (0, 1, 4, 7, 50):
        value = contrastive_loss(anchors, positives, candidates, 0.3, offsets if offset else None, chunk, skip_self)
        assert value.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5), chunk


@pytest.mark.parametrize("chunk", [0, 2])
def test_without_any_candidate_it_is_finite(chunk):
    anchors, candidates = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2)
    value = contrastive_loss(
        anchors, torch.zeros(3, 2), candidates, 0.1, torch.full((4,), excluded_logit(candidates)), chunk
    )
    assert torch.isfinite(value).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), anchors)[0]).all()


@pytest.mark.parametrize("chunk", [1, 3, 64])
@pytest.mark.parametrize("kind", ["supcon", "nt_xent"])
def test_chunks_change_neither_value_nor_gradient(kind, chunk):
    """Of the second batch, so that there are rows in the queue."""
    found = []
    for size in (0, chunk):
        module, inputs = make(kind, queue=6, chunk=size).double(), confident(9, 8, dtype=torch.float64)
        inputs["source_weights"] = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)
        call(module, confident(9, 8, seed=1, dtype=torch.float64))
        value, given = call(module, inputs), asked(module, inputs)
        moved = [x for name in given if name.endswith("features") for x in leaves(given[name])]
        found.append([value, *torch.autograd.grad(value, [*moved, *module.parameters()])])
    torch.testing.assert_close(*found, atol=1e-12, rtol=1e-12)


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors made within that are alive, and the most at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        for storage in (x.untyped_storage() for x in tree_leaves(out) if isinstance(x, torch.Tensor)):
            if id(storage) not in given and storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, size: int) -> None:
        self.now -= size


def peak(kind: str, rows: int, **settings) -> int:
    """Bytes alive at most in a forward and backward pass over that many rows a domain."""
    module, inputs = make(kind, 8, **settings), batch(rows, rows, 8)
    given = {name: inputs[name] for name in module.needs()}
    with Alive() as alive:
        module(**given).backward()
    return alive.peak


@pytest.mark.parametrize(
    ("kind", "settings"), [("supcon", {"queue": 0, "threshold": 0.0}), ("nt_xent", {"projection_dim": 8})]
)
def test_memory_grows_with_the_batch_and_not_with_its_square(kind, settings):
    whole, parts = ([peak(kind, rows, chunk=chunk, **settings) for rows in (128, 512)] for chunk in (0, 16))
    assert whole[1] > 12 * whole[0]
    assert parts[1] < 5 * parts[0]
    assert parts[1] < whole[1] / 8
