"""Each transferability score against an independent computation in float64, and what all of them share."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from hftransfer.selection.domain_distance import proxy_a_distance
from hftransfer.selection.transferability import (
    TRANSFERABILITY,
    LabelledFeatures,
    TransferabilityScore,
    get_transferability,
)
from hftransfer.selection.transferability import parc as parc_module
from hftransfer.selection.transferability.gbc import GBC
from hftransfer.selection.transferability.linear_probe import (
    STRENGTH,
    fit_probe,
    held_out_logits,
    stratified_folds,
)
from hftransfer.selection.transferability.nearest_neighbours import NearestNeighbours
from hftransfer.selection.transferability.transrate import TransRate

K, C = 3, 4
SHAPES = [(40, 6), (24, 30)]  # more rows than columns, and fewer


def rows(shape=(40, 6), seed: int = 0, signal: float = 1.0, **more) -> LabelledFeatures:
    """Rows of three classes of unequal sizes, with predictions over four source classes."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.minimum(np.arange(shape[0]) % 5, K - 1))
    features = draw.normal(size=shape) @ draw.normal(size=(shape[1], shape[1])) + 3.0
    features += signal * draw.normal(size=(K, shape[1]))[labels]
    logits = 2 * draw.normal(size=(shape[0], C))
    given = {
        "source_probabilities": np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        "source_features": draw.normal(size=(30, shape[1])) + 3.0,
        "seed": seed,
    }
    return LabelledFeatures(features, labels, **given | more)


def leep(r):
    joint = [[sum(p[z] for p, y in zip(r.source_probabilities, r.labels, strict=True) if y == k) for z in range(C)]
             for k in range(K)]  # fmt: skip
    mass = [sum(joint[k][z] for k in range(K)) for z in range(C)]
    likelihoods = [
        sum(joint[y][z] / mass[z] * p[z] for z in range(C) if mass[z])
        for p, y in zip(r.source_probabilities, r.labels, strict=True)
    ]
    return sum(map(math.log, likelihoods)) / len(likelihoods)


def entropy(counts):
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def nce(r):
    predicted = [list(p).index(max(p)) for p in r.source_probabilities]
    return entropy(Counter(predicted)) - entropy(Counter(zip(predicted, r.labels.tolist(), strict=True)))


def evidence(f, y):
    """The largest log density of the labels over both precisions, found by a simplex."""
    products, rows = f @ f.T, len(y)

    def loss(logs):
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(rows) / beta + products / alpha
        return 0.5 * (np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y))

    starts = [(2.0, 1.0), (9.0, 2.0), (-3.0, 5.0)]
    options = {"xatol": 1e-6, "fatol": 1e-9}
    best = min(minimize(loss, start, method="Nelder-Mead", options=options).fun for start in starts)
    return -best / rows - 0.5 * math.log(2 * math.pi)


def logme(r):
    return np.mean([evidence(r.features, (r.labels == k).astype(float)) for k in range(K)])


def shrunk_covariance(x):
    """Ledoit and Wolf's formulas, in loops."""
    n, d = x.shape
    sample = sum(np.outer(row, row) for row in x) / n
    mean = np.trace(sample) / d
    distance = ((sample - mean * np.eye(d)) ** 2).sum()
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / n**2
    shrinkage = min(noise, distance) / distance
    return (1 - shrinkage) * sample + shrinkage * mean * np.eye(d), shrinkage


def h_score(r):
    x = r.features - r.features.mean(0)
    covariance, shrinkage = shrunk_covariance(x)
    replaced = np.array([x[r.labels == y].mean(0) for y in r.labels])
    return (1 - shrinkage) * np.trace(np.linalg.inv(covariance) @ (replaced.T @ replaced / len(x)))


def rate(z, epsilon=1e-4):
    return 0.5 * np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * epsilon))[1]


def transrate(r):
    z = r.features - r.features.mean(0)
    return rate(z) - sum(rate(z[r.labels == k]) for k in range(K)) / K


