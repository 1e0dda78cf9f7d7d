"""DataFrames, lists of rows and dicts of columns are domains wherever a data set is."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import runs
import tiny
from datasets import Dataset

from hftransfer import AdaptationTrainer
from hftransfer.data.dataframes import is_dict_of_columns, is_table_like
from hftransfer.data.domain_arguments import as_domain

NEWS = tiny.domain()
TEXTS, NAMES = list(NEWS["text"]), [tiny.LABELS[i] for i in NEWS["label"]]
COLUMNS = {"text": TEXTS, "label": NAMES}
FRAME = pd.DataFrame(COLUMNS, index=[f"row{i}" for i in range(len(TEXTS))])
FORMS = {
    "a frame": FRAME,
    "a frame of categories": FRAME.assign(label=FRAME["label"].astype("category")),
    "a frame with an index": FRAME.set_index(pd.MultiIndex.from_product([["a"], range(len(TEXTS))])),
    "a table": pa.table(COLUMNS),
    "a table of dictionaries": pa.table({"text": TEXTS, "label": pa.array(NAMES).dictionary_encode()}),
    "rows": [{"text": t, "label": n} for t, n in zip(TEXTS, NAMES, strict=True)],
    "columns": COLUMNS,
    "columns of arrays": {"text": np.array(TEXTS), "label": np.array(NAMES, dtype=object)},
    "columns of series": {"text": FRAME["text"], "label": FRAME["label"]},
}
IDS = [("down", "flat", "up").index(n) for n in NAMES]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_holds_the_same_rows(form):
    data = as_domain(form, "source")
    assert data.column_names == ["text", "label"]
    assert (list(data["text"]), list(data["label"])) == (TEXTS, NAMES)


def test_dicts_of_data_sets_are_told_apart():
    for several in ({"news": NEWS}, {"news": FRAME}, {"news": FORMS["rows"]}, {"news": COLUMNS}, {}):
        assert not is_dict_of_columns(several)
    for table in FORMS.values():
        assert is_table_like(table)
    for other in ("text", TEXTS, [], 3, NEWS, None, FRAME["text"], {"text": "abc"}):
        assert not is_table_like(other)


@pytest.mark.parametrize("form", ["a frame", "rows", "columns"])
def test_every_form_is_taken_by_the_trainer_and_in_evaluation(tmp_path, form):
    given, unlabelled = FORMS[form], tiny.domain(seed=1, labelled=False).to_list()
    model = tiny.bert(("down", "flat", "up"), initializer_range=0.5)
    config = runs.config(tmp_path, metric_for_best_model="accuracy")
    run = AdaptationTrainer(model, config, given, pd.DataFrame(unlabelled), given, tiny.tokenizer())
    assert run.label_space.names == ("down", "flat", "up")
    alone = run.evaluate(given)
    several = run.evaluate({"source": given, "target": NEWS.to_list(), "bare": {"text": TEXTS}})
    assert run.evaluate()["eval_source_loss"] == several["eval_source_loss"] == alone["eval_oracle_loss"]
    assert "eval_bare_entropy" in several
    assert run.predict(given).label_ids.tolist() == IDS
    assert run.predict(unlabelled).label_ids is None
    many = runs.trainer(tmp_path, model, train_dataset={"a": given, "b": given}, eval_dataset={"a": given})
    assert many.source_names == ("a", "b")


def test_what_is_missing_in_a_frame_is_missing():
    frame = pd.DataFrame({"text": ["w1", None, "w3"], "label": ["up", np.nan, pd.NA], "score": [1, None, 3]})
    data = as_domain(frame, "source")
    assert list(data["text"]) == ["w1", None, "w3"]
    assert list(data["label"]) == ["up", None, None]
    assert list(data["score"]) == [1.0, None, 3.0]
    rows = as_domain([{"text": "w1", "label": 1}, {"text": "w2"}, {"label": float("nan"), "text": "w"}], "source")
    assert [v if v == v else None for v in rows["label"]] == [1.0, None, None]


def test_numbers_beside_text_are_names_in_the_label_column_alone(caplog):
    rows = [{"text": "w1", "label": 1}, {"text": "w2", "label": "unsure"}, {"text": "w3", "label": 2.0}]
    assert list(as_domain(rows, "source", "label")["label"]) == ["1", "unsure", "2"]
    with pytest.raises(ValueError, match="source row 1: 'label' is text .'unsure'., and a number in other rows"):
        as_domain(rows, "source")
    mixed = [{"text": "w1", "more": 1}, {"text": "w2", "more": {"a": 1}}, {"text": "w3", "more": 2}]
    with caplog.at_level(logging.WARNING):
        assert as_domain(mixed, "source", "label", {"text"}).column_names == ["text"]
    assert "source: the column 'more' is left aside: source row 1: 'more' is a dict" in caplog.text


BAD = {
    "a text that is a number": ([{"text": "w1"}, {"text": 5}], "source row 1: 'text' is a number (5)", "one kind"),
    "a label that is a dict": (
        [{"text": "w1", "label": "a"}, {"text": "w2", "label": {"a": 1}}], "row 1: 'label' is a dict", "one kind",
    ),
    "a label that is a list": (
        [{"text": "w1", "label": 1}, {"text": "w2", "label": [1]}], "row 1: 'label' is a list ([1])", "one kind",
    ),
    "lists of two kinds": ({"text": ["w", "v"], "label": [[1], ["a"]]}, "row 1: 'label' holds ['a']", "one kind"),
    "columns of two lengths": ({"text": ["w1", "w2"], "label": [1]}, "'text' 2, 'label' 1", "a value in each"),
    "a column twice": (pd.DataFrame([["w1", "w2"]], columns=["text", "text"]), "'text' twice", "Rename or drop"),
    "a frame without rows": (FRAME.iloc[:0], "source is empty", "no rows"),
    "no rows": ([], "source is empty", "no rows"),
    "columns without rows": ({"text": [], "label": []}, "source is empty", "no rows"),
    "objects": ({"text": [object(), object()]}, "source row 0: 'text' is <object", "leave it out"),
    "a number beyond 64 bits": (
        {"text": ["w1", "w2"], "label": [1, 2**70]}, "source row 1: 'label' is 1180591620717411303424", "text keeps",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "culprit", "remedy"), BAD.values(), ids=BAD.keys())
def test_a_table_that_is_none_is_named(given, culprit, remedy):
    with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is looked at below)
        as_domain(given, "source", "label", {"text"})
    assert culprit in str(found.value)
    assert remedy in str(found.value)


def test_what_is_no_table_is_refused():
    for given, said in (
        ("news.csv", "not str. Read a file first"),
        (TEXTS, "not a list whose row 0 is of type str"),
        ([{"text": "w1"}, ("w2", "up")], "not a list whose row 1 is of type tuple"),
        (FRAME["text"], "not Series"),
        ({"text": "abc"}, "is a dict"),
        ({"news": NEWS}, "is a dict"),
    ):
        with pytest.raises(TypeError, match=f"source .*{said}"):
            as_domain(given, "source")
    assert isinstance(as_domain(NEWS, "source"), Dataset)
