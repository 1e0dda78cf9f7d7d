"""`Embedder` and `NearestPrototype` are estimators as scikit-learn knows them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import tiny
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from hftransfer import Embedder, NearestPrototype
from hftransfer.embeddings import feature_pass

DATA = tiny.domain(45)
TEXTS = list(DATA["text"])


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Rows that a model ran on, by pass."""
    stock, rows = feature_pass.compute, []

    def compute(backbone, chunk, *others):
        rows.append(len(chunk.values))
        return stock(backbone, chunk, *others)

    monkeypatch.setattr(feature_pass, "compute", compute)
    return rows


def test_cross_validation_computes_each_row_once(tmp_path, computed):
    embedder = Embedder(tiny.bert(), processing_class=tiny.tokenizer(), cache_dir=tmp_path)
    scores = cross_val_score(make_pipeline(embedder, LogisticRegression()), TEXTS, DATA["label"], cv=3)
    assert sum(computed) == 45
    by_hand = cross_val_score(LogisticRegression(), embedder.transform(DATA), DATA["label"], cv=3)
    np.testing.assert_allclose(scores, by_hand)
    assert sum(computed) == 45


def test_a_grid_over_layers_and_heads(tmp_path, model_folder, computed, monkeypatch):
    from hftransfer.embeddings import feature_extractor

    stock, loads = feature_extractor.load_backbone, []
    monkeypatch.setattr(feature_extractor, "load_backbone", lambda *args: loads.append(1) or stock(*args))
    probe = make_pipeline(Embedder(model_folder, cache_dir=tmp_path), LogisticRegression())
    grid = {"embedder__pooling": ["mean", "cls"], "logisticregression__C": [0.1, 1.0, 10.0]}
    search = GridSearchCV(probe, grid, cv=3).fit(TEXTS, DATA["label"])
    assert sum(computed) == 2 * 45
    assert len(loads) == 2  # once for each pooling
    assert search.best_estimator_.predict(TEXTS[:2]).shape == (2,)


def test_settings_are_parameters():
    embedder = Embedder("runs/teacher", pooling="cls", layer=2)
    assert clone(embedder).get_params() == embedder.get_params()
    assert embedder.set_params(layer=1).layer == 1
    with pytest.raises(ValueError, match="Did you mean 'mean'"):
        embedder.set_params(pooling="men").fit(TEXTS)


def test_a_clone_shares_the_model_and_a_pickle_does_not(model_folder):
    embedder = Embedder(model_folder, cache_dir=False)
    expected = embedder.transform(TEXTS[:3])
    assert clone(embedder).extractor() is embedder.extractor()
    stored = pickle.dumps(embedder)
    assert len(stored) < 2000
    np.testing.assert_array_equal(pickle.loads(stored).transform(TEXTS[:3]), expected)


def test_other_heads(tmp_path):
    embedder = Embedder(tiny.bert(), processing_class=tiny.tokenizer(), cache_dir=tmp_path)
    for head in (KNeighborsClassifier(3), NearestPrototype()):
        assert make_pipeline(embedder, head).fit(TEXTS, DATA["label"]).score(TEXTS, DATA["label"]) > 1 / 3


# ---- nearest prototype


def test_a_prototype_is_the_mean_of_normalised_rows():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(30, 5)) + 7, draw.integers(0, 3, 30)
    probe = NearestPrototype().fit(x, y)
    centred = x - x.mean(0)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    prototypes = np.stack([(centred / length)[y == k].sum(0) for k in range(3)])
    cosines = centred @ prototypes.T / length / np.sqrt((prototypes**2).sum(1))
    np.testing.assert_allclose(probe.decision_function(x), cosines, atol=1e-12)
    np.testing.assert_array_equal(probe.predict(x), cosines.argmax(1))


def test_centring_tells_classes_apart_that_share_a_direction():
    draw = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = 100 + 0.5 * y[:, None] * np.array([1.0, 0, 0]) + 0.05 * draw.normal(size=(200, 3))
    x *= draw.uniform(0.999, 1.001, (200, 1))
    assert NearestPrototype().fit(x[:100], y[:100]).score(x[100:], y[100:]) > 0.95


def test_it_is_an_estimator_by_scikit_learns_own_checks():
    check_estimator(NearestPrototype())


def test_a_prototype_knows_its_columns_and_labels():
    table = pd.DataFrame([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]], columns=["a", "b"])
    probe = NearestPrototype().fit(table, ["up", "up", "down"])
    assert probe.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="that NearestPrototype was fitted on in another order"):
        probe.predict(table[["b", "a"]])
    with pytest.raises(ValueError, match="y has none in row 1"):
        NearestPrototype().fit(table, np.array(["up", None, "down"], dtype=object))