def bhattacharyya(a, b, spherical):
    """The general formula, with covariance matrices."""
    first, second = (np.diag(x.var(0)) for x in (a, b))
    if spherical:
        first, second = (np.eye(len(s)) * np.trace(s) / len(s) for s in (first, second))
    middle, gap = (first + second) / 2, a.mean(0) - b.mean(0)
    determinants = [np.linalg.slogdet(s)[1] for s in (middle, first, second)]
    return gap @ np.linalg.inv(middle) @ gap / 8 + 0.5 * (determinants[0] - sum(determinants[1:]) / 2)


def gbc(r, spherical=True, components=64):
    x = r.features - r.features.mean(0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    x = x @ axes[:components].T
    groups = [x[r.labels == k] for k in range(K)]
    return -sum(math.exp(-bhattacharyya(groups[i], groups[j], spherical)) for i in range(K) for j in range(i))


def parc(r):
    x = (r.features - r.features.mean(0)) / r.features.std(0)
    lower = np.tril_indices(len(x), -1)
    of_labels = np.round(1 - np.corrcoef(np.eye(K)[r.labels]), 9)  # or rounding would rank pairs that are alike
    return spearmanr((1 - np.corrcoef(x))[lower], of_labels[lower]).statistic


def knn(r, k=5):
    x = r.features - r.features.mean(0)
    right = 0
    for i in range(len(x)):
        cosine = {j: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in range(len(x)) if j != i}
        nearest = sorted(cosine, key=cosine.get, reverse=True)[:k]
        places = {c: [p for p, j in enumerate(nearest) if r.labels[j] == c] for c in range(K)}
        called = max(places, key=lambda c, at=places: (len(at[c]), -sum(at[c])))
        right += called == r.labels[i]
    return right / len(x)


def softmax_regression(x, y, classes):
    """(d + 1, K) weights, by a general minimiser."""

    def loss(flat):
        w = flat.reshape(x.shape[1] + 1, classes)
        z = x @ w[:-1] + w[-1]
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        error = STRENGTH * (p - np.eye(classes)[y])
        gradient = np.concatenate([w[:-1] + x.T @ error, error.sum(0, keepdims=True)])
        return 0.5 * (w[:-1] ** 2).sum() - STRENGTH * np.log(p[np.arange(len(y)), y]).sum(), gradient.ravel()

    start = np.zeros((x.shape[1] + 1) * classes)
    return minimize(loss, start, jac=True, options={"gtol": 1e-7}).x.reshape(-1, classes)


def probe(r):
    fold = stratified_folds(r.classes, r.seed, 5)
    right = 0
    for number in range(5):
        out = fold == number
        mean, scale = r.features[~out].mean(0), r.features[~out].std(0)
        w = softmax_regression((r.features[~out] - mean) / scale, r.labels[~out], K)
        z = (r.features[out] - mean) / scale @ w[:-1] + w[-1]
        right += (z.argmax(1) == r.labels[out]).sum()
    return right / len(fold)


BY_HAND = {
    "probe": probe,
    "knn": knn,
    "logme": logme,
    "h_score": h_score,
    "transrate": transrate,
    "gbc": gbc,
    "parc": parc,
    "leep": leep,
    "nce": nce,
    "a_distance": lambda r: -proxy_a_distance(r.features, r.source_features, r.seed),
}


def test_every_score_is_computed_by_hand():
    assert BY_HAND.keys() == TRANSFERABILITY.keys()


@pytest.mark.parametrize("shape", SHAPES, ids=["more rows than columns", "fewer"])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_score_equals_an_independent_computation(name, shape):
    r = rows(shape, seed=3)
    tolerance = {"logme": 1e-5, "a_distance": 0.35}.get(name, 1e-9)  # the distance, with the domains changed over
    assert get_transferability(name).score(r) == pytest.approx(BY_HAND[name](r), abs=tolerance)


def test_settings_of_scores_are_those_of_the_formulas():
    r = rows(seed=4)
    assert GBC(3, "diagonal").score(r) == pytest.approx(gbc(r, False, 3), abs=1e-9)
    assert GBC(64, "diagonal").score(r) != pytest.approx(GBC(64).score(r), abs=1e-3)
    assert NearestNeighbours(1).score(r) == pytest.approx(knn(r, 1))
    assert TransRate(0.1).score(r) < TransRate(1e-4).score(r)


def test_logits_of_the_probe_are_those_of_the_regression():
    r = rows(seed=5)
    fitted = fit_probe(r.features, r.classes)
    x = (r.features - r.features.mean(0)) / r.features.std(0)
    w = softmax_regression(x, r.labels, K)
    expected = x @ w[:-1] + w[-1]
    logits = fitted.logits(r.features)
    difference = (logits - logits.mean(1, keepdims=True)) - (expected - expected.mean(1, keepdims=True))
    assert np.abs(difference).max() < 2e-3
    assert np.abs(expected - expected.mean(1, keepdims=True)).max() > 0.05


def test_folds_share_out_each_class():
    classes = np.array([0] * 25 + [1] * 10 + [2] * 3)
    fold = stratified_folds(classes, 0, 5)
    for label in range(3):
        counts = np.bincount(fold[classes == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (stratified_folds(classes, 1, 5) != fold).any()


def test_held_out_rows_are_not_fitted():
    """Labels by chance, and more columns than rows: a probe that saw its rows would know all of them."""
    draw = np.random.default_rng(0)
    features, classes = draw.normal(size=(200, 400)), draw.integers(0, 2, 200)
    assert (fit_probe(features, classes).logits(features).argmax(1) == classes).mean() > 0.95
    assert (held_out_logits(features, classes).argmax(1) == classes).mean() < 0.65


SEPARABLE = [name for name in BY_HAND if name not in ("leep", "nce", "a_distance")]


@pytest.mark.parametrize("name", SEPARABLE)
def test_features_that_know_the_classes_score_better(name):
    scores = [get_transferability(name).score(rows((120, 6), 7, signal)) for signal in (0.0, 2.0, 20.0)]
    assert scores[0] < scores[-1]
    assert scores[1] <= scores[-1]


@pytest.mark.parametrize("name", ["leep", "nce"])
def test_predictions_that_know_the_classes_score_better(name):
    r = rows((60, 4))
    good = 0.9 * np.eye(C)[r.classes] + 0.1 / C
    known = get_transferability(name).score(rows((60, 4), source_probabilities=good))
    assert get_transferability(name).score(r) < known <= 0


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize(
    "case",
    ["a source class without mass", "ids with gaps", "a class of one row", "constant features", "repeated columns"],
)
def test_degenerate_rows_give_finite_scores(name, case):
    r = rows((24, 6), 1)
    features, labels, probabilities = r.features, r.labels, r.source_probabilities
    if case == "a source class without mass":
        probabilities = np.eye(6)[r.classes]  # of classes 3, 4 and 5 no row has any
    elif case == "ids with gaps":
        labels = np.array([2, 7, 100])[r.classes]
        assert get_transferability(name).score(rows((24, 6), 1)) == get_transferability(name).score(
            LabelledFeatures(features, labels, probabilities, r.source_features, 1)
        )
    elif case == "a class of one row":
        labels = np.array(["up", "down"] * 11 + ["up", "rare"])
    elif case == "constant features":
        features = np.full_like(features, 0.25)
    else:
        features = np.sign(features - 3)[:, [0, 0, 1, 1, 0, 0]]
    given = LabelledFeatures(features, labels, probabilities, r.source_features, 1)
    assert math.isfinite(get_transferability(name).score(given))


def test_features_without_signal_have_the_evidence_of_none():
    """Of a constant zero only the noise is left: the density of 0 and 1 under their own second moment."""
    labels = np.array([0, 1, 1, 1] * 5)
    expected = np.mean([-0.5 * (1 + math.log(2 * math.pi * share)) for share in (0.25, 0.75)])
    assert get_transferability("logme").score(LabelledFeatures(np.zeros((20, 3)), labels)) == pytest.approx(expected)


def fixed_point(f, y, steps=500):
    """The authors' iteration for one column: γ, m, α, β in turn; the evidence at its end."""
    rows, products = len(y), f.T @ f
    values = np.linalg.eigvalsh(products)
    alpha = beta = 1.0
    for _ in range(steps):
        gamma = sum(beta * v / (alpha + beta * v) for v in values)
        mean = beta * np.linalg.solve(alpha * np.eye(len(products)) + beta * products, f.T @ y)
        alpha, beta = gamma / (mean @ mean), (rows - gamma) / ((f @ mean - y) ** 2).sum()
    covariance = np.eye(rows) / beta + f @ f.T / alpha
    density = np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y) + rows * math.log(2 * math.pi)
    return -0.5 * density / rows


def test_logme_is_where_the_authors_iteration_ends():
    r = rows((60, 5), 2, signal=2.0)
    expected = np.mean([fixed_point(r.features, (r.labels == k).astype(float)) for k in range(K)])
    assert get_transferability("logme").score(r) == pytest.approx(expected, abs=1e-7)


def test_the_evidence_is_never_below_that_of_no_features():
    """With more columns than rows the authors' iteration may end there."""
    for seed in range(5):
        draw = np.random.default_rng(seed)
        labels = np.arange(40) % 10
        features = 5 + draw.normal(size=(40, 200))
        none = get_transferability("logme").score(LabelledFeatures(np.zeros((40, 1)), labels))
        assert get_transferability("logme").score(LabelledFeatures(features, labels)) >= none - 1e-9


def test_logme_does_not_change_with_the_scale():
    r = rows((40, 60), 2)
    scaled = LabelledFeatures(1e3 * r.features, r.labels)
    assert get_transferability("logme").score(scaled) == pytest.approx(get_transferability("logme").score(r), abs=1e-7)


def test_many_rows_are_drawn_for_pairs(monkeypatch):
    monkeypatch.setattr(parc_module, "ROWS", 20)
    r = rows()
    scores = [
        get_transferability("parc").score(LabelledFeatures(r.features, r.labels, seed=seed)) for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_an_input_that_is_missing_is_named_with_its_remedy():
    r = LabelledFeatures(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="leep needs source_probabilities: pass .* own head"):
        get_transferability("leep").score(r)
    with pytest.raises(ValueError, match="a_distance needs source_features: pass"):
        get_transferability("a_distance").score(r)


def test_names_of_scores():
    for name, cls in TRANSFERABILITY.items():
        assert cls.name == name
        assert issubclass(cls, TransferabilityScore)
        assert cls.paper
    with pytest.raises(ValueError, match="no transferability score 'logmee'; there is .* Did you mean 'logme'"):
        get_transferability("logmee")


FINE = np.arange(8.0).reshape(4, 2)
BAD = [
    ((FINE[:3], [0, 1, 0]), "features has 3 rows; a score needs 4 at least"),
    ((FINE[0], [0, 1]), "features must be a matrix"),
    ((FINE, [0, 1, 0]), r"labels has shape \(3,\) where features has 4 rows"),
    ((FINE, ["up"] * 4), r"labels holds one class only \(up\)"),
    ((FINE, [0.0, math.nan, 1.0, 0.0]), "labels has none in row 1"),
    ((FINE, np.array(["up", "down", None, "up"], dtype=object)), "labels has none in row 2"),
    ((np.where(FINE == 5, np.inf, FINE), [0, 1, 0, 1]), "features is not finite in row 2"),
    ((FINE, [0, 1, 0, 1], np.full((4, 2), 0.9)), "source_probabilities must be probabilities: apply a softmax"),
    ((FINE, [0, 1, 0, 1], np.eye(3)), "source_probabilities has 3 rows where features has 4"),
    ((FINE, [0, 1, 0, 1], None, np.eye(3)), "source_features are 3 wide and features 2"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelledFeatures(*arguments)


@pytest.mark.parametrize(
    "make", [lambda: TransRate(0), lambda: GBC(0), lambda: GBC(8, "full"), lambda: NearestNeighbours(0)]
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
