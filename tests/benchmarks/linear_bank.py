"""Bank of linear models' predictions on real shifts: cheap, with larger falls in accuracy than those of encoders.

    python tests/benchmarks/linear_bank.py --data DIR --output BANK

Logistic regressions on TF-IDF of words and pairs of words (press releases and PubMed, both ways; product reviews, all
twelve pairs) and on pixels (MNIST and USPS, both ways). Three models a shift, each trained on another 80 % of the
source's training rows. Files are those that `accuracy_estimate.py` reads. About a minute.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

SPLITS = ("train", "validation", "test")
SEEDS, SHARE, MOST_DIGITS, PIXELS = (1, 2, 3), 0.8, 3000, 16
REVIEWS = ("books", "dvd", "electronics", "kitchen")
NAMES = {"negative": 0, "positive": 1}
Rows = dict[str, tuple[Any, np.ndarray]]  # inputs and labels by split


def texts(folder: Path, domain: str) -> Rows:
    rows: Rows = {}
    for split in SPLITS:
        with (folder / f"{domain}_{split}.csv").open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        rows[split] = (
            [row["text"] for row in table],
            np.array([int(NAMES.get(row["label"], row["label"])) for row in table]),
        )
    return rows


def digits(folder: Path, domain: str) -> Rows:
    rows: Rows = {}
    for split in SPLITS:
        with np.load(folder / f"{domain}_{split}.npz") as file:
            images, labels = file["image"][:MOST_DIGITS], file["label"][:MOST_DIGITS]
        small = [np.asarray(Image.fromarray(image).resize((PIXELS, PIXELS))).ravel() / 255 for image in images]
        rows[split] = np.stack(small), labels
    return rows


def shifts(data: Path) -> Iterator[tuple[str, Rows, Rows]]:
    """Name, source and target, inputs as features."""
    domains = {name: texts(data / "press_pubmed_causal", name) for name in ("press", "pubmed")}
    reviews = {name: texts(data / "amazon_reviews", name) for name in REVIEWS}
    for source, target in itertools.chain(*(itertools.permutations(group, 2) for group in (domains, reviews))):
        both = domains | reviews
        vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(both[source]["train"][0])
        features = [
            {split: (vectors.transform(text), labels) for split, (text, labels) in both[name].items()}
            for name in (source, target)
        ]
        yield f"{source}-{target}", features[0], features[1]
    pixels = {name: digits(data / "digits_mnist_usps", name) for name in ("mnist", "usps")}
    for source, target in itertools.permutations(pixels, 2):
        yield f"{source}-{target}", pixels[source], pixels[target]


def logits(model: LogisticRegression, inputs: Any) -> np.ndarray:
    z = model.decision_function(inputs)
    return np.stack([-z / 2, z / 2], axis=1) if z.ndim == 1 else z


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for shift, source, target in shifts(args.data):
        for seed in SEEDS:
            inputs, labels = source["train"]
            kept = np.random.default_rng(seed).permutation(len(labels))[: int(SHARE * len(labels))]
            model = LogisticRegression(C=3.0, max_iter=500).fit(inputs[kept], labels[kept])
            arrays = {}
            for domain, rows, oracle in (("source", source, ""), ("target", target, "_oracle")):
                for split, (x, y) in rows.items():
                    arrays[f"{domain}_{split}_logits"] = logits(model, x).astype(np.float16)
                    arrays[f"{domain}_{split}_labels{oracle}"] = y
            np.savez_compressed(args.output / f"{shift}.source-only.{seed}.npz", **arrays)
        print(shift, flush=True)


if __name__ == "__main__":
    main()
