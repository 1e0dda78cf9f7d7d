"""Class weights from predictions alone: the estimators against NumPy, and their state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from cases import array
from scipy.optimize import minimize

from hftransfer.objectives.label_shift_weights import LabelShift, bbse, mlls

SOURCE, TARGET = np.array([0.5, 0.3, 0.2]), np.array([0.15, 0.25, 0.6])
TRUE = TARGET / SOURCE


def posterior(x: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Exact p(k | x) of three unit Gaussians at -1.5, 0 and 1.5."""
    density = np.exp(-0.5 * (x[:, None] - np.array([-1.5, 0.0, 1.5])) ** 2)
    joint = density * priors
    return joint / joint.sum(1, keepdims=True)


def draw(rows: int, priors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=rows, p=priors)
    return rng.normal(np.array([-1.5, 0.0, 1.5])[y], 1.0), y


def domains(rows: int = 4000, seed: int = 0):
    """Logits of the exact source posterior on both domains, and the source's labels."""
    (xs, ys), (xt, _) = draw(rows, SOURCE, seed), draw(rows, TARGET, seed + 1)
    logits = (torch.from_numpy(np.log(posterior(x, SOURCE))) for x in (xs, xt))
    return *logits, torch.from_numpy(ys)


def test_bbse_solves_the_confusion_equation():
    rng = np.random.default_rng(0)
    confusion = rng.dirichlet(np.ones(3), size=3).T * SOURCE + np.diag(SOURCE)
    confusion /= confusion.sum()
    w = torch.from_numpy(TRUE)
    found = bbse(torch.from_numpy(confusion), torch.from_numpy(confusion) @ w)
    np.testing.assert_allclose(found, TRUE, atol=1e-10)


def test_bbse_stays_at_or_above_zero():
    confusion, predicted = torch.tensor([[0.4, 0.2], [0.1, 0.3]]), torch.tensor([0.95, 0.05])
    assert np.linalg.solve(confusion.numpy(), predicted.numpy()).min() < 0
    assert bbse(confusion, predicted).min() >= 0


def test_mlls_is_the_maximum_of_the_likelihood():
    """EM's fixed point against a general optimiser on the same likelihood."""
    _, target, _ = domains(500)
    p = array(target.softmax(-1))

    def loss(free: np.ndarray) -> float:
        pi = np.exp(free) / np.exp(free).sum()
        return -np.log((p * (pi / SOURCE)).sum(1)).mean()

    best = minimize(loss, np.zeros(3), tol=1e-12).x
    pi = np.exp(best) / np.exp(best).sum()
    found = array(mlls(target.softmax(-1), torch.from_numpy(SOURCE)))
    np.testing.assert_allclose(found, pi / SOURCE, rtol=1e-3)


def test_mlls_leaves_a_class_alone_that_the_source_lacks():
    p = torch.tensor([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3]])
    found = mlls(p, torch.tensor([0.5, 0.5, 0.0]))
    assert found[2] == 1
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("estimator", ["mlls", "bbse"])
def test_estimates_find_the_true_weights(estimator):
    """Of rows that come in small batches; they are 1 until the first estimate."""
    for seed in (0, 10, 20):
        source, target, labels = domains(seed=seed)
        shift = LabelShift(3, estimator, rows=4000, smoothing=1.0).double()
        for i in range(0, 4000, 100):
            assert torch.equal(shift.weights, torch.ones(3, dtype=torch.float64))
            shift.observe(source[i : i + 100], labels[i : i + 100], target[i : i + 100])
        np.testing.assert_allclose(shift.weights, TRUE, atol=0.25)
        assert (torch.bincount(labels) / 4000 * shift.weights).sum() == pytest.approx(1)


def test_what_a_model_says_too_often_everywhere_is_no_shift():
    """A model that is not trained yet leans to some classes in both domains alike."""
    leaning = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
    source, _, labels = domains(40_000)
    shift = LabelShift(3, rows=40_000, smoothing=1.0)
    other, _, _ = domains(40_000, seed=7)  # the same class frequencies
    shift.observe(source + leaning, labels, other + leaning)
    np.testing.assert_allclose(array(shift.weights), 1.0, atol=0.1)
    against_counts = mlls((other + leaning).softmax(-1), torch.from_numpy(SOURCE))
    assert np.abs(array(against_counts) - 1).max() > 0.5


