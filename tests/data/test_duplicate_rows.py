"""Repeated rows: texts that stand in two splits, or in source and target, are counted and said."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import Dataset

from hftransfer.data.domain_loading import load_shift
from hftransfer.data.duplicate_rows import (
    count_duplicate_rows,
    find_rows_without_copies,
    matching_rows,
    repeated_rows,
    rows_without_copies,
    text_keys,
)


def write(path, texts, labels=("up", "down")):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"{t},{labels[i % len(labels)]}\n" for i, t in enumerate(texts)))
    return str(path)


@pytest.mark.parametrize(
    ("one", "other", "used", "count"),
    [
        ({"text": ["a", "b"]}, {"text": ["b", "c", "b"]}, ["text"], 2),
        ({"text": ["a", None]}, {"text": [None, "a"]}, ["text"], 1),
        ({"text": ["a"], "pair": ["x"]}, {"text": ["a", "a"], "pair": ["x", "y"]}, ["text", "pair"], 1),
        ({"text": ["a"], "pair": ["x"]}, {"text": ["a", "a"], "pair": ["x", "y"]}, ["text"], 2),
        ({"text": ["ab"], "pair": ["c"]}, {"text": ["a"], "pair": ["bc"]}, ["text", "pair"], 0),
        ({"text": [1, 2]}, {"text": [1, 2]}, ["text"], 0),
        ({"body": ["a"]}, {"text": ["a"]}, ["text", "body"], 0),
        ({"tokens": [["a"]]}, {"tokens": [["a"]]}, ["tokens"], 0),
    ],
)
def test_rows_are_equal_by_their_texts(one, other, used, count):
    assert count_duplicate_rows(Dataset.from_dict(one), Dataset.from_dict(other), used) == count


def test_streams_are_not_read_through():
    rows = Dataset.from_dict({"text": ["a"]})
    assert count_duplicate_rows(rows.to_iterable_dataset(), rows, ["text"]) == 0


def test_the_plan_says_which_rows_recur(tmp_path):
    texts = [f"w{i}" for i in range(12)]
    write(tmp_path / "s" / "train.csv", texts)
    write(tmp_path / "s" / "test.csv", [*texts[:3], "new"])
    target = write(tmp_path / "t.csv", [*texts[6:], "mine"])
    summaries = load_shift({"source": str(tmp_path / "s")}, target, 0.2, 1).summaries
    assert summaries["source"].notes == ("test: 3 of 4 rows are rows of train too",)
    assert summaries["target"].notes == ("train: 6 of 7 rows are rows of source too",)
    write(tmp_path / "t.csv", [texts[0], "mine", "own"])
    assert load_shift({"source": str(tmp_path / "s")}, target, 0.2, 1).summaries["target"].notes == ()


def test_the_plan_says_which_split_has_no_labels(tmp_path):
    write(tmp_path / "s" / "train.csv", ["w1", "w2"])
    (tmp_path / "s" / "test.csv").write_text("text\nw3\n")
    summaries = load_shift({"source": str(tmp_path / "s")}, str(tmp_path / "s" / "test.csv"), 0, 1).summaries
    assert summaries["source"].notes == ("test: no column 'label', so that no labels are scored there",)
    assert "label" not in "".join(summaries["target"].notes)


def test_words_count_as_the_text_they_make():
    keys = text_keys(Dataset.from_dict({"tokens": [["a", "b"], ["a b"], ["ab"], []]}), ["tokens"])
    assert keys.to_pylist() == ["a b", "a b", "ab", ""]


def test_rows_match_the_first_that_equals_them():
    keys = pa.array(["a", None, "b", "b", "a"])
    assert matching_rows(keys, pa.array(["b", "x", None, "a", "b"])).tolist() == [[0, 2], [3, 0], [4, 2]]
    assert repeated_rows(keys).tolist() == [[3, 2], [4, 0]]
    assert rows_without_copies(keys).tolist() == [1]
    assert rows_without_copies(pa.array(["a", "b", "c"]), [pa.array(["c"]), pa.array(["x", "a"])]).tolist() == [1]
    assert matching_rows(pa.array([], pa.string()), keys).shape == (0, 2)


def test_rows_with_copies_are_not_held_out(tmp_path):
    """Neither those that stand twice in a source, nor those that the target or another source holds as well."""
    texts = [f"w{i}" for i in range(40)]
    news = write(tmp_path / "news.csv", [*texts, *texts[:10]])
    talks = write(tmp_path / "talks.csv", [f"v{i}" for i in range(30)] + texts[10:14])
    target = write(tmp_path / "t.csv", [*texts[14:18], "v3", "mine"])
    for seed in range(5):
        data = load_shift({"news": news, "talks": talks}, target, 0.3, seed)
        assert len(data.validation["news"]) == 15
        trained = {*data.train["news"]["text"], *data.train["talks"]["text"], *data.target["text"]}
        assert not trained & {*data.validation["news"]["text"], *data.validation["talks"]["text"]}


def test_where_all_rows_have_copies_some_are_held_out(tmp_path):
    texts = [f"w{i}" for i in range(20)]
    data = load_shift({"source": write(tmp_path / "s.csv", texts * 2)}, None, 0.2, 1)
    assert len(data.validation["source"]) == 8


def test_sentences_with_copies_are_not_held_out():
    rows = Dataset.from_dict({"tokens": [["a", "b"], ["a", "b"], ["c"], ["d"]]})
    target = Dataset.from_dict({"tokens": [["d"]]})
    free = find_rows_without_copies({"source": rows, "target": target}, "source", ["text", "tokens"], "image")
    assert free.tolist() == [2]
    assert find_rows_without_copies({"source": rows}, "source", ["text"], "image") is None
