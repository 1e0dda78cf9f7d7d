"""Small data sets for the tests of this folder."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tiny
from datasets import ClassLabel, Dataset, Sequence


def encoded(task: str, rows: int, seed: int, labelled: bool = True) -> list[dict[str, Any]]:
    """Encoded training rows of one domain, of different lengths, as a `PairedDataset` hands them to the collator.

    Rows of the target have soft labels, which only the objective of that name reads.
    """
    draw, soft_draw = random.Random(seed), np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        words = draw.randint(1, 11)
        ids = [2, *(draw.randrange(5, 48) for _ in range(words)), 3]
        row = {"input_ids": ids, "attention_mask": [1] * len(ids), "domain": 0 if labelled else -1}
        known = [draw.randrange(3) if labelled else -100 for _ in range(words)]
        if task == "token":
            row |= {"labels": [-100, *known, -100], "word_mask": [0, *[1] * words, 0]}
        else:
            row |= {"labels": known[0]}
        if not labelled:
            soft = soft_draw.dirichlet([1.0] * 3, size=len(ids)).astype(np.float32)
            row["soft_labels"] = soft * np.array(row["word_mask"])[:, None] if task == "token" else soft[0]
        out.append(row)
    return out


def tagging(rows: int = 24, seed: int = 0, labelled: bool = True) -> Dataset:
    """Sentences of one to eleven words, each with a tag that depends on the word."""
    draw = random.Random(seed)
    tokens = [draw.choices(tiny.WORDS, k=draw.randint(1, 11)) for _ in range(rows)]
    columns: dict[str, list] = {"tokens": tokens}
    if labelled:
        columns["label"] = [[int(word[1:]) % 3 for word in words] for words in tokens]
    data = Dataset.from_dict(columns)
    return data.cast_column("label", Sequence(ClassLabel(names=list(tiny.LABELS)))) if labelled else data
