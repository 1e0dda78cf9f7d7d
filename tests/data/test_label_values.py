"""The classes are the values that occur, named as they are written, whatever type they come in."""

from __future__ import annotations

import logging

import pytest
from bad_labels import CASES
from datasets import ClassLabel, Dataset, Features, List, Value

from hftransfer.data.label_masking import reveal_labels
from hftransfer.data.label_space import LabelEncoder
from hftransfer.data.label_space_resolution import resolve_label_space
from hftransfer.data.label_values import label_key, label_name, literal_list, recurring_separator
from hftransfer.data.row_origins import ORIGIN

MULTI, ONE, SCORE = "multi-label-classification", "sequence-classification", "regression"


def rows(labels, **more) -> Dataset:
    return Dataset.from_dict({"text": ["w1"] * len(labels), "label": labels, **more})


def space(labels, evaluation=None, **settings):
    """The label space of a source with these labels."""
    tests = None if evaluation is None else {"eval_dataset['target']": rows(evaluation)}
    return resolve_label_space({"source": rows(labels)}, "label", evaluation=tests, **settings)


def encoded(labels, source=None, **settings) -> list:
    """Labels as the space of `source`, or of themselves, encodes them."""
    found = space(labels if source is None else source, **settings)
    values = list(rows(labels)["label"])
    return LabelEncoder(found, None, "data").encode_rows(values, range(len(values)))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3, 4, 5], ("1", "2", "3", "4", "5")),
        ([2, 0, 1], ("0", "1", "2")),
        (["0", "2", "10"], ("0", "2", "10")),
        (["010", "001", "002"], ("001", "002", "010")),
        (["001", "1", "01"], ("001", "01", "1")),
        (["80331", "10115", "01067"], ("01067", "10115", "80331")),
        ([9876543210, 1234567890], ("1234567890", "9876543210")),
        ([True, False], ("False", "True")),
        (["true", "FALSE"], ("FALSE", "true")),
        ([10.0, 20.0], ("10", "20")),
        (["10.0", "20.0"], ("10.0", "20.0")),
        ([-1, 1], ("-1", "1")),
        (["None", "NA", "null", "nan"], ("NA", "None", "nan", "null")),
        (["up", "up ", "\tup", "down"], ("down", "up")),
        (["up", "Up", "up", "down"], ("Up", "down", "up")),
        (["1", "2", "unsure"], ("1", "2", "unsure")),
        (["[laughter]", "[pause]"], ("[laughter]", "[pause]")),
        (["Albany, NY", "Boston, MA", "Food, drink"], ("Albany, NY", "Boston, MA", "Food, drink")),
    ],
)
def test_the_classes_are_the_values_that_occur(labels, names):
    found = space(labels * 3)
    assert (found.task, set(found.names)) == (ONE, set(names))
    assert [label_key(n) for n in found.names if n.isdigit()] == sorted(
        (label_key(n) for n in names if n.isdigit()), key=int
    )
    ids = encoded(labels)
    assert [found.names[i].strip() for i in ids] == [
        label_name(v) if label_name(v) in names else str(v) for v in labels
    ]


@pytest.mark.parametrize("size", [30, 3_000, 10_500])
def test_one_text_among_numbers_is_a_name_at_every_size_and_is_pointed_out(size, caplog):
    origins = [f"{i} (news.jsonl line {i + 1})" for i in range(size + 1)]
    labels = [str(i % 3) for i in range(size)] + ["unsure"]
    with caplog.at_level(logging.WARNING):
        found = resolve_label_space({"source": rows(labels, **{ORIGIN: origins})}, "label")
    assert found.names == ("0", "1", "2", "unsure")
    assert f"source row {size} (news.jsonl line {size + 1}): 'label' is 'unsure' there" in caplog.text


@pytest.mark.parametrize("other", [[1, 2], ["1", "2"], [1.0, 2.0], ["1.0", "+2"], [" 1 ", "2"]])
@pytest.mark.parametrize("source", [[1, 2], ["1", "2"], [2.0, 1.0]])
def test_numbers_and_the_same_numbers_as_text_are_equal_names(source, other):
    found = space(source * 2, other)
    assert found.names == ("1", "2")
    assert encoded(other, source * 2) == [0, 1]


def test_names_of_a_model_that_are_numbers_are_names_and_no_places():
    names = ("1", "2", "3")
    assert encoded([1, 3, 2] * 2, model_names=names)[:3] == [0, 2, 1]
    assert encoded(["bad", "good"] * 2, model_names=("good", "bad"))[:2] == [1, 0]
    assert encoded(["0", "1"] * 2, model_names=("good", "bad"))[:2] == [0, 1]  # bare integers count off other names
    with pytest.raises(ValueError, match="The label sets differ"):
        space([0, 1, 2], model_names=names)


