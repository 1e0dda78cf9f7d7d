"""Bad publications of statistics: what is passed instead of something right, the exception, culprit and remedy."""

from __future__ import annotations

import pictures
import tiny
from datasets import Dataset

TEXTS = ["w1 w2", "w3", "w4 up w5"]
NOISE = {"noise_multiplier": 1.0, "delta": 1e-5}
PUBLICATIONS = {
    "an unknown kind": ({"statistics": "moment"}, ValueError, "statistics='moment'", "Did you mean 'moments'?"),
    "no kind": ({"statistics": ()}, ValueError, "statistics=()", "one or several of"),
    "a kind twice": ({"statistics": ["moments", "moments"]}, ValueError, "none twice", "one or several of"),
    "a clipping norm of 0": ({"clip_norm": 0}, ValueError, "clip_norm=0", "must be positive"),
    "noise without a clipping norm": (NOISE, ValueError, "Noise needs clip_norm", "Choose it on public rows"),
    "epsilon without delta": ({"epsilon": 1.0}, ValueError, "epsilon needs delta", "below one over the rows"),
    "delta alone": ({"delta": 1e-5}, ValueError, "delta=1e-05 has no effect alone", "give epsilon"),
    "a delta of 1": ({"epsilon": 1.0, "delta": 1.0}, ValueError, "delta=1.0", "one over the number of rows"),
    "epsilon and a multiplier": (
        {**NOISE, "epsilon": 1.0}, ValueError, "epsilon and noise_multiplier", "give one of them",
    ),
    "a negative multiplier": (
        {"noise_multiplier": -1.0, "delta": 1e-5}, ValueError, "noise_multiplier=-1.0", "at least 0.2",
    ),
    "a multiplier whose accounting fills the memory": (
        {"noise_multiplier": 1e-6, "delta": 1e-5}, ValueError, "noise_multiplier=1e-06", "publish without noise",
    ),
    "an epsilon that promises nothing": (
        {"epsilon": 1e6, "delta": 1e-5}, ValueError, "epsilon=1000000.0", "publish without noise",
    ),
    "a delta below what is accounted for": (
        {"epsilon": 1.0, "delta": 1e-300}, ValueError, "delta=1e-300 must be at least 1e-15", "number of rows",
    ),
    "a seed of no noise": ({"noise_seed": 3}, ValueError, "noise_seed=3 has no effect", "give epsilon and delta"),
    "a bandwidth of nothing": ({"bandwidth": 2.0}, ValueError, "bandwidth=2 has no effect", "random_features"),
    "a bandwidth that noise does not cover": (
        {**NOISE, "clip_norm": 1.0, "statistics": "random_features"}, ValueError, "needs bandwidth",
        "or moments beside them",
    ),
    "fewer frequencies than kernels": (
        {"statistics": "random_features", "frequencies": 3}, ValueError, "frequencies=3", "at least kernels=5",
    ),
    "one row": ({"rows": TEXTS[:1]}, ValueError, "1 row(s) have no statistics", "two or more"),
    "prototypes of texts alone": (
        {"statistics": "prototypes"}, ValueError, "no column 'label'", "as label_column",
    ),
    "labels that nobody declares": (
        {"statistics": "prototypes", "rows": Dataset.from_dict({"text": TEXTS, "label": ["a", "b", "a"]}),
         "model": lambda: tiny.bert(("LABEL_0", "LABEL_1", "LABEL_2"))},
        ValueError, "prototypes need class names", "ClassLabel",
    ),
    "a label that is no class": (
        {"statistics": "prototypes", "rows": Dataset.from_dict({"text": TEXTS, "label": ["up", "down", "left"]})},
        ValueError, "rows row 2: the label 'left'", "Name all classes",
    ),
    "lists of words": ({"rows": [["w1", "w2"], ["w3"]]}, ValueError, "lists of words", "pass texts"),
    "images for a model of texts": (
        {"rows": [pictures.pictures(1)[0]["image"]] * 2},
        ValueError, "hold images, and text is read here", "Give other rows, or another model",
    ),
}  # fmt: skip
