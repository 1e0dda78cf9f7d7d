"""Adaptation at test time against NumPy: steps, choice of rows, statistics, predictions, the Fisher information."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stream_cases import Probe, equal, rows, state, sure
from torch import nn

from hftransfer import TestTimeAdapter
from hftransfer.test_time.mixed_statistics import mixed_statistics
from hftransfer.test_time.reliable_rows import class_mix, select_rows
from hftransfer.test_time.stream_monitor import StreamMonitor
from hftransfer.test_time.stream_settings import StreamSettings


def numpy_entropies(probe: Probe, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    weight, bias = np.split(theta, 2)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight + bias
    z = x @ probe.head.weight.detach().double().numpy().T + probe.head.bias.detach().double().numpy()
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return -(p * np.log(p)).sum(1)


def slope(f, theta: np.ndarray) -> np.ndarray:
    """Central differences."""
    steps = 1e-6 * np.eye(len(theta))
    return np.array([(f(theta + s) - f(theta - s)) / 2e-6 for s in steps])


@pytest.mark.parametrize("sharpness", [0.0, 0.3])
@pytest.mark.parametrize("weighs", [False, True])
def test_two_steps_are_those_of_numpy(sharpness, weighs):
    """Weighted entropy of reliable rows, at the worst point near by, pulled to the start, with momentum."""
    probe, share, rate, pull = Probe(), 0.8, 0.3, 0.5
    adapter = TestTimeAdapter(
        probe, "tent", batch_norm="running", optimizer="sgd", learning_rate=rate, full_step_rows=1, anchor=pull,
        sharpness=sharpness, entropy_threshold=share, entropy_weights=weighs,
    )  # fmt: skip
    start = np.concatenate([probe.norm.weight.detach().double().numpy(), probe.norm.bias.detach().double().numpy()])
    theta, velocity, bound = start.copy(), 0.0, share * math.log(3)
    for seed in (0, 1):
        x = rows(seed=seed)
        before = numpy_entropies(probe, x.double().numpy(), theta)
        chosen = before < bound
        weights = np.exp(bound - before) if weighs else np.ones_like(before)
        of = lambda t, keep, x=x, w=weights: (w * numpy_entropies(probe, x.double().numpy(), t))[keep].mean()  # noqa: E731
        gradient = slope(lambda t: of(t, chosen), theta)  # noqa: B023
        if sharpness:
            moved = theta + sharpness * gradient / np.linalg.norm(gradient)
            chosen = chosen & (numpy_entropies(probe, x.double().numpy(), moved) < bound)
            gradient = slope(lambda t: of(t, chosen), moved)  # noqa: B023
        assert 0 < chosen.sum() < len(x)
        velocity = 0.9 * velocity + gradient + pull * (theta - start)
        theta = theta - rate * velocity
        assert adapter.adapt_and_predict(x).learned_rows == chosen.sum()
    found = torch.cat([adapter.model.norm.weight, adapter.model.norm.bias]).detach().numpy()
    np.testing.assert_allclose(found, theta, rtol=1e-4, atol=1e-5)
    assert np.abs(theta - start).max() > 1e-3


def test_rows_are_chosen_by_entropy_novelty_and_agreement():
    z = 3 * rows(40, 4).double()
    log_p, start = z.log_softmax(1), rows(40, 4, seed=1).double().log_softmax(1)
    average = log_p.exp().mean(0)
    settings = StreamSettings(entropy_threshold=0.6, redundancy_margin=1.4)
    found = select_rows(log_p, settings, average, start)
    p, a = log_p.exp().numpy(), average.numpy()
    h = -(p * np.log(p)).sum(1)
    cosine = p @ a / np.linalg.norm(p, axis=1) / np.linalg.norm(a)
    parts = [h < 0.6 * np.log(4), cosine < 1.4 / 2, p.argmax(1) == start.numpy().argmax(1)]
    expected = np.logical_and.reduce(parts)
    assert all(0 < part.sum() < 40 for part in parts)
    assert 0 < expected.sum()
    assert (found.chosen.numpy() == expected).all()
    np.testing.assert_allclose(found.weights.numpy(), np.where(expected, np.exp(0.6 * np.log(4) - h), 0))


@pytest.mark.parametrize("prior", [0.0, 5.0])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_mixed_statistics_are_those_of_numpy(prior, kind):
    torch.manual_seed(1)
    norm = kind(3).eval()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    kept = state(norm)
    x = 2 + 3 * torch.randn(4, 3, *([5, 5] if kind is nn.BatchNorm2d else []))
    with mixed_statistics(norm, prior):
        found = norm(x)
    flat = np.moveaxis(x.double().numpy(), 1, 0).reshape(3, -1)
    share = 4 / (4 + prior)
    mean = share * flat.mean(1) + (1 - share) * norm.running_mean.double().numpy()
    variance = share * flat.var(1) + (1 - share) * norm.running_var.double().numpy()
    shape = (1, 3, *[1] * (x.ndim - 2))
    expected = (x.double().numpy() - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + norm.eps)
    expected = expected * norm.weight.detach().numpy().reshape(shape) + norm.bias.detach().numpy().reshape(shape)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert equal(state(norm), kept)
    assert "forward" not in norm.__dict__
    with mixed_statistics(norm, prior):  # one value a channel has no variance: the running statistics
        one = norm(x[:1] if kind is nn.BatchNorm1d else x[:1, :, :1, :1])
    torch.testing.assert_close(one, norm(x[:1] if kind is nn.BatchNorm1d else x[:1, :, :1, :1]))


def test_predictions_are_the_mean_of_both_models():
    probe = Probe(norm=nn.BatchNorm1d)
    probe.norm.running_mean.fill_(0.5)
    x = rows(8)
    found = TestTimeAdapter(probe, start_share=0.25, class_mix=False, learning_rate=0.0).predict(x).logits.exp()
    with torch.no_grad():
        start = probe(x).softmax(1)
        with mixed_statistics(probe, 64):
            adapted = probe(x).softmax(1)
    assert not torch.allclose(start, adapted, atol=1e-3)
    torch.testing.assert_close(found, 0.25 * start + 0.75 * adapted)

    mixed = TestTimeAdapter(probe, start_share=0.25, learning_rate=0.0).adapt_and_predict(x).logits.exp()
    mix = (1 / adapted.mean(0).square().sum() - 1) / (8 * 3 / 10 - 1)
    share = 1 - 0.75 * min(1.0, float(mix))
    torch.testing.assert_close(mixed, share * start + (1 - share) * adapted)
    with torch.no_grad():
        probe.head.bias.add_(torch.tensor([60.0, 0, 0]))  # one class only: the start's word alone
        only = TestTimeAdapter(probe, learning_rate=0.0).adapt_and_predict(x).logits
        torch.testing.assert_close(only, probe(x).log_softmax(1))


def numpy_correlation(batches: list[np.ndarray], settings: StreamSettings) -> float:
    """Of batches of probabilities, the moving average of which is theirs."""
    average, terms = None, None
    for p in batches:
        kept = 0.9 ** (len(p) / settings.full_step_rows)
        if average is not None and len(p) > 1:
            away = p - average
            total, between = np.square(away).sum(1).mean(), np.square(away.mean(0)).sum()
            new = np.array([len(p) * between - total, (len(p) - 1) * total])
            terms = new if terms is None else kept * terms + (1 - kept) * new
        average = p.mean(0) if average is None else kept * average + (1 - kept) * p.mean(0)
    return min(max(terms[0] / terms[1], 0), 1)


def test_the_correlation_within_batches_is_that_of_numpy():
    settings, draw = StreamSettings(), np.random.default_rng(0)
    for purity, low, high in ((0.0, 0.0, 0.05), (0.6, 0.3, 0.9), (1.0, 0.9, 1.0)):
        monitor, batches = StreamMonitor(settings), []
        for i in range(60):
            own = draw.random(12) < purity  # rows of the batch's class; the others are of any
            classes = np.where(own, i % 5, draw.integers(0, 5, 12))
            batches.append(np.full((12, 5), 0.01) + 0.95 * np.eye(5)[classes])
            log_p = torch.from_numpy(batches[-1]).log()
            monitor.add_spread(log_p)
            monitor.add("adapted", log_p.exp().mean(0), 12)
        assert monitor.correlation() == pytest.approx(numpy_correlation(batches, settings), abs=1e-4)
        assert low <= monitor.correlation() <= high, purity
    monitor.add_spread(log_p[:1])  # a single row says nothing
    assert monitor.correlation() == pytest.approx(numpy_correlation(batches, settings), abs=1e-4)


def test_rows_that_are_alike_count_as_fewer():
    """Statistics of batches of one class count by the design effect; `predict` uses it and changes nothing."""
    model = sure(Probe(norm=nn.BatchNorm1d))
    one, other = rows(8, seed=1) * 0.1 + 2, rows(8, seed=2) * 0.1 - 2
    settings = {"learning_rate": 0.0, "start_share": 0.0, "class_mix": False}
    adapter, plain = (TestTimeAdapter(model, design_effect=value, **settings) for value in (True, False))
    for batch in [one, other] * 6:
        found, without = adapter.adapt_and_predict(batch), plain.adapt_and_predict(batch)
    effect = 1 + 7 * adapter.monitor.correlation()
    assert effect > 4
    with torch.no_grad(), mixed_statistics(model, 64 * effect):
        expected = model(other).log_softmax(1)
    torch.testing.assert_close(found.logits, expected)
    assert not torch.allclose(without.logits, expected, atol=1e-3)
    before = adapter.state_dict()["tensors"]
    torch.testing.assert_close(adapter.predict(other).logits, expected)
    assert equal(before, adapter.state_dict()["tensors"])
    copy = TestTimeAdapter(model, **settings)
    copy.load_state_dict(adapter.state_dict())
    torch.testing.assert_close(copy.predict(one).logits, adapter.predict(one).logits, rtol=0, atol=0)


def test_a_step_on_rows_that_are_alike_is_smaller(monkeypatch):
    settings = {"entropy_threshold": 1.0, "redundancy_margin": None, "agreement": False, "learning_rate": 0.05}
    for correlation, effect in ((0.0, 1.0), (0.5, 4.5)):
        adapter, rates = TestTimeAdapter(Probe(norm=nn.BatchNorm1d), **settings), []
        monkeypatch.setattr(adapter.monitor, "correlation", lambda value=correlation: value)
        monkeypatch.setattr(adapter, "_step", lambda gradients, rate, to=rates: to.append(rate))
        found = adapter.adapt_and_predict(rows(8))
        assert found.learned_rows > 0
        assert rates == [pytest.approx(0.05 * found.learned_rows / (64 * effect))]


def test_the_mix_of_classes_is_even_where_chance_would_have_it():
    """The expectation of Σ p̄² over drawn rows is 1 / D̄; a single class is 0, a single row 1."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4000, 8)))
    shares = torch.nn.functional.one_hot(labels, 5).double().mean(1)
    assert float(1 / shares.square().sum(1).mean()) == pytest.approx(8 * 5 / 12, rel=0.01)
    certain = lambda *ids: (torch.nn.functional.one_hot(torch.tensor(ids), 5) * 80.0).log_softmax(1)  # noqa: E731
    assert float(class_mix(certain(2, 2, 2, 2))) == pytest.approx(0, abs=1e-6)
    assert float(class_mix(certain(2))) == 1
    assert float(class_mix(certain(0, 1, 2, 3))) == 1
    assert float(class_mix(certain(0, 0, 1, 1))) == pytest.approx((2 - 1) / (20 / 8 - 1))


def test_fisher_information_is_that_of_numpy():
    probe, batches = Probe(), [rows(4, seed=7), rows(3, seed=8)]
    adapter = TestTimeAdapter(probe, "eata", batch_norm="running", fisher_batches=batches)
    theta = np.concatenate([p.detach().double().numpy() for p in probe.norm.parameters()])

    def loss(t, x, predicted):
        weight, bias = np.split(t, 2)
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight + bias
        z = x @ probe.head.weight.detach().double().numpy().T + probe.head.bias.detach().double().numpy()
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), predicted]))

    squares = []
    for batch in batches:
        predicted = probe(batch).argmax(1).numpy()
        squares.append(slope(lambda t, x=batch, y=predicted: loss(t, x.double().numpy(), y), theta) ** 2)
    np.testing.assert_allclose(
        torch.cat(list(adapter.fisher.values())).numpy(), np.mean(squares, 0), rtol=1e-3, atol=1e-7
    )
