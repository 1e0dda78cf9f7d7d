"""The digits: real scans, made shifts, and no scan on both sides of a comparison."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hftransfer import load_digits_corpus
from hftransfer.data.digits_corpus import DOMAINS, SPLITS, _split_indices
from hftransfer.data.domain_loading import DIGITS, load_domain

CORPUS = load_digits_corpus()
SHIFTED = [d for d in DOMAINS if d != "scanned"]


def pixels(split: str) -> np.ndarray:
    return np.stack([np.asarray(image) for image in CORPUS[split]["image"]]).astype(float)


def test_every_domain_has_its_splits_with_all_classes():
    assert set(CORPUS) == {f"{domain}_{split}" for domain in DOMAINS for split in SPLITS}
    for name, data in CORPUS.items():
        assert data.features["label"].names == [str(i) for i in range(10)]
        assert np.bincount(data["label"], minlength=10).min() >= 3, name
        assert data[0]["image"].size == (32, 32)
        assert data[0]["image"].mode == "RGB"
    assert len(CORPUS["scanned_train"]) > 600
    assert min(len(CORPUS[f"{domain}_test"]) for domain in DOMAINS) > 150


def test_no_scan_is_in_two_splits():
    parts = {
        ("source" if s else "target", k): set(v) for s in (True, False) for k, v in _split_indices(1797, 0, s).items()
    }
    assert not [(a, b) for a, b in combinations(parts, 2) if parts[a] & parts[b]]
    assert len(set.union(*parts.values())) == 1797


def test_the_scans_are_those_of_scikit_learn_and_the_shifts_show_others_of_them():
    """By what a scan looks like, reduced to its eight by eight pixels again."""
    scans = load_digits().data.reshape(-1, 64) * 255 / 16

    def found(split: str, look) -> set[int]:
        small = look(pixels(split)[..., 0]).reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
        distance = ((small[:, None] - scans[None]) ** 2).mean(2)
        assert np.sqrt(distance.min(1)).max() < 25
        return set(distance.argmin(1).tolist())

    source = {split: found(f"scanned_{split}", lambda x: x) for split in ("validation", "test")}
    target = {split: found(f"inverted_{split}", lambda x: 255 - x) for split in ("validation", "test")}
    for a, b in combinations([*source.values(), *target.values()], 2):
        assert not a & b


def test_the_shifts_show_the_same_scans():
    for split in SPLITS:
        first, *others = (list(CORPUS[f"{domain}_{split}"]["label"]) for domain in SHIFTED)
        assert all(other == first for other in others)


def test_the_shifts_look_otherwise():
    scanned = pixels("scanned_test")
    assert scanned.mean() < 100 < 155 < pixels("inverted_test").mean()
    assert np.ptp(scanned, axis=-1).max() == 0
    assert np.ptp(pixels("textured_test"), axis=-1).mean() > 20
    edges = lambda x: np.abs(np.diff(x, n=2, axis=1)).mean() / x.std()  # noqa: E731
    assert edges(pixels("blurred_rotated_test")) < 0.9 * edges(scanned)


def test_the_seed_decides():
    again = load_digits_corpus()
    assert np.array_equal(
        np.asarray(again["textured_test"][3]["image"]), np.asarray(CORPUS["textured_test"][3]["image"])
    )
    assert {tuple(_split_indices(1797, s, True)["test"].tolist()) for s in (0, 1)} != {
        tuple(_split_indices(1797, 0, True)["test"].tolist())
    }


@pytest.mark.parametrize("name", DIGITS)
def test_each_domain_has_a_name_in_the_recipe(name, monkeypatch):
    monkeypatch.setattr("hftransfer.data.domain_loading.load_digits_corpus", lambda: CORPUS)
    domain = "scanned" if name == "sample:digits" else name.removeprefix("sample:digits_")
    found = load_domain(name, "target")
    assert set(found) == set(SPLITS)
    assert found["test"] is CORPUS[f"{domain}_test"]


def test_an_unknown_sample_is_refused():
    with pytest.raises(ValueError, match="'sample:digits_invertd'.*Did you mean 'sample:digits_inverted'"):
        load_domain("sample:digits_invertd", "target")
