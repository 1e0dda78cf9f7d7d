"""Words for images of classes without training images: pairs of classes left out of a labelled data set in turn.

python tests/benchmarks/image_text.py --image_encoder MODEL --text_encoder MODEL --data 'FOLDER/amazon_{split}.parquet'

Prints the mean over the pairs. Nothing of a pair's images is trained on or chooses.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from sklearn.linear_model import LogisticRegression

from hftransfer import (
    ProjectionSettings,
    align_image_text,
    captioned_images,
    load_shift,
    names_as_shots,
    zero_shot_report,
)

METHODS = {
    "CLIP": {},
    "SigLIP": {"settings": ProjectionSettings(loss="siglip")},
    "ridge, nothing else": {"settings": ProjectionSettings(steps=0)},
    "CLIP, no known classes": {"use_known_classes": False},
}
SCORES = ("new_accuracy", "new_only_accuracy", "trained_accuracy")
SHOTS, DRAWS = (1, 2, 4), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("image_encoder", "text_encoder", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--label_column", default="label_name")
    parser.add_argument("--cache_dir")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    args = parser.parse_args()
    data = load_shift({"source": args.data}, label_column=args.label_column)
    sets = (data.train["source"], data.validation["source"], data.test["source"])
    train, validation, test = (captioned_images(rows, args.label_column) for rows in sets)
    names = sorted(set(train[1]))
    pairs = list(zip(names[::2], names[1::2], strict=False))
    found = defaultdict(list)
    for pair in pairs:
        for method in args.methods:
            alignment = align_image_text(
                args.image_encoder,
                args.text_encoder,
                *without(train, pair),
                validation=without(validation, pair),
                cache_dir=args.cache_dir,
                device="cpu",
                progress=False,
                **METHODS[method],
            )
            report = zero_shot_report(alignment, *test, anchors=without(train, pair))
            for row, scores in report.items():
                if row == "aligned" or method == args.methods[0]:
                    found[method if row == "aligned" else row].append([scores[score] for score in SCORES])
            print(
                pair,
                method,
                alignment.step,
                alignment.known_class_weight,
                [round(report["aligned"][score], 3) for score in SCORES],
                flush=True,
            )
            if method == "CLIP" and pair == pairs[0]:
                probes(alignment, train, test, names)
    for row, values in found.items():
        mean, low = np.mean(values, 0), np.min(values, 0)
        cells = [f"{s} {100 * m:.1f} (least {100 * least:.1f})" for s, m, least in zip(SCORES, mean, low, strict=True)]
        print(f"{row}: {', '.join(cells)}")


def without(captioned, names):
    images, captions = captioned
    kept = [row for row, caption in enumerate(captions) if caption not in names]
    return images.select(kept), [captions[row] for row in kept]


def probes(alignment, train, test, names) -> None:
    """Linear probes of few images a class, with the class names as one shot more and without."""
    embeddings = alignment.embed_images(test[0])
    for shots in SHOTS:
        accuracies = []
        for draw in range(DRAWS):
            rng = np.random.default_rng(draw)
            of = np.array(train[1])
            chosen = [int(i) for name in names for i in rng.choice(np.flatnonzero(of == name), shots, replace=False)]
            rows, labels = names_as_shots(alignment, train[0].select(chosen), [train[1][i] for i in chosen], names)
            accuracies.append(
                [
                    float((LogisticRegression(C=100).fit(x, y).predict(embeddings) == np.array(test[1])).mean())
                    for x, y in ((rows[: len(chosen)], labels[: len(chosen)]), (rows, labels))
                ]
            )
        alone, named = np.mean(accuracies, 0)
        print(f"{shots} images a class: {100 * alone:.1f}, with the names {100 * named:.1f}", flush=True)


if __name__ == "__main__":
    main()
