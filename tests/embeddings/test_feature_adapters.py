"""Feature adapters: formulas, and how source and target rows go through them and through a Pipeline."""

from __future__ import annotations

import numpy as np
import ot
import pandas as pd
import pytest
import scipy.linalg
import sklearn
from shifted_blobs import mapped_classes
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from hftransfer import CorrelationAlignment, PseudoLabelClassifier, SubspaceAlignment, TrAdaBoost, TransportMapping
from hftransfer.embeddings.alignment.pseudo_label_classifier import surest_of_each_class

SOURCE, LABELS, TARGET = mapped_classes()
ADAPTERS = [
    CorrelationAlignment(),
    CorrelationAlignment(regularization=0.01),
    SubspaceAlignment(components=2),
    TransportMapping(),
    TransportMapping("emd"),
    TransportMapping("linear"),
    TransportMapping("sinkhorn_classes"),
]


@pytest.mark.parametrize("regularization", [0.0, 0.3, 1.0])
def test_correlation_alignment_is_the_papers(regularization):
    """Matrix square roots by SciPy, not by eigenvalues."""
    source, target = SOURCE, TARGET

    def loaded(x):
        centred = x - x.mean(0)
        c = centred.T @ centred / (len(x) - 1)
        return c + regularization * np.trace(c) / 4 * np.eye(4)

    whiten = np.linalg.inv(scipy.linalg.sqrtm(loaded(source)).real)
    expected = (source - source.mean(0)) @ whiten @ scipy.linalg.sqrtm(loaded(target)).real + target.mean(0)
    adapter = CorrelationAlignment(regularization).fit(source, target=target)
    np.testing.assert_allclose(adapter.transform(source, domain="source"), expected, rtol=1e-8)
    np.testing.assert_array_equal(adapter.transform(target), target)


def test_correlation_alignment_of_standardised_features_adds_the_papers_identity():
    source, target = (StandardScaler().fit_transform(x) for x in (SOURCE, TARGET))
    n = len(source)
    c_s, c_t = (x.T @ x / (n - 1) + n / (n - 1) * np.eye(4) for x in (source, target))
    expected = source @ np.linalg.inv(scipy.linalg.sqrtm(c_s).real) @ scipy.linalg.sqrtm(c_t).real
    np.testing.assert_allclose(CorrelationAlignment().fit_transform(source, target=target), expected, atol=1e-9)


def test_subspace_alignment_is_the_papers():
    """Inner products of source and target rows: signs of components drop out of them."""
    adapter = SubspaceAlignment(components=2).fit(SOURCE, target=TARGET)
    s, t = SOURCE - SOURCE.mean(0), TARGET - TARGET.mean(0)

    def projector(x):
        vectors = np.linalg.eigh(x.T @ x)[1][:, -2:]
        return vectors @ vectors.T

    expected = s @ projector(s) @ projector(t) @ t.T
    got = adapter.transform(SOURCE, domain="source") @ adapter.transform(TARGET).T
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)


def test_a_share_of_the_variance_is_that_of_both_domains():
    """The source has its variance in one column, the target in two."""
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(300, 3)) * [10.0, 1.0, 0.1], draw.normal(size=(300, 3)) * [10.0, 10.0, 0.1]
    for components, share in ((1, 0.4), (2, 0.9)):
        adapter = SubspaceAlignment(components=share).fit(source, target=target)
        assert adapter.source_components_.shape == adapter.target_components_.shape == (3, components)


def test_entropic_mapping_is_the_barycentre_of_the_plan():
    """A plan by Sinkhorn's iteration on scalings, in NumPy."""
    source, target = SOURCE[::10], TARGET[::7]
    cost = ((source[:, None] - target) ** 2).sum(-1)
    kernel = np.exp(-cost / cost.max() / 0.2)
    v = np.ones(len(target))
    for _ in range(3000):
        u = 1 / len(source) / (kernel @ v)
        v = 1 / len(target) / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    expected = plan @ target / plan.sum(1, keepdims=True)
    got = TransportMapping(regularization=0.2).fit_transform(source, target=target)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_exact_mapping_is_the_assignment():
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(12, 2)), draw.normal(size=(12, 2)) + 5
    rows, columns = scipy.optimize.linear_sum_assignment(((source[:, None] - target) ** 2).sum(-1))
    np.testing.assert_allclose(TransportMapping("emd").fit_transform(source, target=target)[rows], target[columns])


