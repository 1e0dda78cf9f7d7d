"""Each validator against an independent computation, and what all of them share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score

from hftransfer.embeddings.instances.domain_classifier import cross_fitted_ratio
from hftransfer.selection.model_predictions import MixedPairs, Predictions
from hftransfer.selection.validators import VALIDATORS, Validator, get_validator
from hftransfer.selection.validators.importance import DEV, DEVN, ImportanceWeightedRisk
from hftransfer.selection.validators.mixval import draw_pairs

N, M, K, D = 40, 30, 3, 5


def random_predictions(seed: int = 0, **more) -> Predictions:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, K, N)
    source = draw.normal(size=(N, K)) + 2 * np.eye(K)[labels]
    target = 2 * draw.normal(size=(M, K))
    first, second = draw_pairs(target.argmax(1), seed)
    mixed = MixedPairs(draw.dirichlet(np.ones(K), M), first, second)
    arrays = {
        "source_features": draw.normal(size=(N, D)),
        "target_features": draw.normal(size=(M, D)) + 0.5,
        "reference_probabilities": draw.dirichlet(np.ones(K), M),
        "mixed": mixed,
    }
    return Predictions(source, labels, target, **arrays | more)


def by_hand(p: Predictions) -> dict[str, float]:
    """Every score in loops and plain formulas."""
    probabilities = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in p.target_logits]
    source = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in p.source_logits]

    def entropy(row):
        return -sum(v * math.log(v) for v in row if v)

    mean_entropy = sum(map(entropy, probabilities)) / M
    mean = [sum(row[k] for row in probabilities) / M for k in range(K)]
    predicted = [row.index(max(row)) for row in probabilities]
    right = [row.index(max(row)) == y for row, y in zip(source, p.source_labels, strict=True)]
    ratio = p.density_ratio
    density = 0.0
    for i in range(M):
        a = np.array(probabilities[i])
        others = [np.array(probabilities[j]) for j in range(M) if j != i]
        similar = [math.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.05) for b in others]
        density += entropy([s / sum(similar) for s in similar]) / M
    weighted = [w * (not r) for w, r in zip(ratio, right, strict=True)]

    def dev(w):
        wl = [v * (not r) for v, r in zip(w, right, strict=True)]
        covariance = np.cov(wl, w, bias=True)
        return -(np.mean(wl) - covariance[0, 1] / covariance[1, 1] * (np.mean(w) - 1))

    features = p.target_features
    classes = sorted(set(predicted))
    centres = np.array([np.mean([f for f, k in zip(features, predicted, strict=True) if k == c], 0) for c in classes])
    clusters = KMeans(len(classes), init=centres, n_init=1).fit(features).labels_
    pairs = list(zip(p.mixed.first, p.mixed.second, p.mixed.probabilities.argmax(1), strict=True))

    def mixval(same):
        kept = [(predicted[i], answer) for i, j, answer in pairs if (predicted[i] == predicted[j]) is same]
        return sum(a == b for a, b in kept) / len(kept)

    certain = sorted(-entropy(row) for row in source)
    threshold = certain[right.count(False)]
    return {
        "entropy": -mean_entropy / math.log(K),
        "information": (entropy(mean) - mean_entropy) / math.log(K),
        "nuclear_norm": sum(np.linalg.svd(np.array(probabilities))[1]) / math.sqrt(M * K),
        "snd": density,
        "importance_weighted": -sum(weighted) / N,
        "dev": dev(ratio),
        "devn": dev(ratio / max(ratio)),
        "class_ami": adjusted_mutual_info_score(predicted, clusters),
        "mixval_inter": mixval(False),
        "mixval_intra": mixval(True),
        "source_accuracy": sum(right) / N,
        "ensemble_agreement": sum(
            k == row.index(max(row)) for k, row in zip(predicted, p.reference_probabilities.tolist(), strict=True)
        )
        / M,
        "ensemble_confidence": sum(p.reference_probabilities[i, k] for i, k in enumerate(predicted)) / M,
        "atc": sum(-entropy(row) >= threshold for row in probabilities) / M,
        "cot": transported(probabilities, np.bincount(p.source_labels, minlength=K) / N),
    }


def transported(probabilities, frequencies) -> float:
    """1 minus the cost of the best assignment, by linear programming."""
    from scipy.optimize import linprog

    cost = 1 - np.array(probabilities)
    rows = np.kron(np.eye(M), np.ones(K))
    columns = np.kron(np.ones(M), np.eye(K))
    limits = np.concatenate([np.full(M, 1 / M), frequencies])
    return 1 - linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=limits).fun


def test_every_score_equals_an_independent_computation():
    for seed in range(3):
        p = random_predictions(seed)
        expected = by_hand(p)
        assert expected.keys() == VALIDATORS.keys()
        for name, value in expected.items():
            assert get_validator(name).score(p) == pytest.approx(value, abs=1e-7), (name, seed)


def test_better_models_score_better():
    """Certain, diverse and right against a model that knows little: every score but the two of mixtures agrees."""
    draw = np.random.default_rng(0)
    labels, target_labels = np.arange(60) % K, np.arange(60) % K

    def model(strength):
        noise = draw.normal(size=(2, 60, K))
        source, target = (strength * np.eye(K)[y] + n for y, n in zip((labels, target_labels), noise, strict=True))
        return Predictions(source, labels, target, source, target, np.eye(K)[target_labels])

    good, bad = model(6.0), model(0.5)
    for name in VALIDATORS:
        if name.startswith("mixval") or name == "snd":
            continue
        assert get_validator(name).score(good) > get_validator(name).score(bad), name


def test_a_collapsed_model_is_told_from_a_good_one_by_diversity_alone():
    """What the pages say of each: certainty and density prefer it, dispersion does not."""
    labels = np.arange(30) % K
    certain = 20 * np.eye(K)[labels]
    collapsed = np.tile([20.0, 0.0, 0.0], (30, 1))
    good, bad = (Predictions(certain, labels, target) for target in (certain, collapsed))
    assert get_validator("entropy").score(bad) == pytest.approx(get_validator("entropy").score(good), abs=1e-6)
    assert get_validator("snd").score(bad) > get_validator("snd").score(good)
    for name in ("information", "nuclear_norm"):
        assert get_validator(name).score(bad) < get_validator(name).score(good) - 0.3, name


def test_ranges_at_their_ends():
    labels = np.arange(12) % K
    certain, nothing = 50 * np.eye(K)[labels], np.zeros((12, K))
    for name, at_best, at_worst in (
        ("entropy", 0, -1),
        ("information", 1, 0),
        ("nuclear_norm", 1, 1 / math.sqrt(K) ** 2),
    ):
        assert get_validator(name).score(Predictions(certain, labels, certain)) == pytest.approx(at_best, abs=1e-6)
        assert get_validator(name).score(Predictions(certain, labels, nothing)) == pytest.approx(at_worst, abs=1e-6)


def test_control_variate_takes_the_variance_of_the_weights_away():
    """With a constant loss DEV is that loss whatever the weights are; the plain mean follows them."""
    p = random_predictions()
    wrong = np.full(N, (p.source_logits.argmax(1) + 1) % K)
    everything_wrong = Predictions(p.source_logits, wrong, p.target_logits, p.source_features, p.target_features)
    assert DEV().score(everything_wrong) == pytest.approx(-1)
    assert ImportanceWeightedRisk().score(everything_wrong) == pytest.approx(-p.density_ratio.mean())
    assert DEVN().score(everything_wrong) == pytest.approx(-1)


def test_cross_entropy_in_place_of_the_error():
    p = random_predictions()
    expected = -(p.density_ratio * -np.log(p.source_probabilities[np.arange(N), p.source_labels])).mean()
    assert ImportanceWeightedRisk("cross_entropy").score(p) == pytest.approx(expected)
    with pytest.raises(ValueError, match="loss='hinge' must be 'error' or 'cross_entropy'"):
        DEV("hinge")


def test_density_ratio_is_of_held_out_rows():
    """Domains that are alike: in-sample, a regression with as many columns as rows would tell them apart."""
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(40, 60)), draw.normal(size=(40, 60))
    in_sample = (
        LogisticRegression(C=1e3, max_iter=5000)
        .fit(np.concatenate([source, target]), np.repeat([0, 1], 40))
        .decision_function(source)
    )
    assert np.exp(in_sample).mean() < 0.1
    assert 0.3 < np.median(cross_fitted_ratio(source, target)) < 3


def test_density_ratio_follows_a_known_one():
    """Two Gaussians of unit variance around 0 and 1: the ratio is exp(x - 1/2)."""
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(4000, 1)), draw.normal(size=(2000, 1)) + 1
    estimate = cross_fitted_ratio(source, target)
    assert np.log(estimate) == pytest.approx(source[:, 0] - 0.5, abs=0.35)


def test_what_is_missing_is_named_with_its_remedy():
    p = Predictions([[1.0, 0.0]] * 3, [0, 1, 0], [[0.0, 1.0]] * 3)
    for name, remedy in (
        ("dev", "dev needs density_ratio: pass source_features and target_features"),
        ("class_ami", "class_ami needs target_features: pass target_features"),
        ("ensemble_agreement", "needs reference_probabilities"),
        ("mixval_inter", "mixval_inter needs mixed"),
    ):
        with pytest.raises(ValueError, match=remedy):
            get_validator(name).score(p)
    with pytest.raises(ValueError, match="no validator 'entropie'.*Did you mean 'entropy'"):
        get_validator("entropie")


def test_a_validator_of_ones_own_declares_its_inputs():
    class LeastFrequent(Validator):
        name = "least_frequent"

        def compute(self, target_probabilities):
            return target_probabilities.mean(0).min()

    assert LeastFrequent.needs() == ("target_probabilities",)
    assert LeastFrequent().score(Predictions([[0.0, 0.0]], [0], [[0.0, 0.0]])) == 0.5
    with pytest.raises(NotImplementedError, match="Validator has no `compute`"):
        Validator().compute()


def test_degenerate_inputs_give_finite_scores():
    """One row, one class predicted, ties, probabilities of exactly 0 and 1."""
    rows = {
        "one class": np.tile([1e4, -1e4, -1e4], (6, 1)),
        "ties": np.zeros((6, K)),
        "exact": 1e4 * np.eye(K)[np.arange(6) % K],
    }
    for case, logits in rows.items():
        features = np.repeat(np.arange(6.0), 2).reshape(6, 2)
        mixed = MixedPairs(np.full((6, K), 1 / K), *draw_pairs(logits.argmax(1)))
        p = Predictions(logits, np.arange(6) % K, logits, features, features, np.full((6, K), 1 / K), mixed)
        for name in VALIDATORS:
            assert math.isfinite(get_validator(name).score(p)), (case, name)