@pytest.mark.parametrize(
    ("labels", "task", "values"),
    [
        (["3.5", "4.25"], SCORE, [3.5, 4.25]),
        (["3.5", " -4 ", "1e-3"], SCORE, [3.5, -4.0, 0.001]),
        ([3.5, 4.0], SCORE, [3.5, 4.0]),
        (["['up', 'new']", "['up']", "[]"], MULTI, [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]),
        (['["up", "new"]', '["up "]'], MULTI, [[1.0, 1.0], [0.0, 1.0]]),
        (["[0, 2]", "[10]"], MULTI, [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (["('a', 'b')", "{'b'}"], MULTI, [[1.0, 1.0], [0.0, 1.0]]),
        ([[0], [1]], MULTI, [[1.0, 0.0], [0.0, 1.0]]),
        ([[0, 7], [7]], MULTI, [[1.0, 1.0], [0.0, 1.0]]),
        ([[0, 1, 1], [1, 0, 0]], MULTI, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]),
        ([[True, False], [True, True]], MULTI, [[1.0, 0.0], [1.0, 1.0]]),
        (["[0, 1]", "[1, 0]"], MULTI, [[0.0, 1.0], [1.0, 0.0]]),
        ([["up ", "new"], ["up"]], MULTI, [[1.0, 1.0], [0.0, 1.0]]),
    ],
)
def test_numbers_and_lists_are_read_as_such(labels, task, values):
    assert space(labels * 3).task == task
    assert encoded(labels * 3)[: len(labels)] == values


def test_whole_numbers_are_amounts_when_it_is_said():
    assert encoded(["1", "2", "10"], task=SCORE) == [1.0, 2.0, 10.0]
    assert space(list(range(30)), task=SCORE).names == ("score",)


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_a_separator_is_asked_about_and_both_answers_are_taken(separator):
    labels = [separator.join(("up", "new")), "up", f"new{separator} down", "down"] * 2
    with pytest.raises(ValueError, match="one class or several") as asked:
        space(labels)
    assert f"`label_separator: {separator!r}`" in str(asked.value)
    assert "`task: sequence-classification`" in str(asked.value)
    assert space(labels, separator=separator).names == ("down", "new", "up")
    assert encoded(labels, separator=separator)[2] == [1.0, 1.0, 0.0]
    assert len(space(labels, task=ONE).names) == 4


def test_cases_are_merged_when_it_is_said(caplog):
    labels = ["up", "up ", "Up", "down", "up"]
    with caplog.at_level(logging.WARNING):
        assert space(labels).names == ("Up", "down", "up")
    assert "'Up' and 'up'" in caplog.text
    assert "`merge_label_case`" in caplog.text
    assert space(labels, ["UP", "Down"], merge_case=True).names == ("down", "up")
    assert encoded(["UP", "Down", "up"], labels, merge_case=True) == [1, 0, 1]
    assert encoded(["POSITIVE", "negative"], model_names=("negative", "positive"), merge_case=True) == [1, 0]


@pytest.mark.parametrize(
    ("classes", "rows_", "refused", "noted"),
    [(20, 24, 0, 0), (30, 200, 0, 1), (150, 1000, 0, 1), (21, 210, 0, 0), (101, 200, 1, 0), (24, 24, 1, 0)],
)
def test_many_classes_are_refused_or_pointed_out_by_their_share_of_rows(classes, rows_, refused, noted, caplog):
    labels = [i % classes for i in range(rows_)]
    with caplog.at_level(logging.WARNING):
        if refused:
            with pytest.raises(ValueError, match=f"{classes} classes in {rows_} rows.*`task: regression`"):
                space(labels)
            assert len(space(labels, task=ONE).names) == classes
            with pytest.raises(ValueError, match="`label_column`"):
                space([f"id{i}" for i in labels])
        else:
            assert len(space(labels).names) == classes
            assert (f"{classes} classes in {rows_} rows" in caplog.text) == bool(noted)


def test_an_evaluation_set_may_lack_classes_but_not_bring_one():
    assert space(["up", "down"] * 2, ["up"]).names == ("down", "up")
    declared = Features(text=Value("string"), label=ClassLabel(names=["up", "sideways", "down"]))
    fine = Dataset.from_dict({"text": ["w1"] * 2, "label": [0, 2]}, features=declared)
    source = {"source": rows(["up", "down"] * 2)}
    assert resolve_label_space(source, "label", evaluation={"target": fine}).names == ("down", "up")
    strange = Dataset.from_dict({"text": ["w1"] * 3, "label": [0, 1, 1]}, features=declared)
    with pytest.raises(ValueError, match="target row 1: label 'sideways' is not one of 'down', 'up'.* 2 rows are"):
        resolve_label_space(source, "label", evaluation={"target": strange})


def test_tags_are_the_values_that_occur_too():
    data = Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "label": [[3, 1], [7]]})
    assert resolve_label_space({"source": data}, "label").names == ("1", "3", "7")
    written = Dataset.from_dict({"tokens": ["['a', 'b']", "['c']"], "label": ["['X', 'Y']", "['X']"]})
    found = resolve_label_space({"source": written}, "label")
    assert (found.task, found.names) == ("token-classification", ("X", "Y"))
    features = Features(tokens=List(Value("string")), label=List(ClassLabel(names=["O", "B", "I"])))
    declared = Dataset.from_dict({"tokens": [["a"], ["b"]], "label": [[0], [1]]}, features=features)
    assert resolve_label_space({"source": declared}, "label").names == ("O", "B", "I")