def test_linear_mapping_is_the_map_between_gaussians():
    adapter = TransportMapping("linear", regularization=1e-9).fit(SOURCE, target=TARGET)
    mapped = adapter.transform(SOURCE, domain="source")
    np.testing.assert_allclose(mapped.mean(0), TARGET.mean(0), atol=1e-6)
    np.testing.assert_allclose(np.cov(mapped.T), np.cov(TARGET.T), atol=1e-4)


def test_classes_keep_rows_apart_in_the_mapping():
    """The group penalty: fewer target rows are shared by source rows of both classes."""

    def shared(method):
        transport = TransportMapping(method, class_regularization=0.5).fit(SOURCE, LABELS, target=TARGET).transport_
        by_class = np.stack([transport.coupling_[LABELS == k].sum(0) for k in (0, 1)])
        return (by_class.min(0) / by_class.sum(0)).mean()

    assert shared("sinkhorn_classes") < 0.8 * shared("sinkhorn")


# ---- how rows reach them


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_a_pipeline_fits_on_mapped_source_rows_and_predicts_mapped_target_rows(adapter):
    pipeline = Pipeline([("align", clone(adapter)), ("classifier", LogisticRegression())])
    pipeline.fit(SOURCE, LABELS, align__target=TARGET)
    by_hand = clone(adapter).fit(SOURCE, LABELS, target=TARGET)
    classifier = LogisticRegression().fit(by_hand.transform(SOURCE, domain="source"), LABELS)
    np.testing.assert_allclose(pipeline.predict_proba(TARGET), classifier.predict_proba(by_hand.transform(TARGET)))
    assert pipeline.score(TARGET, LABELS) > LogisticRegression().fit(SOURCE, LABELS).score(TARGET, LABELS)


@pytest.mark.parametrize("adapter", [CorrelationAlignment(), PseudoLabelClassifier()], ids=str)
def test_metadata_routing_takes_target_rows_through_the_steps_before(adapter):
    """`transform_input`: without it, a scaler before the adapter would leave target rows as they are."""
    steps = [("scale", StandardScaler()), ("align", adapter)]
    steps += [] if hasattr(adapter, "predict") else [("classifier", LogisticRegression())]
    with sklearn.config_context(enable_metadata_routing=True):
        routed = Pipeline(steps, transform_input=["target"]).fit(SOURCE, LABELS, target=TARGET)
    scaler = StandardScaler().fit(SOURCE)
    by_hand = clone(Pipeline(steps[1:])).fit(scaler.transform(SOURCE), LABELS, align__target=scaler.transform(TARGET))
    np.testing.assert_allclose(routed.predict_proba(TARGET), by_hand.predict_proba(scaler.transform(TARGET)))


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_the_precision_is_that_of_the_rows(adapter):
    """Fitted on features of a model, in float32; computed in float64."""
    source, target = SOURCE.astype(np.float32), TARGET.astype(np.float32)
    fitted = clone(adapter).fit(source, LABELS, target=target)
    for rows, domain in ((source, "source"), (target, "target")):
        mapped = fitted.transform(rows, domain)
        assert mapped.dtype == np.float32
        expected = fitted.transform(rows.astype(np.float64), domain)
        assert expected.dtype == np.float64
        np.testing.assert_array_equal(mapped, expected.astype(np.float32))
    assert fitted.transform(pd.DataFrame(target)).dtype == np.float32
    assert fitted.transform(target.tolist()).dtype == np.float64


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_columns_have_names(adapter):
    frame = clone(adapter).set_output(transform="pandas").fit_transform(SOURCE, LABELS, target=TARGET)
    assert list(frame.columns) == list(clone(adapter).fit(SOURCE, LABELS, target=TARGET).get_feature_names_out())


@pytest.mark.filterwarnings("ignore")
def test_a_plan_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="no finite plan: raise regularization .* or lower class_regularization"):
        TransportMapping("sinkhorn_classes", class_regularization=50.0).fit(SOURCE, LABELS, target=TARGET)


