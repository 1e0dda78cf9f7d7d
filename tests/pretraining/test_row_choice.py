"""Rows chosen from a pool: importance weights and similarities by hand, draws, repeats, and what is refused."""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
import tiny
from datasets import Dataset

from hftransfer import choose_rows
from hftransfer.pretraining import feature_nearness
from hftransfer.pretraining.feature_nearness import nearest_similarity, spread_rows
from hftransfer.pretraining.ngram_weights import log_ratios, log_weights, ngram_buckets, ngram_counts

NEWS = [f"the minister of trade number {i} spoke to the press" for i in range(40)]
CARE = [f"the patient number {i} was given a dose of the drug" for i in range(40)]
LIKE = ["a patient was given the drug", "the dose of a drug for the patient"]


def grams_by_hand(text: str) -> list[str]:
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def weights_by_hand(pool: list[str], like: list[str], buckets: int) -> np.ndarray:
    def counts(texts):
        numbers = [zlib.crc32(gram.encode()) % buckets for text in texts for gram in grams_by_hand(text)]
        return np.bincount(numbers, minlength=buckets).astype(np.float64)

    of_pool, of_like = counts(pool), counts(like)
    q = of_pool / of_pool.sum()
    kinds = np.count_nonzero(of_pool)
    p = (of_like + kinds * q) / (of_like.sum() + kinds)
    return np.array(
        [sum(np.log(p[b] / q[b]) for b in (zlib.crc32(g.encode()) % buckets for g in grams_by_hand(t))) for t in pool]
    )


@pytest.mark.parametrize("buckets", [64, 10_000])
def test_importance_weights_are_those_of_the_formula(buckets):
    pool = [*NEWS[:7], *CARE[:5], "Yes, really!"]
    ratios = log_ratios(ngram_counts(LIKE, buckets), ngram_counts(pool, buckets))
    np.testing.assert_allclose(log_weights(pool, ratios), weights_by_hand(pool, LIKE, buckets), rtol=1e-12)


def test_a_pool_like_the_task_has_weights_of_about_one():
    """The more texts, the nearer to the ratio of frequencies itself."""
    ratios = log_ratios(ngram_counts(CARE * 50, 64), ngram_counts(CARE, 64))
    np.testing.assert_allclose(ratios, 0, atol=1e-12)
    many = log_ratios(np.array([300, 100]) * 10**6, np.array([50, 50]))
    np.testing.assert_allclose(many, np.log([1.5, 0.5]), atol=1e-6)


def test_scripts_without_spaces_are_cut_into_characters():
    assert len(ngram_buckets("患者は治療", 10_000)) == 5 + 4
    assert len(ngram_buckets("naïve café", 10_000)) == 2 + 1


def test_rows_like_the_task_are_chosen_and_none_twice():
    pool = [row for pair in zip(NEWS, CARE, strict=True) for row in pair]
    chosen = choose_rows(pool, LIKE, 30, diversity=0)
    assert len(set(chosen.rows)) == 30
    assert np.mean(chosen.rows % 2) > 0.75  # of CARE
    assert not chosen.diverse.any()
    by_hand = weights_by_hand(pool, LIKE, 10_000)
    np.testing.assert_allclose(chosen.scores, by_hand[chosen.rows], rtol=1e-12)


def test_chances_are_those_of_the_weights():
    """One row of two, over many seeds: w1 / (w1 + w2) of them take the first."""
    pool, like = ["treat the ill", "win the match"], ["treat the ill now"]
    weights = np.exp(weights_by_hand(pool, like, 8))
    taken = [choose_rows(pool, like, 1, buckets=8, diversity=0, seed=seed).rows[0] for seed in range(200)]
    share = weights[0] / weights.sum()
    assert 0.1 < share < 0.9
    assert abs(np.mean(np.array(taken) == 0) - share) < 4 * np.sqrt(share * (1 - share) / 200)