@pytest.mark.parametrize(("given", "settings", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_labels_that_are_none_are_named_with_their_row(given, settings, culprit, remedy):
    data = given if isinstance(given, Dataset) else rows(given)
    with pytest.raises(ValueError) as found:  # noqa: PT011, PT012 (the message is looked at below)
        made = resolve_label_space({"source": data}, "label", **settings)
        values = list(data["label"])
        LabelEncoder(made, None, "source").encode_rows(values, range(len(values)))
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert len(str(found.value)) < 700


def test_revealed_labels_are_grouped_by_name():
    data = rows(["up", "up ", "down", None, "down"])
    shown = reveal_labels(data, per_class=2)
    assert [v for v in shown["revealed_label"] if v is not None] == ["up", "up ", "down", "down"]
    with pytest.raises(ValueError, match="one label a row"):
        reveal_labels(rows(["1.5", "2.5"]), per_class=1)


def test_reading_reads_each_column_once_and_loops_over_distinct_values_only(monkeypatch):
    """The cost in Python does not grow with the rows: names are asked for by value, not by row."""
    import hftransfer.data.label_values as values

    calls = []
    original = values.label_name
    monkeypatch.setattr(values, "label_name", lambda value: calls.append(1) or original(value))
    values.read_labels(rows([str(i % 4) for i in range(5_000)]), "label", "source")
    assert len(calls) < 50


def test_small_functions():
    assert [literal_list(t) for t in ("[1]", "['a' 'b']", "[a, b]", "{}", "{'a': 1}", "('a')", "x", "")] == [
        [1], None, None, None, None, None, None, None,
    ]  # fmt: skip
    assert recurring_separator(["a;b", "b;c", "c"]) == ";"
    assert recurring_separator(["a b", "c"]) is None
    assert [label_key(k) for k in ("-0", "1.", "01", "1.50", " x ")] == ["0", "1", "01", "1.50", "x"]
    assert [label_name(v) for v in (None, float("nan"), "  ", 3.0, True, " a ")] == [
        None,
        None,
        None,
        "3",
        "True",
        "a",
    ]


# ---- names that look alike


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["Caf\u00e9", "Cafe\u0301", "Tee"], ("Caf\u00e9", "Tee")),
        (["up", "\u200bup", "up\ufeff", "\u00a0up", "down"], ("down", "up")),
        (
            ["\U0001f468\u200d\U0001f4bb", "\U0001f468", "\U0001f4bb"],
            ("\U0001f468", "\U0001f468\u200d\U0001f4bb", "\U0001f4bb"),
        ),
    ],
)
def test_accents_and_invisible_signs_make_no_class(labels, names):
    assert space(labels).names == names


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["up", "u\u0440", "down"], r"look alike, and are classes of their own: 'up' and 'u\u0440'"),
        (["very good", "very  good", "bad"], "'very  good' and 'very good'"),
        (["no change", "no_change", "bad"], "'no change' and 'no_change'"),
        (["B-PER", "B_PER", "O"], "'B-PER' and 'B_PER'"),
        (["1", "-1", "2", "1.5x"], ""),
        (["up", "Up", "down"], ""),
        (["10", "1 0", "001", "01"], ""),
        (["\u043e\u0434\u043d\u043e", "\u0434\u0432\u0430"], ""),
    ],
)
def test_names_that_look_alike_are_pointed_out(labels, said, caplog):
    space(labels)
    found = [record.getMessage() for record in caplog.records if "look alike" in record.getMessage()]
    assert len(found) == bool(said)
    assert said in "".join(found)


@pytest.mark.parametrize(
    ("labels", "row"),
    [
        (["up", "down"] * 9 + ["N/A"], 18),
        (["up", "down"] * 9 + ["NaN", "NaN"], 18),
        (["NA", *["up", "down"] * 9], 0),
        (["None", "some"] * 9, None),
        (["None", "some", "all"] * 9, None),
    ],
)
def test_rare_texts_that_may_mean_nothing_are_classes_and_pointed_out(labels, row, caplog):
    assert set(labels) == set(space(labels).names)
    found = [r.getMessage() for r in caplog.records if "means that there is no label" in r.getMessage()]
    assert [text.split(":")[0] for text in found] == ([] if row is None else [f"source row {row}"])


def test_declared_names_that_differ_by_case_are_pointed_out_and_merged_when_it_is_said(caplog):
    declared = Features(label=ClassLabel(names=["Cat", "cat", "dog"]))
    given = Dataset.from_dict({"label": [0, 1, 2, 1]}, features=declared)
    assert resolve_label_space({"source": given}, "label").names == ("Cat", "cat", "dog")
    assert "'Cat' and 'cat'. Set `merge_label_case`" in caplog.text
    merged = resolve_label_space({"source": given}, "label", merge_case=True)
    assert merged.names == ("Cat", "dog")
    encoder = LabelEncoder(merged, ("Cat", "cat", "dog"), "source")
    assert [encoder(value, 0) for value in given["label"]] == [0, 0, 1, 0]