def test_new_source_rows_move_as_their_neighbours_do():
    adapter = TransportMapping("emd").fit(SOURCE, target=TARGET)
    moved = adapter.transform(SOURCE[:5] + 1e-9, domain="source")
    np.testing.assert_allclose(moved, adapter.transform(SOURCE, domain="source")[:5], atol=1e-6)


# ---- pseudo-labels


def test_the_surest_of_each_class_are_taken():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
    rows, classes = surest_of_each_class(p, 0.5)
    assert (rows.tolist(), classes.tolist()) == ([0, 2, 3], [0, 0, 1])
    assert surest_of_each_class(p, 1.0)[0].tolist() == [0, 1, 2, 3, 4]


def test_pseudo_labels_move_the_border_to_the_gap_of_the_target():
    """The target's gap is not where the source's is; the aligned classifier alone cuts through a class."""
    draw = np.random.default_rng(0)
    labels, target_labels = np.repeat([0, 1], 150), np.repeat([0, 1], [240, 60])
    source = draw.normal(size=(300, 2)) * 0.8 + 3 * labels[:, None] * [1, 0]
    target = draw.normal(size=(300, 2)) * 0.8 + 3 * target_labels[:, None] * [1, 0] + [1.0, 0]
    settings = {"alignment": CorrelationAlignment(0.1)}
    before, after = (
        PseudoLabelClassifier(rounds=rounds, **settings)
        .fit(source, labels, target=target)
        .score(target, target_labels)
        for rounds in (0, 10)
    )
    assert after > before + 0.02


def test_the_rounds_are_as_described():
    """By hand: align, fit, add the surest, fit again."""
    adapter = CorrelationAlignment().fit(SOURCE, target=TARGET)
    source, target = adapter.transform(SOURCE, domain="source"), adapter.transform(TARGET)
    classifier = LogisticRegression(max_iter=1000).fit(source, LABELS)
    for share in (0.5, 1.0):
        rows, answers = surest_of_each_class(classifier.predict_proba(target), share)
        classifier = LogisticRegression(max_iter=1000).fit(
            np.concatenate([source, target[rows]]), np.concatenate([LABELS, answers])
        )
    got = PseudoLabelClassifier(rounds=2).fit(SOURCE, LABELS, target=TARGET)
    np.testing.assert_allclose(got.predict_proba(TARGET), classifier.predict_proba(target))


def test_names_of_classes_are_kept():
    names = np.array(["down", "up"])[LABELS]
    model = PseudoLabelClassifier(rounds=1).fit(SOURCE, names, target=TARGET)
    assert set(model.predict(TARGET)) == {"down", "up"}
    assert model.classes_.tolist() == ["down", "up"]


