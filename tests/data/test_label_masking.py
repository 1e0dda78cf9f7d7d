"""The door: no target label reaches a training batch unless it was revealed on purpose."""

from __future__ import annotations

import math

import pytest
import runs
import tiny
import torch
from datasets import Dataset

from hftransfer import reveal_labels
from hftransfer.data.label_masking import REVEALED, mask_target_labels
from hftransfer.ignored_label import IGNORE

TEXTS = tiny.domain(seed=1)["text"]
PRESENT = {
    "as they are": tiny.domain(seed=1),
    "of other names": tiny.domain(seed=1, labels=("a", "b", "c")),
    "garbage": Dataset.from_dict({"text": TEXTS, "label": ["?!"] * len(TEXTS)}),
    "lists": Dataset.from_dict({"text": TEXTS, "label": [[1, 2]] * len(TEXTS)}),
    "none": Dataset.from_dict({"text": TEXTS, "label": [None] * len(TEXTS)}),
    "a stream": tiny.domain(seed=1).to_iterable_dataset(),
    "a stream of unknown columns": Dataset.from_dict({"text": TEXTS, "label": [7] * len(TEXTS)})
    .to_iterable_dataset()
    .map(lambda row: row),
}


def training_batches(run) -> list[dict]:
    loader = iter(run.get_train_dataloader())
    return [next(loader) for _ in range(3)]


@pytest.mark.parametrize("present", PRESENT)
def test_target_labels_never_reach_a_training_batch(tmp_path, present):
    run = runs.trainer(tmp_path, target_dataset=PRESENT[present])
    for batch in training_batches(run):
        target = batch["domain"] == -1
        assert target.sum() == 4
        assert (batch["labels"][target] == IGNORE).all()
        assert (batch["labels"][~target] >= 0).all()
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels", "domain", "num_source"}


@pytest.mark.parametrize("present", ["as they are", "garbage", "none"])
def test_a_run_is_the_same_with_and_without_them(tmp_path, present):
    weights = []
    for target in (PRESENT[present], PRESENT[present].remove_columns("label")):
        run = runs.trainer(tmp_path, tiny.bert(), target_dataset=target, objectives={"cdan": 0.1, "supcon": 0.1})
        run.train()
        weights.append(runs.copied(run.model))
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_float_and_word_labels_are_masked_too(tmp_path):
    scores = Dataset.from_dict({"text": TEXTS, "label": [i / 7 for i in range(len(TEXTS))]})
    model = tiny.bert(("LABEL_0",), num_labels=1)
    (batch, *_) = training_batches(
        runs.trainer(tmp_path, model, train_dataset=scores, target_dataset=scores.select(range(9)))
    )
    assert torch.isnan(batch["labels"]).tolist() == [False] * 4 + [True] * 4
    tags = tiny.tagged()
    run = runs.trainer(
        tmp_path, tiny.bert(tiny.TAGS, tagging=True), train_dataset=tags, target_dataset=tiny.tagged(seed=1)
    )
    (batch, *_) = training_batches(run)
    assert (batch["labels"][4:] == IGNORE).all()
    assert (batch["labels"][:4] >= 0).any(1).all()


def test_masking_drops_the_column_and_nothing_else():
    data = tiny.domain()
    assert mask_target_labels(data, "label").column_names == ["text"]
    assert mask_target_labels(data, "other").column_names == ["text", "label"]


# ---- few-shot


def test_labels_are_revealed_by_class_and_by_row():
    data = tiny.domain()
    shown = reveal_labels(data, per_class=2, seed=3)
    known = [v for v in shown[REVEALED] if v is not None]
    assert sorted(known) == [0, 0, 1, 1, 2, 2]
    assert shown[REVEALED] == reveal_labels(data, per_class=2, seed=3)[REVEALED]
    assert shown[REVEALED] != reveal_labels(data, per_class=2, seed=4)[REVEALED]
    shown = reveal_labels(data, indices=[0, 7])
    assert [i for i, v in enumerate(shown[REVEALED]) if v is not None] == [0, 7]
    assert [shown[REVEALED][i] for i in (0, 7)] == [data["label"][i] for i in (0, 7)]


def revealed_in(batch: dict) -> int:
    return int((batch["labels"][batch["domain"] == -1] != IGNORE).sum())


def test_revealed_labels_reach_training_by_name(tmp_path):
    """By the config or by `reveal_labels`, and in the source's order of names whatever the target's is."""
    swapped = tiny.domain(9, seed=1, labels=tuple(reversed(tiny.LABELS)))
    for target, settings in ((reveal_labels(swapped, indices=range(9)), {}), (swapped, {"reveal_target_labels": 3})):
        run = runs.trainer(tmp_path, target_dataset=target, **settings)
        rows = run.train_dataset.domain_rows[1]
        said = [tiny.tokenizer().convert_ids_to_tokens(row["input_ids"])[-2] for row in rows]
        assert [tiny.LABELS[row["labels"]] for row in rows] == said  # each text ends with the word of its label
        assert revealed_in(training_batches(run)[0]) == 4


def test_only_as_many_as_were_asked_for_are_revealed(tmp_path):
    run = runs.trainer(tmp_path, target_dataset=tiny.domain(24, seed=1), reveal_target_labels=2)
    labels = run.train_dataset.domain_rows[1]["labels"]
    assert sum(y != IGNORE for y in labels) == 6


def test_a_few_scores_and_tags_can_be_revealed(tmp_path):
    scores = Dataset.from_dict({"text": TEXTS, "label": [i / 7 for i in range(len(TEXTS))]})
    few = reveal_labels(scores, indices=[1, 2])
    run = runs.trainer(tmp_path, tiny.bert(("LABEL_0",), num_labels=1), train_dataset=scores, target_dataset=few)
    labels = run.train_dataset.domain_rows[1]["labels"]
    assert [i for i, y in enumerate(labels) if not math.isnan(y)] == [1, 2]
    tags = reveal_labels(tiny.tagged(seed=1), indices=[5])
    run = runs.trainer(tmp_path, tiny.bert(tiny.TAGS, tagging=True), train_dataset=tiny.tagged(), target_dataset=tags)
    labels = run.train_dataset.domain_rows[1]["labels"]
    assert [i for i, row in enumerate(labels) if set(row) != {IGNORE}] == [5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of per_class and indices"),
        ({"per_class": 1, "indices": [0]}, "exactly one of per_class and indices"),
        ({"per_class": 0}, "per_class=0 must be at least 1"),
        ({"per_class": 9}, "class 'down' of target_dataset has 8 rows, fewer than 9"),
        ({"indices": [0, 24]}, "row 24 is outside 0 … 23"),
        ({"per_class": 1, "label_column": "lable"}, "no column 'lable'.*Did you mean 'label'"),
    ],
)
def test_what_cannot_be_revealed_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reveal_labels(tiny.domain(), **arguments)


def test_a_rare_class_is_named_as_the_column_names_it():
    """A number is a declared class's where there is one, and itself where there is none; a text is itself."""
    texts = [f"t{i}" for i in range(5)]
    for labels, name in (([0, 0, 0, 7, 0], "7"), (["up", "up", "up", "rare", "up"], "rare")):
        with pytest.raises(ValueError, match=f"class '{name}' of target_dataset has 1 rows, fewer than 2"):
            reveal_labels(Dataset.from_dict({"text": texts, "label": labels}), per_class=2)
