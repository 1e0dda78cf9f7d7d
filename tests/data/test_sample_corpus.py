"""The sample corpus: its sizes, its labels, and that no text is in it twice."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from itertools import combinations

import pytest

from hftransfer import load_sample_corpus
from hftransfer.data.sample_corpus import LABELS, SPLITS

CORPUS = load_sample_corpus()
TEXTS = {split: list(CORPUS[split]["text"]) for split in SPLITS}


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def sentences(text: str) -> list[str]:
    return [" ".join(words(part)) for part in re.split(r"(?<=[.!?;:])\s+|\n+", text) if len(words(part)) > 3]


def test_there_is_enough_of_it():
    size = {split: len(CORPUS[split]) for split in SPLITS}
    assert size["news_train"] + size["news_validation"] + size["news_test"] >= 600
    assert size["medical_train"] + size["medical_validation"] + size["medical_test"] >= 900
    assert min(size.values()) >= 60


def test_only_the_medical_training_texts_have_no_label():
    unlabelled = [split for split in SPLITS if "label" not in CORPUS[split].column_names]
    assert unlabelled == ["medical_train"]
    for split in SPLITS:
        assert set(CORPUS[split].column_names) <= {"text", "label"}


@pytest.mark.parametrize("split", [s for s in SPLITS if s != "medical_train"])
def test_every_label_has_its_share(split):
    feature = CORPUS[split].features["label"]
    assert tuple(feature.names) == LABELS
    counts = Counter(CORPUS[split]["label"])
    assert set(counts) == set(range(len(LABELS)))
    assert min(counts.values()) >= 0.15 * len(CORPUS[split])


def test_texts_are_varied_in_length():
    for split, texts in TEXTS.items():
        length = sorted(len(words(text)) for text in texts)
        assert length[0] >= 4, split
        assert length[-1] >= 3 * length[len(length) // 20], split
        assert all(text == text.strip() for text in texts), split


def test_no_sentence_occurs_twice():
    seen = Counter(sentence for texts in TEXTS.values() for text in texts for sentence in sentences(text))
    assert [sentence for sentence, count in seen.items() if count > 1] == []


def test_no_near_duplicate_crosses_splits():
    """No two texts of different splits share more than half of their three-word sequences."""
    index: dict[tuple, list[tuple[str, int]]] = {}
    grams: dict[tuple[str, int], set] = {}
    for split, texts in TEXTS.items():
        for i, text in enumerate(texts):
            w = words(text)
            grams[split, i] = set(zip(w, w[1:], w[2:], strict=False))
            for gram in grams[split, i]:
                index.setdefault(gram, []).append((split, i))
    shared: Counter = Counter()
    for holders in index.values():
        shared.update(pair for pair in combinations(sorted(set(holders)), 2) if pair[0][0] != pair[1][0])
    near = [
        (TEXTS[a[0]][a[1]], TEXTS[b[0]][b[1]])
        for (a, b), count in shared.items()
        if count > 0.5 * min(len(grams[a]), len(grams[b]))
    ]
    assert near == []


def test_the_domains_use_different_words():
    """Fewer than half of the medical word types were ever seen in the news."""
    news, medical = (
        {w for s in SPLITS if s.startswith(d) for t in TEXTS[s] for w in words(t)} for d in ("news", "med")
    )
    assert len(medical & news) < 0.5 * len(medical)


def test_the_licence_lies_beside_it():
    text = resources.files("hftransfer.data").joinpath("corpus", "LICENSE").read_text(encoding="utf-8")
    assert "CC0" in text
