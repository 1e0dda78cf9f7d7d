"""Collation: rows of both domains become one padded batch that says which row is what."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.text_encoder import TextEncoder
from hftransfer.ignored_label import IGNORE

CLASSES = LabelSpace("sequence-classification", tiny.LABELS)
TAGGING = LabelSpace("token-classification", tiny.TAGS)


def row(length: int, **more) -> dict:
    """An encoded row of that many tokens."""
    return {"input_ids": [7] * length, "attention_mask": [1] * length, "length": length, **more}


def collator(space=CLASSES, **kwargs) -> AdaptationCollator:
    return AdaptationCollator(TextEncoder(tiny.tokenizer(), space, **kwargs), space)


def test_a_training_batch_is_padded_to_its_longest_row_and_says_whose_row_is_whose():
    batch = collator()([row(3, labels=2, domain=0), row(5, labels=0, domain=1), row(4, domain=-1), row(2, domain=-1)])
    assert batch["input_ids"].shape == (4, 5)
    assert batch["attention_mask"].sum(1).tolist() == [3, 5, 4, 2]
    assert batch["domain"].tolist() == [0, 1, -1, -1]
    assert batch["num_source"] == 2
    assert batch["labels"].tolist() == [2, 0, IGNORE, IGNORE]
    assert "length" not in batch


@pytest.mark.parametrize(("side", "spans"), [("right", [(0, 3), (0, 5)]), ("left", [(2, 5), (0, 5)])])
def test_by_domain_a_batch_says_which_positions_each_half_uses(side, spans):
    tokenizer = tiny.tokenizer()
    tokenizer.padding_side = side
    by_domain = AdaptationCollator(TextEncoder(tokenizer, CLASSES), CLASSES, by_domain=True)
    rows = [row(3, labels=2, domain=0), row(2, labels=0, domain=0), row(4, domain=-1), row(5, domain=-1)]
    assert by_domain(rows)["spans"] == spans
    assert "spans" not in by_domain(rows[:2])  # one domain is as wide as its batch
    assert "spans" not in by_domain([row(3, labels=2)])
    assert "spans" not in collator()(rows)


def test_an_evaluation_batch_has_no_domain():
    batch = collator()([row(3, labels=2), row(5, labels=0)])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert "labels" not in collator()([row(3), row(5)])


def test_a_stream_of_pairs_is_stacked_source_first():
    pairs = [
        {"pair": (row(2, labels=1, domain=0), [row(6, domain=-1)])},
        {"pair": (row(3, labels=0, domain=0), [row(4, domain=-1), row(5, domain=-1)])},
    ]
    batch = collator()(pairs)
    assert batch["attention_mask"].sum(1).tolist() == [2, 3, 6, 4, 5]
    assert batch["domain"].tolist() == [0, 0, -1, -1, -1]
    assert batch["labels"].tolist() == [1, 0, IGNORE, IGNORE, IGNORE]


def test_a_revealed_label_stays_and_the_others_are_missing():
    rows = [row(3, labels=2, domain=0), row(3, labels=1, domain=-1), row(3, labels=None, domain=-1)]
    assert collator()(rows)["labels"].tolist() == [2, 1, IGNORE]


@pytest.mark.parametrize("side", ["right", "left"])
def test_word_labels_are_padded_on_the_side_of_the_words(side):
    collate = collator(TAGGING)
    collate.encoder.processing_class.padding_side = side
    rows = [row(3, labels=[IGNORE, 1, IGNORE], word_mask=[0, 1, 0], domain=0)]
    rows.append(row(5, word_mask=[0, 1, 1, 1, 0], domain=-1))
    batch = collate(rows)
    fill = [IGNORE] * 2
    first = [IGNORE, 1, IGNORE]
    assert batch["labels"].tolist() == [first + fill if side == "right" else fill + first, [IGNORE] * 5]
    assert batch["word_mask"].sum(1).tolist() == [1, 3]
    assert torch.equal(batch["word_mask"] * (1 - batch["attention_mask"]), torch.zeros(2, 5, dtype=torch.long))


@pytest.mark.parametrize(
    ("space", "label", "shape"),
    [
        (LabelSpace("regression", ("score",)), 2.5, (3,)),
        (LabelSpace("multi-label-classification", ("a", "b")), [0.0, 1.0], (3, 2)),
    ],
)
def test_float_tasks_mark_missing_labels_with_nan(space, label, shape):
    missing = [math.nan] * 2 if shape == (3, 2) else math.nan
    rows = [row(3, labels=label, domain=0), row(3, domain=-1), row(3, labels=missing, domain=-1)]
    labels = collator(space)(rows)["labels"]
    assert labels.shape == shape
    assert labels.dtype == torch.float32
    assert torch.equal(labels[0], torch.tensor(label))
    assert torch.isnan(labels[1:]).all()


def test_widths_are_rounded_up_for_tensor_cores():
    batch = collator(pad_to_multiple_of=8)([row(3, labels=1, domain=0), row(5, domain=-1)])
    assert batch["input_ids"].shape == (2, 8)


def test_rows_are_left_as_they_were():
    rows = [row(3, labels=1, domain=0), row(2, domain=-1)]
    before = [dict(r) for r in rows]
    collator()(rows)
    assert rows == before
