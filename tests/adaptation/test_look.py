"""The look at the data: what is there is counted, what is trained on is not evaluated on, what is missing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pictures
import pytest
import runs
import tiny
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets

from hftransfer.adaptation.look import look_at
from hftransfer.data.domain_loading import LoadedDomains, load_shift
from hftransfer.trainers.setup.preparation import prepare


def texts(first: int, rows: int, labels=("up", "down"), **more) -> Dataset:
    """Rows `row 7`, … with labels in turn; `labels=None` leaves them out."""
    columns = {"text": [f"row {first + i}" for i in range(rows)], **more}
    if labels:
        columns["label"] = [labels[i % len(labels)] for i in range(rows)]
    return Dataset.from_dict(columns)


def loaded(source=None, target=None, validation=None, test=None, **sets) -> LoadedDomains:
    """Source rows from 0, validation from 1,000, target from 2,000, unless they are given."""
    source = texts(0, 40) if source is None else source
    target = texts(2000, 120, None) if target is None else target
    validation = texts(1000, 20) if validation is None else validation
    validation = validation if isinstance(validation, dict) else {"source": validation}
    data = {"train": {"source": source}, "target": target, "validation": validation, "test": test or {}}
    return LoadedDomains(**(data | sets))


def look(data: LoadedDomains, tmp_path, **settings):
    return look_at(data, runs.config(tmp_path, **settings))


def test_rows_classes_and_lengths_are_facts_and_lines(tmp_path):
    source = texts(0, 43, ("up", "up", "down"))
    data = loaded(source, test={"target": texts(3000, 7), "source": texts(4000, 5)})
    facts = look(data, tmp_path)
    assert facts.rows == {
        "source": {"train": 43, "validation": 20, "test": 5},
        "target": {"train": 120, "test": 7},
    }
    assert facts.class_names == ("down", "up")
    assert facts.class_counts["source"].tolist() == [14, 29]
    assert facts.validation_counts.tolist() == [10, 10]
    assert (facts.task, facts.modality, facts.leaks, facts.shared) == ("sequence-classification", "text", (), ())
    assert facts.lines == [
        "source: 43 training rows, 20 validation, 5 test",
        "target: 120 unlabelled training rows, 7 test",
        "source: rows by class, 2 in all: 'up' 29, 'down' 14",
        "source: texts of 2 words (median; 95 % up to 2, all to 2)",
        "target: texts of 2 words (median; 95 % up to 2, all to 2)",
        "no row stands in two splits",
    ]


def test_rare_and_unequal_classes_are_said(tmp_path):
    source = texts(0, 41, ["up"] * 40 + ["down"])
    facts = look(loaded(source), tmp_path)
    assert facts.single_row_classes == ("down",)
    assert "1 class has a single row to train on: 'down'" in facts.lines
    assert "the classes are very unequal: 'up' has 40 and 'down' has 1" in facts.lines


def test_classes_without_a_row_are_said(tmp_path):
    names = ClassLabel(names=["down", "up", "flat"])
    data = loaded(texts(0, 40).cast_column("label", names), validation=texts(1000, 20).cast_column("label", names))
    assert "declared, and without a row to train on: 'flat'" in look(data, tmp_path).lines


def test_many_classes_are_listed_by_size(tmp_path):
    names = tuple(f"c{i:02}" for i in range(30))
    data = loaded(texts(0, 300, names), validation=texts(1000, 150, names))
    line = look(data, tmp_path).lines[2]
    assert line.startswith("source: rows by class, 30 in all: 'c00' 10, ")
    assert line.endswith("'c08' 10, …, 'c27' 10, 'c28' 10, 'c29' 10")


def test_sources_are_counted_each(tmp_path):
    data = loaded(
        train={"books": texts(0, 40), "dvd": texts(100, 30, ("down", "down", "up"))},
        validation={"books": texts(1000, 20)},
    )
    facts = look(data, tmp_path)
    assert facts.class_counts["dvd"].tolist() == [20, 10]
    assert facts.warnings == ("source 'dvd' has no validation rows: models are judged on the other sources' alone.",)
    assert f"warning: {facts.warnings[0]}" == facts.lines[-1]


def test_labels_of_the_target_are_not_read(tmp_path):
    """Neither are they counted, nor must they be classes."""
    labelled = texts(2000, 120, ("something", "else"))
    assert look(loaded(target=labelled), tmp_path).lines == look(loaded(), tmp_path).lines


def test_repeated_rows_are_counted(tmp_path):
    source = Dataset.from_dict({"text": ["a", "b", "a", "c", "a"] * 8, "label": ["up", "down"] * 20})
    facts = look(loaded(source), tmp_path)
    assert facts.repeated == {"source": 37, "target": 0}
    assert "source: 37 training rows repeat an earlier one" in facts.lines


def test_rows_of_source_and_target_training_are_only_said(tmp_path):
    target = texts(37, 120, None)
    facts = look(loaded(target=target), tmp_path)
    assert not facts.leaks
    assert "3 of 120 rows of the training rows of target are rows of the training rows of source" in facts.lines


@pytest.mark.parametrize(
    ("data", "counted", "example"),
    [
        (
            lambda: loaded(validation=texts(35, 20)),
            "5 of 20 rows of the validation split of source are rows of the training rows of source",
            "row 0, which is row 35 there: 'row 35'",
        ),
        (
            lambda: loaded(test={"source": texts(39, 20)}),
            "1 of 20 rows of the test split of source is a row of the training rows of source",
            "row 0, which is row 39 there: 'row 39'",
        ),
        (
            lambda: loaded(test={"target": texts(1995, 20)}),
            "15 of 20 rows of the test split of target are rows of the training rows of target",
            "row 5, which is row 0 there: 'row 2000'",
        ),
        (
            lambda: loaded(test={"target": texts(10, 20)}),
            "20 of 20 rows of the test split of target are rows of the training rows of source",
            "row 0, which is row 10 there: 'row 10'",
        ),
        (
            lambda: loaded(validation={"source": texts(1000, 20), "target": texts(2100, 40)}),
            "20 of 40 rows of the validation split of target are rows of the training rows of target",
            "row 0, which is row 100 there: 'row 2100'",
        ),
        (
            lambda: loaded(target=texts(1010, 120, None)),
            "10 of 20 rows of the validation split of source are rows of the training rows of target",
            "row 10, which is row 0 there: 'row 1010'",
        ),
    ],
)
def test_a_leak_is_an_error_with_both_splits_and_a_row(data, counted, example, tmp_path):
    with pytest.raises(ValueError, match=" rows of ") as error:
        look(data(), tmp_path)
    assert str(error.value).startswith(f"{counted}, such as {example}")
    assert "Drop them from one of the two, or give other files." in str(error.value)


def test_all_leaks_are_named_with_the_lines_of_files(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, first in (("train", 0), ("validation", 58), ("test", 55)):
        rows = "".join(f"row {i},{('up', 'down')[i % 2]}\n" for i in range(first, first + 60))
        (folder / f"{name}.csv").write_text(f"text,label\n{rows}")
    (tmp_path / "target.csv").write_text("text\n" + "".join(f"row {i}\n" for i in range(500, 700)))
    data = load_shift({"source": str(folder)}, str(tmp_path / "target.csv"))
    with pytest.raises(ValueError, match=" rows of ") as error:
        look(data, tmp_path)
    message = str(error.value)
    assert "such as row 0 (validation.csv line 2), which is row 58 (train.csv line 60) there: 'row 58'" in message
    assert "Likewise, 5 of 60 rows of the test split of source are rows of the training rows of source." in message


def test_a_test_that_is_the_validation_split_is_looked_at_once(tmp_path):
    """As `load_shift` gives it where there is no test split."""
    validation = texts(1000, 20)
    data = loaded(validation=validation, test={"source": validation})
    assert look(data, tmp_path).rows["source"] == {"train": 40, "validation": 20}


def test_rows_of_validation_in_the_test_split_are_only_said(tmp_path):
    facts = look(loaded(test={"source": texts(1015, 20)}), tmp_path)
    assert facts.lines[-1] == "5 of 20 rows of the test split of source are rows of the validation split of source"


def test_pairs_of_texts_are_compared_as_pairs(tmp_path):
    """One text of two that recurs is no leak."""
    test = texts(0, 20, other=["new"] * 20)
    data = loaded(
        texts(0, 40, other=["a"] * 40),
        texts(2000, 120, None, other=["b"] * 120),
        texts(1000, 20, other=["c"] * 20),
        {"source": test},
    )
    assert not look(data, tmp_path, text_pair_column="other").shared
    with pytest.raises(ValueError, match="20 of 20 rows of the test split of source"):
        look(data, tmp_path)


def test_words_of_tagging_are_counted_and_compared(tmp_path):
    """Short sentences, such as headings, recur without being copies."""
    train, target, validation = tiny.tagged(60), tiny.tagged(120, seed=1, labelled=False), tiny.tagged(40, seed=2)
    data = loaded(train, target, validation, {"target": train.filter(lambda row: len(row["tokens"]) < 5)})
    words = [word for row in train["label"] for word in row]
    facts = look(data, tmp_path)
    assert facts.task == "token-classification"
    assert facts.class_counts["source"].tolist() == np.bincount(words).tolist()
    assert "source: words by tag, 2 in all: " in facts.lines[2]
    longer = sum(len(tokens) >= 5 for tokens in train["tokens"])
    message = f"{longer} of 60 rows of the test split of target are rows of the training rows of source"
    with pytest.raises(ValueError, match=message):
        look(replace(data, test={"target": train}), tmp_path)
    with pytest.raises(ValueError, match=f"All {longer} rows of the target are rows of the source"):
        look(replace(data, target=train.remove_columns("label")), tmp_path)


def test_images_are_compared_and_measured(tmp_path):
    train, validation = pictures.pictures(30), pictures.pictures(24, seed=1)
    target = pictures.pictures(120, seed=2, labelled=False)
    facts = look(loaded(train, target, validation), tmp_path)
    assert facts.modality == "image"
    assert "source: images of 12 x 12 pixels, RGB" in facts.lines
    assert facts.class_counts["source"].tolist() == [10, 10, 10]
    with pytest.raises(ValueError, match="30 of 30 rows of the test split of target are rows of the training rows"):
        look(loaded(train, target, validation, {"target": pictures.pictures(30)}), tmp_path)


def test_images_in_files_are_compared_by_their_files_where_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr("hftransfer.data.image_keys.PIXELS_UP_TO", 0)
    source = pictures.write_folder(tmp_path / "source", {"train": 30, "validation": 24})
    target = pictures.write_folder(tmp_path / "target", {"train": 120}, seed=7, labelled=False)
    data = load_shift({"source": source}, target)
    assert not look(data, tmp_path).shared
    leaking = replace(data, test={"target": data.train["source"]})
    with pytest.raises(ValueError, match="30 of 30 rows of the test split of target are rows of the training rows"):
        look(leaking, tmp_path)


def test_a_prepared_run_says_how_many_texts_are_cut(tmp_path):
    longer = Dataset.from_dict({"text": ["w1 w2 w3 w4 w5 w6 w7"] * 30 + [f"w{i} w1" for i in range(30)]})
    data = loaded(tiny.domain(60), longer, tiny.domain(30, seed=2))
    config = runs.config(tmp_path, max_length=8)
    prepared = prepare(tiny.bert(), config, data.train, data.target, data.validation, tiny.tokenizer())
    facts = look_at(data, config, prepared)
    assert facts.class_names == tiny.LABELS
    assert facts.sizes["target"].cut == 0.5
    assert facts.lines[4].endswith(", 50% of them cut to fit the model")


def test_the_sample_has_no_leak(tmp_path):
    facts = look(load_shift({"source": "sample"}, "sample"), tmp_path)
    assert not facts.shared
    assert not facts.warnings
    assert sum(facts.class_counts["source"]) == 871


BAD = {
    "no target": (lambda: replace(loaded(), target=None), "There is no target: .* --target, or train on the source"),
    "a small target": (
        lambda: loaded(target=texts(2000, 5, None)),
        "target holds 5 rows. From fewer than 20, .* Give more unlabelled rows, or train on the source alone with "
        "`hftransfer finetune`",
    ),
    "an empty target": (lambda: loaded(target=texts(0, 0, None)), "target_dataset is empty"),
    "no validation rows": (
        lambda: loaded(validation={}),
        "source has no validation rows, .* Leave validation_fraction at 0.1, or above 0, or give a validation split",
    ),
    "no validation rows of the source": (
        lambda: loaded(validation={"target": texts(3000, 20)}),
        "source has no validation rows",
    ),
    "amounts": (
        lambda: loaded(texts(0, 40, (0.5, 1.5, 2.25)), validation=texts(1000, 20, (0.5, 1.5))),
        "The labels in 'label' are amounts .regression.. .* use `hftransfer finetune`",
    ),
    "several labels a row": (
        lambda: loaded(texts(0, 40, (["a"], ["a", "b"])), validation=texts(1000, 20, (["a"], ["b"]))),
        "The labels in 'label' are several classes a row .multi-label.. .* use `hftransfer finetune`",
    ),
    "one class": (
        lambda: loaded(texts(0, 40, ("up",)), validation=texts(1000, 20, ("up",))),
        "one class only",
    ),
    "the source again": (
        lambda: loaded(target=texts(0, 40, None)),
        "All 40 rows of the target are rows of the source: there is nothing to adapt to",
    ),
    "the source again, in another order and its held-out rows": (
        lambda: loaded(texts(0, 40).shuffle(seed=1), texts(0, 60, None), texts(40, 20)),
        "All 60 rows of the target are rows of the source",
    ),
    "a streaming source": (
        lambda: loaded(train={"source": texts(0, 40).to_iterable_dataset()}),
        "source is a stream, .* `Dataset.from_list",
    ),
    "a streaming target": (lambda: loaded(target=texts(0, 40, None).to_iterable_dataset()), "target is a stream"),
    "a streaming validation set": (
        lambda: loaded(validation={"source": texts(0, 40).to_iterable_dataset()}),
        "the validation split of source is a stream",
    ),
    "a class without validation rows": (
        lambda: loaded(texts(0, 45, ("up", "down", "flat"))),
        "source validation holds no row of 'flat' .15 to train on.: .* Give rows of each class to the validation "
        "split, or drop the class",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_with_a_remedy(name, tmp_path):
    data, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        look(data(), tmp_path)


def test_a_class_that_was_not_held_out_names_the_fraction(tmp_path):
    (tmp_path / "s.csv").write_text(
        "text,label\n" + "".join(f"row {i},{'up' if i % 20 else 'down'}\n" for i in range(80))
    )
    (tmp_path / "t.csv").write_text("text\n" + "".join(f"target {i}\n" for i in range(120)))
    with pytest.raises(ValueError, match="no row of 'down' .4 to train on.: .* Set validation_fraction to 0.25, or"):
        look(load_shift({"source": str(tmp_path / "s.csv")}, str(tmp_path / "t.csv"), 0.05), tmp_path)
    data = load_shift({"source": str(tmp_path / "s.csv")}, str(tmp_path / "t.csv"), 0.25)
    assert look(data, tmp_path).validation_counts.tolist() == [1, 19]


def test_held_out_copies_are_a_fault_of_the_file(tmp_path):
    """Where nearly all rows stand twice, there are no others to hold out."""
    rows = "".join(f"row {i % 40},{('up', 'down')[i % 2]}\n" for i in range(80))
    (tmp_path / "s.csv").write_text(f"text,label\n{rows}")
    (tmp_path / "t.csv").write_text("text\n" + "".join(f"target {i}\n" for i in range(120)))
    data = load_shift({"source": str(tmp_path / "s.csv")}, str(tmp_path / "t.csv"), 0.2)
    with pytest.raises(ValueError, match="rows that stand in the data twice. Drop copies"):
        look(data, tmp_path)


def test_few_rows_are_warned_of(tmp_path):
    data = loaded(target=texts(2000, 57, None), validation=texts(1000, 8))
    assert look(data, tmp_path).warnings == (
        "target holds 57 rows: class frequencies and accuracy estimated from fewer than 100 are rough.",
        "source validation holds fewer than 5 rows of 'down' (4), 'up' (4): what is said of them is hardly more than "
        "chance.",
    )


def test_a_tag_without_validation_words_is_warned_of(tmp_path):
    names = [*tiny.TAGS, "rare"]
    features = Features(tokens=List(Value("string")), label=List(ClassLabel(names=names)))
    train = tiny.tagged(60).cast(features)
    rare = Dataset.from_dict({"tokens": [["w1", "w2"]], "label": [[2, 0]]}, features=features)
    data = loaded(
        concatenate_datasets([train, rare]),
        tiny.tagged(120, seed=1, labelled=False),
        tiny.tagged(40, seed=2).cast(features),
    )
    facts = look(data, tmp_path)
    assert facts.warnings == ("source validation holds no word of 'rare'.",)
