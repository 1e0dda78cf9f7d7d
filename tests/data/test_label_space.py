"""Label sets are matched by name, never by position; a mismatch shows both sets."""

from __future__ import annotations

import math

import pytest
import runs
import tiny
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from hftransfer.data.label_space import LabelEncoder, LabelSpace
from hftransfer.data.label_space_resolution import resolve_label_space
from hftransfer.data.task_inference import infer_task

NAMES = ("down", "up", "flat")


def strings(*labels: str) -> Dataset:
    return Dataset.from_dict({"text": ["w1"] * len(labels), "label": list(labels)})


def classes(names, ids) -> Dataset:
    return Dataset.from_dict(
        {"text": ["w1"] * len(ids), "label": list(ids)},
        features=Features(text=Value("string"), label=ClassLabel(names=list(names))),
    )


def integers(*ids: int) -> Dataset:
    return Dataset.from_dict({"text": ["w1"] * len(ids), "label": list(ids)})


def encoded(space: LabelSpace, data: Dataset) -> list[str]:
    """Every row's label as the shared space names it."""
    names = getattr(data.features["label"], "names", None)
    encoder = LabelEncoder(space, names, "data")
    return [space.names[encoder(value, row)] for row, value in enumerate(data["label"])]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (classes(NAMES, [0, 1, 2]), classes(reversed(NAMES), [2, 1, 0])),
        (classes(NAMES, [0, 1, 2]), strings(*NAMES)),
        (strings("flat", "up", "down"), classes(("up", "flat", "down"), [1, 0, 2])),
        (strings(*NAMES), strings(*reversed(NAMES))),
        (integers(2, 0, 1), integers(0, 1, 2)),
    ],
)
def test_the_order_of_names_does_not_matter(first, second):
    space = resolve_label_space({"source": first, "eval": second}, "label")
    for data in (first, second):
        own = getattr(data.features["label"], "names", None)
        meant = [own[i] if own else str(i) for i in data["label"]]
        assert encoded(space, data) == meant


def test_bare_integers_index_into_declared_names():
    for sets in ({"more": classes(NAMES, [0])}, {}), ({}, {"eval": classes(NAMES, [0])}):
        space = resolve_label_space({"source": integers(0, 2, 1), **sets[0]}, "label", evaluation=sets[1])
        assert space.names == NAMES
        assert encoded(space, integers(0, 2, 1)) == ["down", "flat", "up"]
    space = resolve_label_space({"source": integers(0, 2, 2)}, "label", evaluation={"eval": classes(NAMES, [0])})
    assert space.names == ("down", "flat")  # what the source holds, and no more
    assert encoded(space, integers(2, 0)) == ["flat", "down"]


def test_a_set_that_was_only_observed_may_be_a_part():
    space = resolve_label_space({"source": strings(*NAMES), "eval": strings("up", "up")}, "label")
    assert set(space.names) == set(NAMES)
    space = resolve_label_space({"source": strings("up", "down"), "more": classes(NAMES, [0])}, "label")
    assert space.names == NAMES


def test_the_models_own_order_wins():
    space = resolve_label_space({"source": classes(NAMES, [0, 1])}, "label", model_names=("flat", "down", "up"))
    assert space.names == ("flat", "down", "up")
    assert encoded(space, classes(NAMES, [0, 1])) == ["down", "up"]


@pytest.mark.parametrize(
    "other",
    [
        strings("up", "sideways"),
        classes(("down", "up"), [0, 1]),
        classes((*NAMES, "gone"), [0, 1]),
        integers(0, 1, 2, 3),
    ],
)
def test_a_mismatch_shows_both_sets(other):
    with pytest.raises(ValueError, match="The label sets differ") as error:
        resolve_label_space({"source": classes(NAMES, [0, 1, 2]), "source 'b'": other}, "label")
    lines = str(error.value).splitlines()
    theirs = getattr(other.features["label"], "names", None) or sorted({str(v) for v in other["label"]})
    assert lines[1].strip() == "source: 'down', 'up', 'flat'"
    assert lines[2].strip() == "source 'b': " + ", ".join(map(repr, theirs))
    assert "rename or filter" in lines[3]


def test_names_that_come_later_are_matched_too():
    space = LabelSpace("sequence-classification", NAMES)
    encode = LabelEncoder(space, ("down", "sideways"), "test_dataset")
    assert encode(0, 0) == 0
    with pytest.raises(ValueError, match="test_dataset row 3: label 'sideways' is not one of 'down', 'up', 'flat'"):
        encode(1, 3)


@pytest.mark.parametrize("order", [NAMES, tuple(reversed(NAMES))])
def test_metrics_are_those_of_the_names(tmp_path, order):
    """A model that always says `up` has the accuracy of `up`, whatever the order of the evaluation set's names."""
    model = tiny.bert()
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([0.0, 9.0, 0.0])
    target = Dataset.from_dict(
        {"text": ["w1"] * 4, "label": [order.index("up")] * 3 + [order.index("flat")]},
        features=Features(text=Value("string"), label=ClassLabel(names=list(order))),
    )
    run = runs.trainer(tmp_path, model, eval_dataset={"target": target})
    assert run.evaluate()["eval_target_oracle_accuracy"] == 0.75


