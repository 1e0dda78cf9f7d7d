"""Sample corpus: short news items and short medical notes, with one question asked of both.

Does the text report an improvement, a worsening, or no change? The news are labelled; of the medical notes only
validation and test are, as in real life. Written for this project, all places, firms, people and patients invented;
CC0 1.0.
"""

from __future__ import annotations

import json
from importlib import resources

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

LABELS = ("improvement", "worsening", "no change")
SPLITS = (
    "news_train",
    "news_validation",
    "news_test",
    "medical_train",
    "medical_validation",
    "medical_test",
)


def load_sample_corpus() -> DatasetDict:
    """Sample corpus as a `DatasetDict`, with the columns `text` and `label`.

    Its splits are `news_train`, `news_validation`, `news_test`, `medical_train` (no labels), `medical_validation` and
    `medical_test`.

    Example:
        >>> load_sample_corpus()["medical_train"]
        Dataset({
            features: ['text'],
            num_rows: 870
        })
    """
    return DatasetDict({split: _read(split) for split in SPLITS})


def _read(split: str) -> Dataset:
    path = resources.files("hftransfer.data").joinpath(f"corpus/{split}.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    columns = {"text": [row["text"] for row in rows]}
    features = {"text": Value("string")}
    if "label" in rows[0]:
        columns["label"] = [row["label"] for row in rows]
        features["label"] = ClassLabel(names=list(LABELS))
    return Dataset.from_dict(columns, features=Features(features))
