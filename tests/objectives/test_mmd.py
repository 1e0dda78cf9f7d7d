"""MMD: value, gradient, estimators, bandwidths, queue, TLlib's scale, memory."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from cases import array, batch, distances, make
from kernel_cases import Largest, kernel_matrix, kernel_mmd, mmd, tllib_bandwidth, tllib_index, tllib_kernel
from processes import script

from hftransfer.objectives.alignment.mmd import MMD
from hftransfer.objectives.kernels import MEDIAN_ROWS


def some_weights(n, dtype=torch.float32):
    return 0.3 + 1.4 * torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=dtype)


def two(n=7, m=5, width=6, seed=0, dtype=torch.float32):
    inputs = batch(n, m, width, seed=seed, dtype=dtype)
    return inputs["source_features"], inputs["target_features"]


def linear_mmd(k: np.ndarray, w: np.ndarray, m: int) -> float:
    """Pair by pair: row i with row i + h."""
    t, h = len(w), min(len(w), m) // 2
    ss = sum(w[i] * w[i + h] * k[i, i + h] for i in range(h)) / sum(w[i] * w[i + h] for i in range(h))
    tt = sum(k[t + i, t + i + h] for i in range(h)) / h
    st = sum(w[i] * k[i, t + i + h] + w[i + h] * k[i + h, t + i] for i in range(h))
    return ss + tt - st / (sum(w[: 2 * h]) / 2)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
def test_value_is_the_definition(estimator, bandwidth):
    sizes = ((7, 5), (4, 9), (6, 6), (2, 9), (7, 7), (9, 4), (3, 8), (2, 2))
    for kernels, (n, m), weights in itertools.product(range(1, 6), sizes, (None, some_weights)):
        (x, y), w = two(n, m), weights(n) if weights else torch.ones(n)
        value = make("mmd", estimator=estimator, bandwidth=bandwidth, kernels=kernels)(x, y, w if weights else None)
        k = kernel_matrix(np.concatenate([array(x), array(y)]), array(w), bandwidth, kernels)
        wanted = linear_mmd(k, array(w), m) if estimator == "linear" else kernel_mmd(k, array(w), estimator)
        assert value.item() == pytest.approx(wanted, abs=2e-6), (kernels, n, m, weights)


@pytest.mark.parametrize("n", [3, 8, 20])
def test_tllib_has_five_times_the_value_and_a_constant(n):
    """That library's quadratic form, 2/(n-1) added."""
    x, y = two(n, n)
    z = np.concatenate([array(x), array(y)])
    module = make("mmd", bandwidth=tllib_bandwidth(z))
    assert 5 * module(x, y).item() == pytest.approx((tllib_kernel(z) * tllib_index(n)).sum(), abs=1e-5)


def test_median_of_many_rows_is_taken_over_every_kth():
    x, y = two(MEDIAN_ROWS, 50, width=2)
    z = np.concatenate([array(x), array(y)])[::2]
    pairs = np.sort(distances(z)[np.triu_indices(len(z), 1)])
    fixed = make("mmd", bandwidth=float(pairs[(len(pairs) - 1) // 2]))
    assert make("mmd", bandwidth="median")(x, y).item() == pytest.approx(fixed(x, y).item(), abs=1e-6)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
def test_gradient(estimator):
    for kernels, (n, m) in itertools.product((1, 3), ((5, 4), (1, 3), (3, 1), (1, 1))):
        x, y = two(n, m, width=3, dtype=torch.float64)
        module = make("mmd", width=3, estimator=estimator, kernels=kernels, bandwidth=2.0)
        forward = lambda a, b: 3 * module(a, b, some_weights(len(a), a.dtype))  # noqa: B023, E731
        assert torch.autograd.gradcheck(forward, (x, y)), (kernels, n, m)


def test_queue_keeps_the_weights_of_its_rows():
    module = make("mmd", queue=6)
    (x1, y1), (x2, y2), w1, w2 = two(4, 4, seed=1), two(4, 4, seed=2), some_weights(4), torch.tensor([2.0, 1, 1, 0.5])
    module(x1, y1, w1)
    w = array(torch.cat([w2, w1]))
    k = kernel_matrix(np.concatenate([array(z) for z in (x2, x1, y2, y1)]), w)
    assert module(x2, y2, w2).item() == pytest.approx(kernel_mmd(k, w), abs=2e-6)


def test_queue_adds_rows_of_earlier_batches():
    module = make("mmd", estimator="unbiased", queue=8)
    first, second, third = (two(5, 4, seed=seed) for seed in (1, 2, 3))
    assert module(*first).item() == pytest.approx(mmd(*map(array, first)), abs=2e-6)
    both = [np.concatenate([array(new), array(old)]) for new, old in zip(second, first, strict=True)]
    assert module(*second).item() == pytest.approx(mmd(*both), abs=2e-6)
    # Eight rows are kept: the oldest had to go.
    kept = []
    for oldest, old, new in zip(first, second, third, strict=True):
        kept.append(np.concatenate([array(new), np.concatenate([array(oldest), array(old)])[-8:]]))
    assert module(*third).item() == pytest.approx(mmd(*kept), abs=2e-6)


def test_linear_form_makes_nothing_quadratic():
    """4,000 rows: a block of kernels would have 16 million entries, the rows themselves have 32 thousand."""
    x, y = (torch.randn(4000, 8, requires_grad=True) for _ in range(2))
    with Largest() as largest:
        MMD(estimator="linear")(x, y).backward()
    assert largest.entries == 4000 * 8
    with Largest() as largest:
        MMD()(x[:500], y[:500])
    assert largest.entries == 500 * 500


def test_linear_form_of_one_row_is_0():
    x, y = two(1, 5)
    value = make("mmd", estimator="linear")(x, y)
    assert value.item() == 0
    assert torch.autograd.grad(value, x)[0].abs().max() == 0


def test_the_linear_form_is_noisier_and_the_more_so_the_larger_the_batch():
    g, ratio = torch.Generator().manual_seed(0), {}
    for n in (8, 32):
        values = {name: [] for name in ("linear", "unbiased")}
        for _ in range(200):
            x, y = torch.randn(2, n, 16, generator=g)
            for name, found in values.items():
                found.append(MMD(estimator=name)(x, y).item())
        ratio[n] = np.std(values["linear"]) / np.std(values["unbiased"])
    assert ratio[8] > 2
    assert ratio[32] > 1.5 * ratio[8]


def test_median_of_mostly_equal_rows_still_sees_the_rest():
    """More than half of the distances are 0: as a width that would blind the kernel."""
    x, y = torch.zeros(10, 3), torch.cat([torch.zeros(8, 3), torch.ones(2, 3)]).requires_grad_()
    value = make("mmd", bandwidth="median", estimator="biased")(x, y)
    assert value.item() == pytest.approx(mmd(array(x), array(y), "biased", "mean"), abs=2e-6)
    assert torch.autograd.grad(value, y)[0].abs().max() > 1e-3


MEMORY = """
import torch
from hftransfer.objectives.alignment.mmd import MMD
torch.set_num_threads(1)
def step(n):
    x, y = torch.randn(n, 64).requires_grad_(), (torch.randn(n, 64) + 1).requires_grad_()
    MMD(bandwidth="median")(x, y).backward()
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
step(256)
before = peak()
step(4096)
print((peak() - before) / (4096 * 4096 * 4))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_memory_is_a_few_kernel_matrices(tmp_path):
    """Forward and backward at 4,096 rows a domain raise the process's peak by at most 4 matrices of n x n."""
    assert 0.5 < float(script(MEMORY, log=tmp_path / "log")) < 4