# ---- tasks


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ({"text": ["a"], "label": [1]}, "sequence-classification"),
        ({"text": ["a"], "label": ["up"]}, "sequence-classification"),
        ({"text": ["a", "b"], "label": [1.0, 0.0]}, "sequence-classification"),
        ({"text": ["a", "b"], "label": [1.0, 0.5]}, "regression"),
        ({"text": ["a"], "label": [["up"]]}, "multi-label-classification"),
        ({"tokens": [["a"]], "label": [["up"]]}, "token-classification"),
    ],
)
def test_the_task_is_read_off_the_labels(columns, task):
    assert infer_task(Dataset.from_dict(columns), "label", "tokens", "source") == task


def test_a_task_that_is_none_is_refused():
    with pytest.raises(ValueError, match="task='token_classification' is not one of.*Did you mean 'token-cla"):
        resolve_label_space({"source": integers(0, 1)}, "label", task="token_classification")


def test_regression_has_one_name_and_takes_finite_numbers():
    space = resolve_label_space({"source": Dataset.from_dict({"text": ["a"] * 2, "label": [1.5, 2.0]})}, "label")
    assert space == LabelSpace("regression", ("score",))
    encode = LabelEncoder(space, None, "source")
    assert encode(1.5, 0) == 1.5
    assert encode(2, 0) == encode(" 2.0", 0) == encode("2e0", 0) == 2.0
    for wrong in (math.nan, math.inf, "nan", "-inf", "2,0", "two", True):
        with pytest.raises(ValueError, match="source row 4: the label .* is no finite number"):
            encode(wrong, 4)


MULTI = LabelSpace("multi-label-classification", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("names", "value", "vector"),
    [
        (None, ["c", "a"], [1.0, 0.0, 1.0]),
        (None, [], [0.0, 0.0, 0.0]),
        (None, [0, 1, 1], [0.0, 1.0, 1.0]),
        (None, [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]),
        (("a", "b", "c"), [0, 1], [1.0, 1.0, 0.0]),
        (("c", "b", "a"), [0], [0.0, 0.0, 1.0]),
        (("a", "b", "c"), [0, 1, 0], [1.0, 1.0, 0.0]),  # ids, not a vector: the names are declared
    ],
)
def test_several_labels_are_names_ids_or_a_vector(names, value, vector):
    assert LabelEncoder(MULTI, names, "source")(value, 0) == vector


@pytest.mark.parametrize("value", [[0, 1], [2, 0, 1], [1, 1, 1, 1], [0.5, 0, 1]])
def test_integers_without_names_must_be_a_vector(value):
    with pytest.raises(ValueError, match="source row 3: the labels .* 0/1 vector over 3 labels.*`ClassLabel`"):
        LabelEncoder(MULTI, None, "source")(value, 3)


def test_the_width_of_vectors_names_the_labels():
    data = Dataset.from_dict({"text": ["a", "b"], "label": [[0, 1, 1], [1, 0, 0]]})
    assert resolve_label_space({"source": data}, "label").names == ("0", "1", "2")


@pytest.mark.parametrize(("task", "value"), [("sequence-classification", [1]), ("multi-label-classification", "a")])
def test_a_label_that_does_not_fit_the_task_is_refused(task, value):
    with pytest.raises(ValueError, match=f"source row 2: the label .* does not fit {task}; is `task` right"):
        LabelEncoder(LabelSpace(task, ("a", "b")), None, "source")(value, 2)


def task_domain(task: str) -> tuple[Dataset, torch.nn.Module]:
    """A labelled domain and a model for a task."""
    if task == "token-classification":
        return tiny.tagged(), tiny.bert(tiny.TAGS, tagging=True)
    texts = tiny.domain()["text"]
    if task == "regression":
        scores = [len(text.split()) / 4 for text in texts]
        return Dataset.from_dict({"text": texts, "label": scores}), tiny.bert(("LABEL_0",), num_labels=1)
    if task == "multi-label-classification":
        features = Features(text=Value("string"), label=List(ClassLabel(names=["a", "b", "c"])))
        columns = {"text": texts, "label": [sorted({i % 3, (i // 3) % 3}) for i in range(len(texts))]}
        return Dataset.from_dict(columns, features=features), tiny.bert(("a", "b", "c"))
    return tiny.domain(), tiny.bert()


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("sequence-classification", "accuracy"),
        ("token-classification", "macro_f1"),
        ("multi-label-classification", "micro_f1"),
        ("regression", "mse"),
    ],
)
def test_every_task_learns(tmp_path, task, metric):
    """The task loss falls and both domains are evaluated, the target's by an oracle's name."""
    data, model = task_domain(task)
    target = data.remove_columns("label")
    run = runs.trainer(
        tmp_path,
        model,
        train_dataset=data,
        target_dataset=target,
        eval_dataset={"source": data, "target": data},
        max_steps=60,
        learning_rate=3e-3,
        per_device_train_batch_size=8,
        objectives={"mmd": 0.01},
    )
    assert run.label_space.task == task
    run.train()
    losses = runs.logged(run, "task_loss")
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    metrics = run.evaluate()
    assert metrics[f"eval_source_{metric}"] == metrics[f"eval_target_oracle_{metric}"]
    assert f"eval_target_{metric}" not in metrics
