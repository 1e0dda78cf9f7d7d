"""MMD: value, gradient, estimators, bandwidths, queue, TLlib's scale, memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from cases import array, batch, distances, make, mmd
from kernel_cases import Largest, kernel_matrix, kernel_mmd, shifted_labels, tllib_bandwidth, tllib_index, tllib_kernel
from processes import script

from hftransfer.objectives.alignment.mmd import MMD
from hftransfer.objectives.kernels import MEDIAN_ROWS


def tllib_mmd(x, y) -> float:
    """That library's quadratic form, 2/(n-1) added."""
    return (tllib_kernel(np.concatenate([x, y])) * tllib_index(len(x))).sum() + 2 / (len(x) - 1)


def some_weights(n, dtype=torch.float32):
    return 0.3 + 1.4 * torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=dtype)


def two(n=7, m=5, width=6, seed=0, dtype=torch.float32):
    inputs = batch(n, m, width, seed=seed, dtype=dtype)
    return inputs["source_features"], inputs["target_features"]


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize("kernels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (6, 6)])
def test_value_is_the_definition(estimator, bandwidth, kernels, n, m):
    x, y = two(n, m)
    value = make("mmd", estimator=estimator, bandwidth=bandwidth, kernels=kernels)(x, y)
    assert value.shape == ()
    assert value.item() == pytest.approx(mmd(array(x), array(y), estimator, bandwidth, kernels), abs=2e-6)


@pytest.mark.parametrize("n", [3, 8, 20])
def test_tllib_has_five_times_the_value_and_a_constant(n):
    x, y = two(n, n)
    module = make("mmd", bandwidth=tllib_bandwidth(np.concatenate([array(x), array(y)])))
    assert 5 * module(x, y).item() + 2 / (n - 1) == pytest.approx(tllib_mmd(array(x), array(y)), abs=1e-5)


def test_median_of_many_rows_is_taken_over_every_kth():
    x, y = two(MEDIAN_ROWS, 50, width=2)
    z = np.concatenate([array(x), array(y)])[::2]
    pairs = np.sort(distances(z)[np.triu_indices(len(z), 1)])
    fixed = make("mmd", bandwidth=float(pairs[(len(pairs) - 1) // 2]))
    assert make("mmd", bandwidth="median")(x, y).item() == pytest.approx(fixed(x, y).item(), abs=1e-6)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize(("n", "m"), [(5, 4), (1, 3), (3, 1), (1, 1)])
def test_gradient(estimator, kernels, n, m):
    x, y = two(n, m, width=3, dtype=torch.float64)
    module, w = make("mmd", width=3, estimator=estimator, kernels=kernels, bandwidth=2.0), some_weights(n, x.dtype)
    assert torch.autograd.gradcheck(lambda a, b: module(a, b, w), (x, y))


def test_bandwidth_has_no_gradient():
    """The gradient is that of a kernel whose width is a constant with the same value."""
    x, y = two(dtype=torch.float64)
    pairs = distances(np.concatenate([array(x), array(y)]))[np.triu_indices(len(x) + len(y), 1)]
    gradients = [torch.autograd.grad(make("mmd", bandwidth=b)(x, y), [x, y]) for b in ("mean", float(pairs.mean()))]
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (2, 9)])
def test_source_weights(estimator, bandwidth, n, m):
    (x, y), w = two(n, m), some_weights(n)
    k = kernel_matrix(np.concatenate([array(x), array(y)]), array(w), bandwidth)
    value = make("mmd", estimator=estimator, bandwidth=bandwidth)(x, y, w)
    assert value.item() == pytest.approx(kernel_mmd(k, array(w), estimator), abs=2e-6)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
def test_weights_make_up_for_classes_of_another_frequency(estimator):
    """Averages over draws: the weighted source looks like the target, the plain source does not."""
    module, values = make("mmd", width=4, estimator=estimator), []
    for seed in range(20):
        x, w, y, _ = shifted_labels(400, seed)
        g = torch.Generator().manual_seed(seed)  # the linear form pairs rows by place
        order, y = torch.randperm(400, generator=g), y[torch.randperm(400, generator=g)]
        x, w = x[order], w[order]
        values.append([module(x, y, w).item(), module(x, y).item()])
    weighted, plain = np.mean(values, axis=0)
    assert abs(weighted) < 0.15 * plain


def test_queue_keeps_the_weights_of_its_rows():
    module = make("mmd", queue=6)
    (x1, y1), (x2, y2), w1, w2 = two(4, 4, seed=1), two(4, 4, seed=2), some_weights(4), torch.tensor([2.0, 1, 1, 0.5])
    module(x1, y1, w1)
    w = array(torch.cat([w2, w1]))
    k = kernel_matrix(np.concatenate([array(z) for z in (x2, x1, y2, y1)]), w)
    assert module(x2, y2, w2).item() == pytest.approx(kernel_mmd(k, w), abs=2e-6)


def linear_mmd(x, y, w, kernels=5, bandwidth="mean") -> float:
    """Pair by pair: row i with row i + h."""
    h = min(len(x), len(y)) // 2
    k = kernel_matrix(np.concatenate([x, y]), w, bandwidth, kernels)
    t = len(x)
    ss = sum(w[i] * w[i + h] * k[i, i + h] for i in range(h)) / sum(w[i] * w[i + h] for i in range(h))
    tt = sum(k[t + i, t + i + h] for i in range(h)) / h
    st = sum(w[i] * k[i, t + i + h] + w[i + h] * k[i + h, t + i] for i in range(h))
    return ss + tt - st / (sum(w[: 2 * h]) / 2)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (7, 7), (9, 4), (3, 8), (2, 2)])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_linear_form(n, m, bandwidth, weighted):
    (x, y), w = two(n, m), some_weights(n) if weighted else torch.ones(n)
    value = make("mmd", estimator="linear", bandwidth=bandwidth)(x, y, w)
    assert value.shape == ()
    assert value.item() == pytest.approx(linear_mmd(array(x), array(y), array(w), bandwidth=bandwidth), abs=2e-6)


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


