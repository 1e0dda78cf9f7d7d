"""The selection rule: what is refused, what replaces source-only, and that it stays in doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hftransfer import SelectionRule
from hftransfer.selection.class_frequencies import estimate_label_shift
from hftransfer.selection.contender_scores import ContenderScores, rows_of
from hftransfer.selection.model_predictions import MixedPairs, Predictions, softmax
from hftransfer.selection.rule import Contender, Judgement, mean_ranks

K, N, M = 3, 240, 600
EVEN = np.full(K, 1 / K)


def rows(frequencies, n: int, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits of a classifier of Gaussians: the larger the strength, the better it is."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(K, n, p=frequencies)
    return labels, strength * (strength * np.eye(K)[labels] + draw.normal(size=(n, K)))


def model(frequencies=EVEN, seed: int = 0, source: float = 2.0, target: float = 2.0, noise: int = 0) -> Predictions:
    """Predictions of one shift (`seed`); `noise` draws another model of the same labels."""
    labels, _ = rows(EVEN, N, seed, 1.0)
    target_labels, _ = rows(frequencies, M, seed + 100, 1.0)
    draw = np.random.default_rng(1000 + noise)
    z, t = (
        s * (s * np.eye(K)[y] + draw.normal(size=(len(y), K))) for s, y in ((source, labels), (target, target_labels))
    )
    return Predictions(z, labels, t)


def oracle(frequencies=EVEN, seed: int = 0) -> np.ndarray:
    return rows(frequencies, M, seed + 100, 1.0)[0]


def corrected(p: Predictions, estimate) -> Predictions:
    return replace(
        p,
        source_logits=np.log(np.maximum(estimate.corrected(p.source_logits), 1e-12)),
        target_logits=np.log(np.maximum(estimate.corrected(p.target_logits), 1e-12)),
    )


def judge(*others: Contender, base: Predictions | None = None, shift=None, **settings) -> Judgement:
    base = model() if base is None else base
    return SelectionRule(**settings).judge([Contender("source-only", base, base=True), *others], shift)


def swapped(p: Predictions) -> Predictions:
    order = [1, 0, *range(2, K)]
    return replace(p, source_logits=p.source_logits[:, order], target_logits=p.target_logits[:, order])


def test_a_clearly_better_model_is_chosen_and_the_reasons_say_why():
    better = Contender("better", model(source=2.0, target=3.0, noise=1))
    mean = Contender("mean", model(source=3.0, target=3.0, noise=2), reference=True)
    judgement = judge(better, mean)
    assert judgement.chosen == "better"
    assert judgement.ranks.keys() == {"source-only", "better"}
    assert judgement.scores.keys() == {"source-only", "better", "mean"}
    assert judgement.ranks == {"better": 1, "source-only": 2}
    assert judgement.wins["better"] == -judgement.wins["source-only"] > 0
    assert "better ranks 1 of 2, source-only 2" in judgement.reasons[-2]
    assert "Beside source-only it is clearly better in" in judgement.reasons[-1]


def test_source_only_stays_in_doubt():
    """Itself under another name, and models that are as good by another draw."""
    assert judge(Contender("copy", model())).chosen == "source-only"
    pairs = [(model(seed=seed, noise=2 * seed), model(seed=seed, noise=2 * seed + 1)) for seed in range(8)]
    chosen = [judge(Contender("other", other), base=base).chosen for base, other in pairs]
    assert chosen.count("source-only") >= 7
    worse = judge(Contender("worse", model(target=1.5, noise=3)))
    assert worse.chosen == "source-only"
    assert worse.reasons == ["source-only stays: no other contender ranks above it."]


def test_a_reference_is_never_handed_over():
    judgement = judge(Contender("mean", model(source=4.0, target=4.0, noise=1), reference=True))
    assert judgement.chosen == "source-only"
    assert "mean" in judgement.scores
    assert judgement.reasons == ["source-only stays: no other contender passed the gates."]


@pytest.mark.parametrize("seed", range(5))
def test_spoiled_models_are_refused_each_time(seed):
    """Swapped label names, everything one class on both domains or on the target alone, a class that is gone."""
    good = model(seed=seed, source=3.0, target=3.0, noise=seed + 1)
    one = 30 * np.eye(K)[0]
    mostly_one = good.target_logits.copy()
    mostly_one[:-30] += one
    everywhere = replace(good, source_logits=good.source_logits + one, target_logits=good.target_logits + one)
    spoiled = {
        "swapped": (swapped(good), "accuracy on source validation rows is"),
        "collapsed": (everywhere, "accuracy on source validation rows is"),
        "collapsed on the target": (replace(good, target_logits=good.target_logits + one), "never predicts class 1"),
        "one class lost": (replace(good, target_logits=good.target_logits - one), "never predicts class 0"),
        "nearly collapsed": (replace(good, target_logits=mostly_one), "collapsed: their diversity"),
    }
    judgement = judge(*(Contender(name, p) for name, (p, _) in spoiled.items()), base=model(seed=seed))
    assert judgement.chosen == "source-only"
    for name, (_, why) in spoiled.items():
        assert why in judgement.refused[name], name
        assert name not in judgement.ranks


def test_predictions_that_are_not_finite_are_refused():
    broken = model(noise=1)
    broken.target_logits[3, 1] = np.nan
    judgement = judge(Contender("broken", broken))
    assert judgement.refused == {"broken": "its predictions are not finite"}
    assert judgement.chosen == "source-only"
    assert "broken" not in judgement.scores
    with pytest.raises(ValueError, match="No source-only run with finite predictions"):
        judge(base=broken)


def test_a_target_without_half_its_classes_is_no_collapse_where_the_shift_is_believed():
    base = model([0.98, 0.02, 0.0], source=1.6, target=1.6)
    estimate = estimate_label_shift(base, resamples=0)
    assert estimate.believed
    fixed = corrected(base, estimate)
    candidate = Contender("corrected", fixed, weights=estimate.weights)
    judgement = judge(candidate, base=base, shift=estimate)
    assert judgement.refused == {}
    assert judgement.chosen == "corrected"
    assert "Scores are for the class frequencies of the estimate" in judgement.reasons[0]
    assert judge(candidate, base=base).refused == {}  # its own weights, which are believed, say the same
    assert judge(replace(candidate, weights=None), base=base).refused.keys() == {"corrected"}


def test_a_right_correction_costs_accuracy_on_the_source_by_design():
    """Counted by its class weights it gains; counted as the source is, the gate would refuse it."""
    frequencies = [0.9, 0.05, 0.05]
    base = model(frequencies, source=1.3, target=1.3)
    estimate = estimate_label_shift(base, resamples=0)
    fixed = corrected(base, estimate)
    labels = oracle(frequencies)
    assert (fixed.target_logits.argmax(1) == labels).mean() > (base.target_logits.argmax(1) == labels).mean() + 0.1
    judgement = judge(Contender("corrected", fixed, weights=estimate.weights), base=base, shift=estimate)
    assert judgement.chosen == "corrected"
    unweighted = judge(Contender("corrected", fixed), base=base)
    assert "accuracy on source validation rows is" in unweighted.refused["corrected"]


def test_an_estimate_that_is_not_believed_changes_nothing():
    base, other = model(), Contender("other", model(target=3.0, noise=1))
    estimate = estimate_label_shift(base, resamples=0)
    assert not estimate.believed
    assert judge(other, base=base, shift=estimate) == judge(other, base=base)


def test_scores_equal_the_validators_of_calibrated_predictions():
    from hftransfer.selection.validators.information import Information

    base, other = model(), model(noise=1)
    judgement = judge(Contender("other", other), scores=("information", "source_accuracy", "ensemble_confidence"))
    calibrated = [Contender("", p).calibrated() for p in (base, other)]
    mean = np.mean([p.target_probabilities for p in calibrated], axis=0)
    frequencies = np.bincount(base.source_labels, minlength=K) / N
    for p, name in zip(calibrated, ("source-only", "other"), strict=True):
        scores = judgement.scores[name]
        assert scores["information"] == pytest.approx(Information(frequencies).compute(p.target_probabilities))
        assert scores["source_accuracy"] == (p.source_logits.argmax(1) == p.source_labels).mean()
        answers = p.target_logits.argmax(1)
        assert scores["ensemble_confidence"] == pytest.approx(mean[np.arange(M), answers].mean())
        assert "mixval_inter" not in scores


def test_expected_frequencies_enter_scores_by_their_formulas():
    from hftransfer.selection.validators.information import Information
    from hftransfer.selection.validators.nuclear_norm import NuclearNorm

    draw = np.random.default_rng(0)
    p, pi = draw.dirichlet(np.ones(K), 50), np.array([0.5, 0.3, 0.2])
    mean = p.mean(0)
    divergence = sum(q * np.log(q / f) for q, f in zip(mean, pi, strict=True))
    certainty = np.mean([sum(v * np.log(v) for v in row) for row in p])
    assert Information(pi).compute(p) == pytest.approx((np.log(K) - divergence + certainty) / np.log(K))
    assert Information(EVEN).compute(p) == pytest.approx(Information().compute(p))
    assert NuclearNorm(EVEN).compute(p) == pytest.approx(NuclearNorm().compute(p))
    exact = np.eye(K)[np.repeat(np.arange(K), [50, 30, 20])]
    assert NuclearNorm(pi).compute(exact) == pytest.approx(1)
    assert Information(pi).compute(exact) == pytest.approx(1)
    for other in ([34, 33, 33], [100, 0, 0], [20, 30, 50]):
        wrong = np.eye(K)[np.repeat(np.arange(K), other)]
        assert NuclearNorm(pi).compute(wrong) < 1
        assert Information(pi).compute(wrong) < 1
    assert np.isfinite(Information([1.0, 0.0, 0.0]).compute(p))


def test_errors_of_differences_are_those_of_drawing_rows_anew():
    """The jackknife against the spread over 200 draws of the same two models."""
    names = ("information", "source_accuracy", "nuclear_norm")
    first, second = Contender("first", model(target=2.2, source=2.2)), Contender("second", model(noise=1))
    scoring = ContenderScores(names, first.predictions.source_labels, K, None)
    differences = scoring.sample(first).differences(scoring.sample(second))
    draw = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        picked = draw.integers(N, size=N), draw.integers(M, size=M)
        parts = [scoring(replace(c, predictions=rows_of(c.predictions, *picked))) for c in (first, second)]
        drawn.append([parts[0][name] - parts[1][name] for name in names])
    for name, spread in zip(names, np.std(drawn, axis=0), strict=True):
        assert differences[name][1] == pytest.approx(spread, rel=0.6), name


def test_rows_of_keeps_mixtures_of_rows_that_are_there():
    p = model()
    mixed = MixedPairs(
        softmax(np.random.default_rng(0).normal(size=(4, K))), np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])
    )
    part = rows_of(replace(p, mixed=mixed), np.arange(5), np.array([1, 2, 3]))
    assert part.mixed.first.tolist() == [0, 1]
    assert part.mixed.second.tolist() == [1, 2]
    assert (part.mixed.probabilities == mixed.probabilities[1:3]).all()
    assert (part.target_logits == p.target_logits[1:4]).all()


def test_only_clear_differences_count_and_those_of_every_pair():
    """Three models in order: each win is a score by which one is clearly above another, of all pairs."""
    models = {"worst": model(), "better": model(target=2.6, noise=1), "best": model(target=3.6, noise=2)}
    judgement = judge(*(Contender(name, p) for name, p in list(models.items())[1:]), base=models["worst"])
    assert judgement.ranks == {"best": 1, "better": 2, "source-only": 3}
    assert judgement.chosen == "best"
    assert sum(judgement.wins.values()) == 0
    doubtful = judge(*(Contender(n, p) for n, p in list(models.items())[1:]), base=models["worst"], clear=1000.0)
    assert set(doubtful.wins.values()) == {0}
    assert doubtful.chosen == "source-only"


def test_a_model_far_from_the_ensemble_may_win_by_the_other_scores():
    """The mean of all is one voice: what it does not expect can be right."""
    base = model(target=1.0)
    ensemble = Contender("mean", model(target=1.1), reference=True)
    close, far = Contender("close", model(target=1.2)), Contender("far", model(target=4.0, noise=5))
    judgement = judge(ensemble, close, far, base=base)
    assert judgement.scores["far"]["ensemble_confidence"] < judgement.scores["close"]["ensemble_confidence"]
    assert judgement.chosen == "far"


def test_equal_wins_are_ordered_by_means_over_the_scores_that_all_have():
    scores = {"a": {"x": 1.0, "y": 3.0, "z": 9.0}, "b": {"x": 2.0, "y": 1.0}, "c": {"x": 2.0, "y": 2.0, "z": 1.0}}
    assert mean_ranks(["a", "b", "c"], scores) == {"a": 2.0, "b": 2.25, "c": 1.75}


def test_wrong_contenders_are_named():
    base = Contender("source-only", model(), base=True)
    rule = SelectionRule()
    with pytest.raises(ValueError, match="Two contenders are called 'source-only'"):
        rule.judge([base, base])
    with pytest.raises(ValueError, match="No source-only run"):
        rule.judge([Contender("other", model())])
    short = replace(model(), target_logits=model().target_logits[:5])
    with pytest.raises(ValueError, match="short and source-only predict different rows"):
        rule.judge([base, Contender("short", short)])
    with pytest.raises(ValueError, match="no validator 'entropie'"):
        SelectionRule(scores=("entropie",)).judge([base])


def test_it_can_be_changed_and_printed():
    rule = SelectionRule(scores=("information",), source_accuracy_within=0.5)
    assert "at most 50 points" in str(rule)
    assert "in pairs by information, each" in str(rule)
    shown = rule.judge([Contender("source-only", model(), base=True)]).scores["source-only"]
    assert shown.keys() == {"source_accuracy", "information"}
    better = Contender("better", model(target=3.0, noise=1))
    assert judge(better, scores=("information",)).chosen == "better"
    assert judge(better, clear=1000.0).chosen == "source-only"


def test_a_target_of_one_row_is_judged():
    p = model()
    one = replace(p, target_logits=p.target_logits[:1])
    judgement = judge(Contender("other", replace(one, target_logits=2 * one.target_logits)), base=one)
    assert judgement.chosen == "source-only"
