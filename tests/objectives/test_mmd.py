"""MMD: value, gradient, estimators, bandwidths, queue, peer constants, memory."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import array, batch, distances, make, mmd

from hftransfer.objectives.alignment.mmd import MEDIAN_ROWS, MMD, _GaussianMMD


def tllib_mmd(x, y) -> float:
    """That library's quadratic form: bandwidth from all pairs and the zero diagonal, kernels summed, 2/(n-1) added."""
    n, d = len(x), distances(np.concatenate([x, y]))
    k = sum(np.exp(-d / (2 * alpha * d.mean())) for alpha in (1 / 8, 1 / 4, 1 / 2, 1, 2))
    index = np.full((2 * n, 2 * n), -1 / n**2)
    for i in range(n):
        for j in range(n):
            index[i, j] = index[n + i, n + j] = 0 if i == j else 1 / (n * (n - 1))
    return (k * index).sum() + 2 / (n - 1)


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
def test_peer_tllib(n):
    x, y = two(n, n)
    assert make("mmd", peer="tllib")(x, y).item() == pytest.approx(tllib_mmd(array(x), array(y)), abs=1e-5)


def test_median_of_many_rows_is_taken_over_every_kth():
    x, y = two(MEDIAN_ROWS, 50, width=2)
    z = np.concatenate([array(x), array(y)])[::2]
    pairs = np.sort(distances(z)[np.triu_indices(len(z), 1)])
    fixed = make("mmd", bandwidth=float(pairs[(len(pairs) - 1) // 2]))
    assert make("mmd", bandwidth="median")(x, y).item() == pytest.approx(fixed(x, y).item(), abs=1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("n", "m"), [(5, 4), (1, 3), (1, 1)])
def test_gradient_of_the_function(biased, n, m):
    x, y = two(n, m, width=3, dtype=torch.float64)
    widths = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: _GaussianMMD.apply(a, b, widths, biased), (x, y))


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_gradient_with_queue_rows(estimator):
    module = make("mmd", width=3, estimator=estimator, bandwidth=2.0, queue=4).double()
    module(*two(3, 3, width=3, seed=1, dtype=torch.float64))
    x, y = two(4, 5, width=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: copy.deepcopy(module)(a, b), (x, y))


def test_bandwidth_has_no_gradient():
    """The gradient is that of a kernel whose width is a constant with the same value."""
    x, y = two(dtype=torch.float64)
    pairs = distances(np.concatenate([array(x), array(y)]))[np.triu_indices(len(x) + len(y), 1)]
    gradients = [torch.autograd.grad(make("mmd", bandwidth=b)(x, y), [x, y]) for b in ("mean", float(pairs.mean()))]
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted)


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


def test_queue_survives_a_state_dict():
    module, other = make("mmd", queue=6), make("mmd", queue=6)
    for seed in range(3):
        module(*two(4, 4, seed=seed))
    other.load_state_dict(module.state_dict())
    for seed in (5, 6):
        inputs = two(4, 4, seed=seed)
        assert torch.equal(module(*inputs), other(*inputs))


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


@pytest.mark.parametrize("settings", [{}, {"estimator": "biased"}, {"bandwidth": "median"}, {"peer": "tllib"}])
def test_invariances(settings):
    x, y = two(8, 8)
    module = make("mmd", **settings)
    value = module(x, y).item()
    g = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=g))[0]
    order = torch.randperm(8, generator=g)
    for what, (a, b) in {
        "row order": (x[order], y[order.flip(0)]),
        "translation": (x + 300, y + 300),
        "rotation": (x @ rotation, y @ rotation),
        "sign": (-x, -y),
        "domains swapped": (y, x),
        "scale": (50 * x, 50 * y),
    }.items():
        assert module(a, b).item() == pytest.approx(value, abs=2e-5), what


def test_estimators_on_equal_distributions():
    """Over many draws the unbiased form averages 0, the biased form does not, and the peer's constant is 2/(n-1)."""
    n, draws = 8, 300
    values = {name: [] for name in ("unbiased", "biased", "tllib")}
    modules = {"unbiased": MMD(), "biased": MMD(estimator="biased"), "tllib": MMD(peer="tllib")}
    g = torch.Generator().manual_seed(0)
    for _ in range(draws):
        x, y = torch.randn(2, n, 4, generator=g)
        for name, module in modules.items():
            values[name].append(module(x, y).item())
    mean = {name: np.mean(v) for name, v in values.items()}
    error = {name: np.std(v) / draws**0.5 for name, v in values.items()}
    assert abs(mean["unbiased"]) < 4 * error["unbiased"]
    assert min(values["unbiased"]) < 0
    assert min(values["biased"]) >= -1e-6
    assert mean["biased"] > 40 * error["biased"]
    assert abs(mean["tllib"] - 2 / (n - 1)) < 4 * error["tllib"]


@pytest.mark.parametrize("settings", [{}, {"estimator": "biased"}, {"bandwidth": "median"}, {"peer": "tllib"}])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize(("n", "m"), [(16, 16), (13, 7)])
def test_collapsed_features_do_not_push(settings, scale, n, m):
    """Rows that are all the same have no gradient; rounding must not pass for a distance."""
    row = scale * torch.randn(64, generator=torch.Generator().manual_seed(0))
    x, y = (row.repeat(rows, 1).requires_grad_() for rows in (n, m))
    value = make("mmd", width=64, **settings)(x, y)
    assert value.item() == pytest.approx(2 / (n - 1) if settings.get("peer") else 0, abs=1e-5)
    for gradient in torch.autograd.grad(value, [x, y]):
        assert gradient.abs().max() < 1e-3


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
def test_memory_is_a_few_kernel_matrices():
    """Forward and backward at 4,096 rows a domain raise the process's peak by at most 4 matrices of n x n."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert 0.5 < float(run.stdout) < 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "linear"}, "'linear' must be 'unbiased' or 'biased'"),
        ({"bandwidth": "max"}, "'max' must be 'mean', 'median' or a positive number"),
        ({"bandwidth": 0}, "0 must be"),
        ({"bandwidth": True}, "True must be"),
        ({"bandwidth": float("inf")}, "inf must be"),
        ({"kernels": 0}, "kernels=0 must be a whole number of at least 1"),
        ({"kernels": 2.5}, "kernels=2.5 must be a whole number"),
        ({"queue": -1}, "queue=-1 must be a whole number of at least 0"),
        ({"peer": "skada"}, "'skada' must be 'tllib'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        make("mmd", **settings)