# ---- what is refused


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda: CorrelationAlignment().fit(SOURCE), r"needs rows of the target.*fit\(X, y, align__target=X_target\)"),
        (lambda: PseudoLabelClassifier().fit(SOURCE, LABELS), "PseudoLabelClassifier needs rows of the target"),
        (lambda: CorrelationAlignment().fit(SOURCE, target=TARGET[:, :2]), "X are 4 wide and target 2"),
        (lambda: CorrelationAlignment().fit(SOURCE * np.nan, target=TARGET), "X are not finite"),
        (
            lambda: CorrelationAlignment().fit(np.array([["up", "1"], ["down", "2"]]), target=TARGET),
            r"X must be a matrix of numbers \(could not convert string to float: .*'up'",
        ),
        (lambda: CorrelationAlignment(-1).fit(SOURCE, target=TARGET), "regularization=-1 must be"),
        (lambda: CorrelationAlignment("much").fit(SOURCE, target=TARGET), "regularization='much' must be a number"),
        (lambda: SubspaceAlignment("3").fit(SOURCE, target=TARGET), "components='3' must be between 1 and 4"),
        (lambda: CorrelationAlignment(0).fit(SOURCE[:3], target=TARGET), "of X has no full rank, with 3 rows of 4"),
        (lambda: SubspaceAlignment(5).fit(SOURCE, target=TARGET), "components=5 must be between 1 and 4"),
        (lambda: SubspaceAlignment(1.5).fit(SOURCE, target=TARGET), "components=1.5 must be"),
        (lambda: SubspaceAlignment(1).fit(SOURCE * 0, target=TARGET), "All rows of X are the same"),
        (lambda: TransportMapping("emdd").fit(SOURCE, target=TARGET), "method='emdd' must be.*Did you mean 'emd'"),
        (lambda: TransportMapping(regularization=0).fit(SOURCE, target=TARGET), "regularization=0 must be"),
        (lambda: TransportMapping("sinkhorn_classes").fit(SOURCE, target=TARGET), "needs the labels of the source"),
        (lambda: PseudoLabelClassifier(rounds=-1).fit(SOURCE, LABELS, target=TARGET), "rounds=-1 must be"),
        (lambda: PseudoLabelClassifier().fit(SOURCE, LABELS * 0, target=TARGET), "y holds one class alone"),
        (lambda: PseudoLabelClassifier().fit(SOURCE, LABELS[1:], target=TARGET), "y must be 200 labels"),
        (
            lambda: PseudoLabelClassifier().fit(SOURCE, np.where(LABELS == 0, np.nan, 1.0), target=TARGET),
            "y has none in row 0. Leave out",
        ),
        (
            lambda: TransportMapping("sinkhorn_classes").fit(SOURCE, LABELS[1:], target=TARGET),
            "y must be 200 labels, one a row",
        ),
        (
            lambda: TransportMapping("sinkhorn_classes").fit(SOURCE, [None, *LABELS[1:].tolist()], target=TARGET),
            "y has none in row 0",
        ),
        (
            lambda: PseudoLabelClassifier(Perceptron()).fit(SOURCE, LABELS, target=TARGET),
            "Perceptron has no predict_proba",
        ),
        (
            lambda: CorrelationAlignment().fit(SOURCE, target=TARGET).transform(TARGET[:, :3]),
            "X is 3 wide, and CorrelationAlignment was fitted on 4",
        ),
        (
            lambda: CorrelationAlignment().fit(SOURCE, target=TARGET).transform(TARGET, domain="sourcee"),
            "Did you mean 'source'",
        ),
    ],
)
def test_refusals(fit, message):
    with pytest.raises(ValueError, match=message):
        fit()


def test_nothing_is_mapped_before_it_is_fitted():
    with pytest.raises(NotFittedError):
        CorrelationAlignment().transform(TARGET)
    for ask in (PseudoLabelClassifier().predict, PseudoLabelClassifier().predict_proba):
        with pytest.raises(NotFittedError):
            ask(TARGET)


COLUMNS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("estimator", [CorrelationAlignment(), PseudoLabelClassifier(rounds=1), TrAdaBoost(rounds=1)])
def test_columns_of_tables_are_in_one_order(estimator):
    """The target's when it is fitted, and a table's when it is mapped or predicted."""
    source, target = pd.DataFrame(SOURCE, columns=COLUMNS), pd.DataFrame(TARGET, columns=COLUMNS)
    given = {"target_labels": np.arange(len(TARGET)) % 2} if isinstance(estimator, TrAdaBoost) else {}
    with pytest.raises(ValueError, match="target has the columns that X has in another order"):
        estimator.fit(source, LABELS, target=target[COLUMNS[::-1]], **given)
    estimator.fit(source, LABELS, target=target, **given)
    assert estimator.feature_names_in_.tolist() == COLUMNS
    assert estimator.n_features_in_ == 4
    use = getattr(estimator, "predict", None) or estimator.transform
    with pytest.raises(ValueError, match=f"that {type(estimator).__name__} was fitted on in another order"):
        use(target[COLUMNS[::-1]])
    with pytest.raises(ValueError, match="other columns than .*'d' is in one of them alone"):
        use(target.rename(columns={"d": "e"}))
    np.testing.assert_array_equal(use(target), use(TARGET))
    assert not hasattr(estimator.fit(SOURCE, LABELS, target=TARGET, **given), "feature_names_in_")


def test_a_missing_pot_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ot.da", None)
    monkeypatch.delattr(ot, "da")
    with pytest.raises(ImportError, match=r"needs POT.*\[transport\]"):
        TransportMapping("emd").fit(SOURCE, target=TARGET)
