"""Measures of zero-shot classification and retrieval against definitions spelled out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from hftransfer.embeddings.image_text.prompts import TEMPLATES, prompts
from hftransfer.embeddings.image_text.zero_shot import (
    cka_scores,
    class_accuracy,
    conse_scores,
    ensemble,
    harmonic_mean,
    linear_cka,
    retrieval_recall,
)
from hftransfer.embeddings.image_text.zero_shot_report import _hit

RNG = np.random.default_rng(0)


def test_accuracy_is_the_mean_over_classes_and_candidates_limit_it():
    labels = np.array([0, 0, 0, 2])
    scores = np.array([[3, 2, 1], [3, 2, 1], [1, 3, 2], [1, 3, 2]])
    assert class_accuracy(scores, labels) == pytest.approx((2 / 3 + 0) / 2)
    assert class_accuracy(scores, labels, [0, 2]) == pytest.approx((2 / 3 + 1) / 2)
    with pytest.raises(ValueError, match="no rows"):
        class_accuracy(scores[:0], labels[:0])


def test_recall_counts_queries_with_a_hit():
    scores, queries, gallery = RNG.normal(size=(6, 9)), RNG.integers(0, 3, 6), RNG.integers(0, 3, 9)
    for k in (1, 4, 20):
        hits = [any(gallery[j] == queries[i] for j in sorted(range(9), key=lambda j: -scores[i, j])[:k])
                for i in range(6)]  # fmt: skip
        assert retrieval_recall(scores, queries, gallery, k) == np.mean(hits)


def test_chance_of_a_hit_is_counted_over_all_draws():
    rows, right, k = 6, 2, 3
    draws = list(itertools.combinations(range(rows), k))
    assert _hit(rows, right, k) == pytest.approx(np.mean([min(draw) < right for draw in draws]))
    assert _hit(4, 4, 9) == 1


def test_cka_is_that_of_its_definition():
    x, y = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 5))
    x, y = x - x.mean(0), y - y.mean(0)
    expected = (np.linalg.norm(x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert linear_cka(x + 3, y - 2) == pytest.approx(expected)
    turned = x @ np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    assert linear_cka(x, turned) == pytest.approx(1)


def test_local_cka_is_the_cka_of_anchors_with_the_two_added():
    images, texts = RNG.normal(size=(3, 4)), RNG.normal(size=(2, 5))
    image_anchors, text_anchors = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 5))
    found = cka_scores(images, texts, image_anchors, text_anchors)

    def unit(rows, mean):
        return normalize(rows - mean)

    for i, j in itertools.product(range(3), range(2)):
        left = np.vstack([unit(image_anchors, image_anchors.mean(0)), unit(images[i : i + 1], image_anchors.mean(0))])
        right = np.vstack([unit(text_anchors, text_anchors.mean(0)), unit(texts[j : j + 1], text_anchors.mean(0))])
        assert found[i, j] == pytest.approx(linear_cka(left, right))


def test_conse_takes_the_names_of_the_likeliest_classes():
    known, new = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), np.array([[1.0, 1, 0], [0, 0, 1]])
    logits = np.log(np.array([[0.6, 0.3, 0.1]]))
    scores = conse_scores(logits, known, new, top=2, mean=np.zeros(3))
    expected = normalize([[0.6, 0.3, 0.0]]) @ normalize(new).T
    np.testing.assert_allclose(scores, expected)


def test_an_ensemble_is_the_mean_of_a_class_s_templates():
    rows = normalize(RNG.normal(size=(6, 4)))
    np.testing.assert_allclose(ensemble(rows, 3), normalize([rows[:3].mean(0), rows[3:].mean(0)]))


def test_harmonic_mean_is_low_where_one_is():
    assert harmonic_mean(0.9, 0.1) == pytest.approx(0.18)


def test_prompts_go_name_by_name():
    found = prompts(["cat", "ping_pong  ball"])
    assert len(found) == 2 * len(TEMPLATES)
    assert found[: len(TEMPLATES)] == [template.format("cat") for template in TEMPLATES]
    assert "a photo of a ping pong ball." in found


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        (["cat"], ["a photo"], "'a photo' must have {} once"),
        (["cat"], ["{} and {}"], "must have {} once"),
        (["cat"], ["{0} {}"], "must have {} once"),
        (["cat"], "a {}", "must be a list of sentences"),
        ("cat", ["a {}"], "must be a list of class names"),
        ([" "], ["a {}"], "name is empty"),
    ],
)
def test_prompts_that_say_nothing_are_refused(names, templates, message):
    with pytest.raises(ValueError, match=message):
        prompts(names, templates)
