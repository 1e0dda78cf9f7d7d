"""Records: json and jsonl files, each column with the types of its values; bad ones refused by line or row."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from bad_tables import RECORDS, labelled, lines
from datasets import Dataset, List, Value

from hftransfer.data.domain_loading import load_domain
from hftransfer.data.row_origins import ORIGIN
from hftransfer.data.table_files import TableRead, read_table

DATA = pd.DataFrame({"text": ["it went up", "it went down", "it stayed"], "label": [2, 0, 1]})


@pytest.fixture
def read(tmp_path):
    """Reads what a file of this name holds."""

    def reader(name: str, content: str | bytes, **options) -> TableRead:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, "source", **options)

    return reader


def columns(found: TableRead) -> dict[str, list]:
    return {name: found.dataset[name] for name in found.columns}


@pytest.mark.parametrize(("name", "content", "culprit", "remedy"), RECORDS.values(), ids=RECORDS.keys())
def test_what_holds_no_records_is_named_with_its_line(read, name, content, culprit, remedy):
    with pytest.raises(ValueError) as found:  # noqa: PT011
        read(name, content)
    message = str(found.value)
    assert message.startswith("source ")
    assert name in message
    assert culprit in message
    assert remedy in message
    assert "\n" not in message
    assert len(message) < 700


def test_lines_are_named_blank_ones_counted_and_missing_keys_missing(read):
    found = read("a.jsonl", '{"text": "a", "label": "up"}\r\n\r\n{"text": "b"}\r\n{"label": null, "text": "c\u2028d"}')
    assert columns(found) == {"text": ["a", "b", "c\u2028d"], "label": ["up", None, None]}
    assert found.dataset[ORIGIN] == ["0 (a.jsonl line 1)", "1 (a.jsonl line 3)", "2 (a.jsonl line 4)"]
    assert found.notes == ("'label' is not given in 1 of 3 rows", "1 blank line left aside")


# ---- types


@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        ([1, 2, 3], [1, 2, 3], Value("int64")),
        ([1, 2.5, None], [1.0, 2.5, None], Value("float64")),
        ([True, False], [True, False], Value("bool")),
        (["1", "02"], ["1", "02"], Value("string")),
        ([None, None], [None, None], Value("string")),
        ([1, "unsure"], ["1", "unsure"], Value("string")),
        ([True, 0], ["true", "0"], Value("string")),
        ([1.0, "a", 1e5, None], ["1.0", "a", "100000.0", None], Value("string")),
        ([2**63, 1], [str(2**63), "1"], Value("string")),
        ([2**60 + 1, 0.5], [str(2**60 + 1), "0.5"], Value("string")),
        (["None", "NA"], ["None", "NA"], Value("string")),
        (["up", float("nan")], ["up", None], Value("string")),
        ([["a", "b"], [], None], [["a", "b"], [], None], List(Value("string"))),
        ([[0], [1]], [[0], [1]], List(Value("int64"))),
        ([[[0], [1]], [[2]]], [[[0], [1]], [[2]]], List(List(Value("int64")))),
        ([["up", 1], [2.50]], [["up", "1"], ["2.5"]], List(Value("string"))),
        ([[], []], [[], []], List(Value("string"))),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_column_has_one_type(read, values, expected, kind, name):
    rows = [{"text": "a", "label": value} for value in values]
    found = read(name, lines(*rows) if name == "a.jsonl" else json.dumps(rows))
    assert found.dataset.features["label"] == kind
    assert found.dataset["label"] == expected


def test_numbers_that_become_text_stay_as_written(read):
    found = read(
        "a.jsonl",
        '{"label": 1.50}\n{"label": 1e3}\n{"label": "x"}\n{"label": [0.10, "y"]}\n'.replace('[0.10, "y"]', "-0.10"),
    )
    assert found.dataset["label"] == ["1.50", "1e3", "x", "-0.10"]
    assert found.notes == ("'label' holds a number and text: read as text",)


@pytest.mark.parametrize("size", [40, 10_500, 30_000])
def test_a_late_word_among_numbers_is_like_an_early_one(read, size):
    found = read("a.jsonl", labelled(*range(size), "unsure"))
    assert found.dataset["label"] == [*map(str, range(size)), "unsure"]
    with pytest.raises(ValueError, match=rf"source row {size} \(a.jsonl line {size + 1}\): 'label' is a dict"):
        read("a.jsonl", labelled(*range(size), {}))


def test_dicts_in_a_column_that_is_not_used_are_no_trouble(read):
    rows = [{"text": "a", "meta": {"id": 1}}, {"text": "b", "meta": {"id": 2}}]
    assert columns(read("a.jsonl", lines(*rows)))["meta"] == [{"id": 1}, {"id": 2}]
    for odd, written in (({"id": "x"}, '{"id": "x"}'), ("x", "x"), ([1], "[1]"), (1.5, "1.5")):
        found = read("a.jsonl", lines(*rows, {"text": "c", "meta": odd}))
        assert columns(found)["meta"] == ['{"id": 1}', '{"id": 2}', written]
        assert len(found.notes) == 1
        assert found.notes[0].startswith("'meta' holds ")
    assert columns(read("a.jsonl", lines({"text": "a", "meta": {}}, {"text": "b"})))["meta"] == ["{}", None]


def test_lists_of_labels_come_through_the_door(tmp_path):
    for labels in ([[0], [1]], [[[0], [1]], [[1]]], [["up", "new"], ["up"]]):
        (tmp_path / "a.jsonl").write_text(labelled(*labels))
        assert load_domain(str(tmp_path / "a.jsonl"), "source")["train"]["label"] == labels


# ---- shapes


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (DATA.to_json(orient="records"), ()),
        (DATA.to_json(orient="records", indent=2), ()),
        (DATA.to_json(orient="records", lines=True), ("JSON lines",)),
        (DATA.to_json(), ("columns by index, as pandas' to_json() writes them; the index left aside",)),
        (DATA.to_json(orient="index"), ("rows by index, as pandas' orient='index'; the index left aside",)),
        (DATA.to_json(orient="split"), ("columns and data apart, as pandas' orient='split'",)),
        (DATA.to_json(orient="table"), ("rows under 'data'", "the index of pandas left aside")),
        (json.dumps({"data": DATA.to_dict("records")}), ("rows under 'data'",)),
        (
            json.dumps({"version": 1, "rows": DATA.to_dict("records"), "tags": ["a"]}),
            ("rows under 'rows'", "left aside: 'version', 'tags'"),
        ),
        (json.dumps(DATA.to_dict("list"), indent=2), ("an object of lists, one a column",)),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_documents_in_every_shape_that_holds_rows(read, content, note, name):
    found = read(name, content)
    assert columns(found) == DATA.to_dict("list")
    are_lines = note == ("JSON lines",)
    if name == "a.jsonl":
        note = () if are_lines else ("one JSON document, not JSON lines", *note)
    assert found.notes == note
    assert found.dataset[ORIGIN][2] == f"2 ({name}{' line 3' if are_lines else ''})"


def test_one_line_of_lists_is_a_row(read):
    found = read("a.jsonl", '{"tokens": ["a", "b"], "label": [0, 1]}\n')
    assert columns(found) == {"tokens": [["a", "b"]], "label": [[0, 1]]}


def test_an_index_of_words_and_columns_of_numbers(read):
    by_word = {"x": {"text": "a", "label": 1}, "y": {"text": "b", "label": 0}}
    assert columns(read("a.json", json.dumps(by_word))) == {"text": ["a", "b"], "label": [1, 0]}
    turned = {"text": {"x": "a", "y": "b"}, "label": {"x": 1, "y": 0}}
    assert columns(read("a.json", json.dumps(turned))) == {"text": ["a", "b"], "label": [1, 0]}
    assert columns(read("a.json", '{"says": {"0": "a"}, "is": {"0": 1}}')) == {"says": ["a"], "is": [1]}
    assert columns(read("a.json", '{"0": {"says": "a"}, "1": {"says": "b"}}')) == {"says": ["a", "b"]}


def test_what_datasets_writes_comes_back(tmp_path):
    data = Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "label": [[0, 1], [1]], "text": ["é", "\u2028"]})
    for name, options in (
        ("a.jsonl", {}),
        ("a.json", {"lines": False}),
        ("b.json", {"lines": False, "orient": "split"}),
    ):
        data.to_json(tmp_path / name, **options)
        assert columns(read_table(tmp_path / name, "source")) == data.to_dict()


# ---- encodings


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(("encoding", "said"), [("latin-1", True), ("utf-16", False), ("utf-8-sig", False)])
def test_encodings_are_marked_or_given(read, name, encoding, said):
    content = '{"text": "café"}\n{"text": "thé"}\n'.encode(encoding)
    found = read(name, content, encoding=encoding if said else None)
    assert columns(found) == {"text": ["café", "thé"]}
    assert found.notes[0].startswith(f"encoding {encoding.removesuffix('-sig')}")
