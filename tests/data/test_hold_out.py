"""The hold-out: a validation split with each class in its share, and no class lost from train."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import tiny
from datasets import ClassLabel, Dataset

from hftransfer.data.hold_out import choose_rows, hold_out
from hftransfer.data.row_origins import ORIGIN


def table(labels, **columns) -> dict:
    labels = list(labels)
    return {"train": Dataset.from_dict({"text": [f"w{i}" for i in range(len(labels))], "label": labels, **columns})}


def test_a_domain_without_validation_gets_one_that_is_not_trained_on():
    data = tiny.domain(40)
    splits = hold_out({"train": data}, 0.25, seed=1)
    assert (len(splits["train"]), len(splits["validation"])) == (30, 10)
    assert sorted([*splits["train"]["text"], *splits["validation"]["text"]]) == sorted(data["text"])
    assert splits["validation"]["text"] == hold_out({"train": data}, 0.25, seed=1)["validation"]["text"]
    assert splits["validation"]["text"] != hold_out({"train": data}, 0.25, seed=2)["validation"]["text"]


def test_a_domain_with_validation_stays_as_it_is():
    given = {"train": tiny.domain(4), "validation": tiny.domain(2)}
    assert hold_out(given, 0.5, seed=1) is given
    assert set(hold_out({"train": tiny.domain(4)}, 0, seed=1)) == {"train"}
    assert len(hold_out({"train": tiny.domain(2)}, 0.001, seed=1)["validation"]) == 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 7])
def test_a_fraction_is_between_0_and_1(fraction):
    with pytest.raises(ValueError, match=f"validation_fraction={fraction} must be between 0 and 1"):
        hold_out({"train": tiny.domain(9)}, fraction, seed=1)


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.1), (2, 0.9)])
def test_a_train_split_is_never_cut_to_nothing(rows, fraction):
    data = Dataset.from_dict({"text": ["w1"] * rows, "label": [0] * rows})
    with pytest.raises(ValueError, match=f"train split of {rows} row.s. cannot be cut .* set validation_fraction"):
        hold_out({"train": data}, fraction, seed=1)


@pytest.mark.parametrize(("rows", "classes"), [(200, 30), (1000, 150), (200, 99), (40, 19)])
@pytest.mark.parametrize("named", [True, False])
def test_every_class_stays_in_train(rows, classes, named):
    for seed in range(20):
        draw = np.random.default_rng(seed)
        ids = [*range(classes), *(classes * draw.random(rows - classes) ** 3).astype(int)]
        labels = [f"c{i}" for i in ids] if named else [int(i) for i in ids]
        cut = hold_out(table(labels), 0.1, seed)
        assert len(cut["validation"]) == round(0.1 * rows)
        assert set(cut["train"]["label"]) == set(labels)
        assert Counter(cut["train"]["label"]) + Counter(cut["validation"]["label"]) == Counter(labels)


def test_each_class_gives_its_share():
    cut = hold_out(table(["up"] * 600 + ["down"] * 300 + ["flat"] * 100), 0.1, 3)
    assert Counter(cut["validation"]["label"]) == {"up": 60, "down": 30, "flat": 10}


def test_two_classes_never_come_out_as_one():
    for seed in range(50):
        cut = hold_out(table(["up"] * 18 + ["down"] * 2), 0.5, seed)
        assert set(cut["train"]["label"]) == {"up", "down"}
        assert set(cut["validation"]["label"]) == {"up", "down"}


def test_a_class_with_one_row_stays_in_train():
    for seed in range(20):
        cut = hold_out(table(["up", "up", "down"]), 0.3, seed)
        assert (sorted(cut["train"]["label"]), cut["validation"]["label"][:]) == (["down", "up"], ["up"])


def test_where_classes_would_be_lost_fewer_rows_are_held_out():
    cut = hold_out(table(["a"] * 3 + ["b"] * 2 + ["c"]), 0.8, 1)
    assert Counter(cut["train"]["label"]) == {"a": 1, "b": 1, "c": 1}
    assert len(cut["validation"]) == 3


@pytest.mark.parametrize(
    "labels",
    [
        [i / 7 for i in range(50)],
        [str(i / 7) for i in range(50)],
        [[i % 2, i % 3] for i in range(50)],
        [f"['a', 'b{i % 5}']" for i in range(50)],
        [1000 + i % 40 for i in range(50)],
        [f"id{i}" for i in range(50)],
        [[i % 2] * (i % 4) for i in range(50)],
        [None] * 50,
    ],
)
def test_scores_and_lists_are_cut_at_random(labels):
    """As rows without labels are: the same rows, whatever the labels are."""
    plain = hold_out({"train": table(labels)["train"].remove_columns("label")}, 0.2, 5)["validation"]["text"][:]
    assert hold_out(table(labels), 0.2, 5)["validation"]["text"][:] == plain


def test_scores_that_are_few_are_still_no_classes():
    labels = [0.5, *[1.5] * 9]
    assert "w0" in {hold_out(table(labels), 0.1, seed)["validation"]["text"][0] for seed in range(60)}


def test_declared_classes_and_another_column():
    data = table([0, 0, 0, 0, 1, 1])["train"].cast_column("label", ClassLabel(names=["up", "down"]))
    cut = hold_out({"train": data}, 0.34, 1)
    assert Counter(cut["validation"]["label"]) == {0: 1, 1: 1}
    cut = hold_out({"train": data.rename_column("label", "kind")}, 0.34, 1, "kind")
    assert Counter(cut["validation"]["kind"]) == {0: 1, 1: 1}
    assert cut["train"].features["kind"].names == ["up", "down"]


def test_the_same_label_in_two_forms_is_one_class():
    for seed in range(20):
        cut = hold_out(table(["up", "up ", "down", "down ", " down"]), 0.2, seed)
        assert {label.strip() for label in cut["train"]["label"]} == {"up", "down"}


def test_rows_keep_the_names_of_before_the_cut():
    cut = hold_out(table(["up", "down"] * 20), 0.25, 1)
    for part in cut.values():
        assert [f"w{name}" for name in part[ORIGIN]] == part["text"][:]
    named = table(["up", "down"] * 4, **{ORIGIN: [f"{i} (a.csv line {i + 2})" for i in range(8)]})
    cut = hold_out(named, 0.25, 1)
    for part in cut.values():
        assert [name.split()[0] for name in part[ORIGIN]] == [text[1:] for text in part["text"]]


def test_no_row_is_drawn_twice_or_lost():
    rng = np.random.default_rng(0)
    for seed in range(30):
        classes = rng.integers(0, rng.integers(1, 12), rng.integers(12, 80))
        classes = np.unique(classes, return_inverse=True)[1]
        size = int(rng.integers(1, len(classes)))
        chosen = choose_rows(classes, size, seed)
        assert len(set(chosen)) == chosen.size == min(size, len(classes) - len(set(classes)))
        assert set(np.delete(classes, chosen)) == set(classes)


@pytest.mark.parametrize("kind", ["lists", "JSON", "Python", "tags"])
def test_each_label_of_a_list_stays_in_train(kind):
    labels = [["up", "new"] if i % 3 else ["down"] for i in range(40)] + [[f"rare{i}", "up"] for i in range(8)]
    write = {"JSON": json.dumps, "Python": str}.get(kind, lambda value: value)
    data = table([write(value) for value in labels])
    fewer = 0
    for seed in range(20):
        cut = hold_out(data, 0.3, seed)
        read = [json.loads(v.replace("'", '"')) if isinstance(v, str) else v for v in cut["train"]["label"]]
        assert {name for value in read for name in value} == {name for value in labels for name in value}
        assert len(cut["train"]) + len(cut["validation"]) == 48
        fewer += len(cut["validation"]) < round(48 * 0.3)
    assert fewer > 10  # rows with a rare label were drawn and given back


@pytest.mark.parametrize("labels", [["up", "down"], [["a"], ["b"], ["c"]], ["['a']", "['b']", "['c']"]])
def test_rows_that_are_the_only_ones_of_their_label_are_not_held_out(labels):
    with pytest.raises(ValueError, match="each has a label in 'label' that no other row has. Add rows, or set"):
        hold_out(table(labels), 0.3, 1)


def test_rows_that_are_not_free_stay_in_train():
    data = table(["up", "down"] * 20 + ["flat"] * 4)
    for seed in range(20):
        free = np.array([*range(0, 30), 41])
        cut = hold_out(data, 0.2, seed, free_rows=free)
        assert {int(text[1:]) for text in cut["validation"]["text"]} <= set(free.tolist()) - {41}
        assert len(cut["validation"]) == 9
    few = np.arange(5)
    assert hold_out(data, 0.2, 1, free_rows=few)["validation"]["text"] == hold_out(data, 0.2, 1)["validation"]["text"]