def test_the_seed_decides():
    pool = [*NEWS, *CARE]
    first, again, other = (choose_rows(pool, LIKE, 20, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert set(first.rows) != set(other.rows)


def test_repeats_and_the_tasks_own_texts_are_left_out():
    pool = [LIKE[0].upper(), "win  the match", "Win the match", "lose the match", f" {LIKE[0]} ", "draw"]
    chosen = choose_rows(pool, LIKE, 3, diversity=0)
    assert sorted(chosen.rows) == [1, 3, 5]
    assert (chosen.pool_size, chosen.repeats, chosen.known) == (6, 2, 1)
    assert str(chosen).endswith("Left out before: 2 repeated, 1 of the task already.")


def test_a_share_is_drawn_for_diversity_from_the_other_rows():
    pool = [*NEWS, *CARE]
    chosen = choose_rows(pool, LIKE, 20, diversity=0.5)
    assert chosen.diverse.tolist() == [False] * 10 + [True] * 10
    assert len(set(chosen.rows)) == 20
    assert (chosen.rows[:10] >= 40).mean() > 0.8
    assert (chosen.rows[10:] < 40).mean() > 0.3


def test_lists_of_words_and_data_sets_are_read_alike():
    texts = Dataset.from_dict({"body": NEWS + CARE, "n": range(80)})
    words = Dataset.from_dict({"tokens": [t.split() for t in NEWS + CARE]})
    first, second = choose_rows(texts, LIKE, 9, column="body"), choose_rows(words, [t.split() for t in LIKE], 9)
    np.testing.assert_array_equal(first.rows, second.rows)


def cosines_by_hand(features, like, k):
    centre = features.astype(np.float64).mean(0)

    def unit(x):
        x = x.astype(np.float64) - centre
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    cosines = np.sort(unit(features) @ unit(like).T, axis=1)
    return cosines[:, -k:].mean(1) if k else cosines.mean(1)


@pytest.mark.parametrize("k", [1, 3, 50, None])
def test_similarity_is_that_of_the_formula_in_blocks_of_any_size(k, monkeypatch):
    draw = np.random.default_rng(0)
    features, like = draw.normal(1, 1, (23, 5)).astype(np.float32), draw.normal(1, 1, (7, 5)).astype(np.float32)
    for cells in (1 << 20, 20):
        monkeypatch.setattr(feature_nearness, "CELLS", cells)
        np.testing.assert_allclose(
            nearest_similarity(features, like, k), cosines_by_hand(features, like, k), atol=1e-12
        )


def test_spread_rows_leave_no_group_out():
    """Five tight groups, one of which is taken: four draws are one of each other group."""
    draw = np.random.default_rng(0)
    centres = 10 * np.eye(5)
    features = np.repeat(centres, 20, axis=0) + draw.normal(0, 0.01, (100, 5))
    for seed in range(5):
        rows = spread_rows(features[20:], features[:3], 4, np.random.default_rng(seed))
        assert sorted(rows // 20) == [0, 1, 2, 3]


def test_spread_rows_are_different_even_where_all_are_equal():
    rows = spread_rows(np.ones((6, 3)), np.ones((2, 3)), 6, np.random.default_rng(0))
    assert sorted(rows) == list(range(6))


def test_rows_are_chosen_by_embeddings_and_the_features_are_kept(tmp_path):
    model = tmp_path / "encoder"
    tiny.bert().save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    pool = [f"w{i} w{i + 1} w{i + 2}" for i in range(30)] + ["w1 w2 w3"]
    like = ["w5 w6 w7 w8", "w6 w7"]
    settings = {"by": "embeddings", "model": str(model), "neighbours": 1, "cache_dir": tmp_path / "cache"}
    chosen = choose_rows(pool, like, 10, diversity=0.3, progress=False, **settings)
    assert chosen.rows[0] in (4, 5, 6)
    assert chosen.diverse.sum() == 3
    assert len(set(chosen.rows)) == 10
    assert 30 not in chosen.rows
    assert (np.diff(chosen.scores[:7]) <= 0).all()
    assert chosen.scores[7:].max() <= chosen.scores[6]
    assert any((tmp_path / "cache").rglob("*.npy"))
    again = choose_rows(pool, like, 10, diversity=0.3, progress=False, **settings)
    np.testing.assert_array_equal(again.rows, chosen.rows)


BAD = {
    "by": (lambda: choose_rows(NEWS, LIKE, 3, by="ngram"), "by='ngram' must be one of .* Did you mean 'ngrams'"),
    "count": (lambda: choose_rows(NEWS, LIKE, 0), "count=0 must be a whole number"),
    "too many": (lambda: choose_rows(NEWS + NEWS, LIKE, 41), "41 rows of the pool .* it has 40 that"),
    "share": (lambda: choose_rows(NEWS, LIKE, 3, diversity=1), "diversity=1 must be a share"),
    "buckets": (lambda: choose_rows(NEWS, LIKE, 3, buckets=0), "buckets=0"),
    "seed": (lambda: choose_rows(NEWS, LIKE, 3, seed=-1), "seed=-1"),
    "neighbours": (lambda: choose_rows(NEWS, LIKE, 3, neighbours=0), "neighbours=0"),
    "no model": (lambda: choose_rows(NEWS, LIKE, 3, by="embeddings"), "needs a model"),
    "a model": (lambda: choose_rows(NEWS, LIKE, 3, model="runs/x"), "model has no effect with by='ngrams'"),
    "no pool": (lambda: choose_rows([], LIKE, 3), "pool: rows is empty"),
    "nothing like": (lambda: choose_rows(NEWS, [], 3), "like: rows is empty"),
    "one text": (lambda: choose_rows("news", LIKE, 3), "pool: rows is one str"),
    "a hole": (lambda: choose_rows(NEWS, [*LIKE, " "], 3), "like: rows row 2: .* is empty"),
    "images": (lambda: choose_rows([np.zeros((4, 4))], LIKE, 1), "pool: rows hold images, and text is read here"),
    "a stream": (
        lambda: choose_rows(Dataset.from_dict({"text": NEWS}).to_iterable_dataset(), LIKE, 1),
        "pool: it is a stream",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        make()