def test_a_task_that_weighs_its_rows_is_not_corrected_twice():
    """A model trained on weighted rows predicts with their class frequencies: the estimate has to know, or it runs
    away from the true weights with every round."""
    (xs, ys), (xt, _) = draw(40_000, SOURCE, 0), draw(40_000, TARGET, 1)

    def settle(weighs_task: bool) -> np.ndarray:
        shift = LabelShift(3, rows=40_000, smoothing=1.0, weighs_task=weighs_task)
        for _ in range(6):
            trained_on = SOURCE * array(shift.weights)  # the exact posterior of a model trained with these weights
            source, target = (torch.from_numpy(np.log(posterior(x, trained_on))) for x in (xs, xt))
            shift.observe(source, torch.from_numpy(ys), target)
        return array(shift.weights)

    np.testing.assert_allclose(settle(True), TRUE, rtol=0.05)
    assert np.abs(settle(False) / TRUE - 1).max() > 0.5


def test_pada_is_the_mean_prediction_and_finds_absent_classes():
    """Four classes, of which the target has two."""
    shift = LabelShift(4, "pada", rows=100, smoothing=1.0)
    target = torch.zeros(100, 4)
    target[:60, 0], target[60:, 1] = 8.0, 8.0
    labels = torch.arange(100) % 4
    shift.observe(torch.randn(100, 4), labels, target)
    mean = target.softmax(-1).mean(0)
    expected = (mean / mean.mean()).clamp(0.1, 10)
    torch.testing.assert_close(shift.weights, expected / expected.mean())
    assert shift.weights[2:].max() < 0.2 < 1 < shift.weights[:2].min()


def test_equal_domains_weigh_1():
    source, _, labels = domains()
    for estimator, error in (("bbse", 1e-6), ("mlls", 0.2)):  # the second does not see the labels of these very rows
        shift = LabelShift(3, estimator, rows=4000, smoothing=1.0).double()
        shift.observe(source, labels, source)
        np.testing.assert_allclose(shift.weights, 1, atol=error)


def test_smoothing_and_bound():
    source, target, labels = domains()
    whole, half, tight = (
        LabelShift(3, rows=4000, smoothing=s, bound=b).double() for s, b in ((1, 10), (0.5, 10), (1, 1.5))
    )
    for shift in (whole, half, tight):
        shift.observe(source, labels, target)
    prior = torch.bincount(labels) / 4000
    mixed = 0.5 + 0.5 * whole.weights
    torch.testing.assert_close(half.weights, mixed / (prior * mixed).sum())
    assert tight.weights.max() / tight.weights.min() <= 1.5**2 + 1e-9
    assert whole.weights.max() / whole.weights.min() > 1.5**2


def test_unlabelled_source_rows_are_left_out():
    source, target, labels = domains()
    plain, more = LabelShift(3, rows=4000).double(), LabelShift(3, rows=4000).double()
    plain.observe(source, labels, target)
    more.observe(torch.cat([source, source]), torch.cat([labels, torch.full_like(labels, -100)]), target)
    torch.testing.assert_close(plain.weights, more.weights)


def test_weights_of_rows():
    shift = LabelShift(3)
    shift.weights = torch.tensor([0.5, 1.0, 2.0])
    assert shift.of(torch.tensor([2, -100, 0])).tolist() == [2.0, 1.0, 0.5]


def test_state_travels_in_the_middle_of_an_estimate():
    source, target, labels = domains(400)
    whole, second = (LabelShift(3, "bbse", rows=300).double() for _ in range(2))
    whole.observe(source[:200], labels[:200], target[:200])
    second.load_state_dict(copy.deepcopy(whole.state_dict()))
    for shift in (whole, second):
        shift.observe(source[200:], labels[200:], target[200:])
    assert torch.equal(whole.weights, second.weights)
    assert whole.weights.ne(1).any()


@pytest.mark.parametrize("estimator", ["mlls", "bbse", "pada"])
def test_degenerate_predictions_give_finite_positive_weights(estimator):
    certain, one_class = 1e4 * torch.eye(3).repeat(4, 1), torch.tensor([[1e4, 0, 0]]).repeat(12, 1)
    for z in (certain, one_class, torch.zeros(12, 3)):
        shift = LabelShift(3, estimator, rows=12)
        shift.observe(z, torch.zeros(12, dtype=torch.long), z)
        shift.observe(z, torch.full((12,), -100), z)
        assert torch.isfinite(shift.weights).all()
        assert shift.weights.min() > 0


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"estimator": "em"}, "estimator='em' must be one of 'bbse', 'mlls' or 'pada'"),
        ({"rows": 0}, "rows=0 must be a whole number"),
        ({"smoothing": 0}, "smoothing=0 must be above 0"),
        ({"smoothing": 1.5}, "smoothing=1.5 must be"),
        ({"bound": 0.5}, "bound=0.5 must be"),
    ],
)
def test_bad_settings(settings, culprit):
    with pytest.raises(ValueError, match=culprit):
        LabelShift(3, **settings)