def test_gradient_scales_with_what_comes_back():
    x, y = two()
    once = torch.autograd.grad(make("mmd")(x, y), x)[0]
    thrice = torch.autograd.grad(3 * make("mmd")(x, y), x)[0]
    torch.testing.assert_close(thrice, 3 * once)


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


@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
def test_equal_domains(bandwidth):
    """Biased: 0. Unbiased on the very same rows: what dropping the diagonal takes away, and no gradient apart."""
    x, _ = two(6)
    y = x.detach().clone().requires_grad_()
    biased = make("mmd", estimator="biased", bandwidth=bandwidth)(x, y)
    assert biased.item() == pytest.approx(0, abs=1e-6)
    for gradient in torch.autograd.grad(biased, [x, y]):
        assert gradient.abs().max() < 1e-6
    unbiased = make("mmd", bandwidth=bandwidth)(x, y).item()
    assert unbiased == pytest.approx(mmd(array(x), array(x), bandwidth=bandwidth), abs=2e-6)
    assert unbiased < 0


def test_estimators_on_equal_distributions():
    """Over many draws the unbiased form averages 0 and the biased form does not."""
    n, draws = 8, 300
    modules = {name: MMD(estimator=name) for name in ("unbiased", "biased", "linear")}
    values = {name: [] for name in modules}
    g = torch.Generator().manual_seed(0)
    for _ in range(draws):
        x, y = torch.randn(2, n, 4, generator=g)
        for name, module in modules.items():
            values[name].append(module(x, y).item())
    mean = {name: np.mean(v) for name, v in values.items()}
    error = {name: np.std(v) / draws**0.5 for name, v in values.items()}
    assert abs(mean["unbiased"]) < 4 * error["unbiased"]
    assert abs(mean["linear"]) < 4 * error["linear"]
    assert min(values["unbiased"]) < 0
    assert min(values["biased"]) >= -1e-6
    assert mean["biased"] > 40 * error["biased"]


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
