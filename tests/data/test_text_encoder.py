"""Text: columns are found, words keep their labels, everything is cut to the model's length."""

from __future__ import annotations

import pytest
import runs
import tiny
from datasets import Dataset

from hftransfer.data.label_space import LabelSpace
from hftransfer.data.text_encoder import TextColumns, encode_text
from hftransfer.ignored_label import IGNORE

CLASSES = LabelSpace("sequence-classification", tiny.LABELS)
TAGGING = LabelSpace("token-classification", tiny.TAGS)


def encode(columns: dict, space=CLASSES, label="label", max_length=None, **names) -> Dataset:
    data = Dataset.from_dict(columns)
    return encode_text(data, tiny.tokenizer(), space, TextColumns(**names), "source", label, max_length)


def tokens(row: dict) -> list[str]:
    return tiny.tokenizer().convert_ids_to_tokens(row["input_ids"])


def test_text_and_label_are_enough_and_other_columns_go():
    (row,) = encode({"id": [7], "text": ["w1 w2x"], "label": ["flat"]})
    assert tokens(row) == ["[CLS]", "w1", "w2", "##x", "[SEP]"]
    assert row["labels"] == 2
    assert row["length"] == 5
    assert {"id", "text", "label", "word_mask"}.isdisjoint(row)


def test_rows_on_disk_are_encoded_once(content_fingerprints, tmp_path):
    """Another process with the same files and settings finds what the first one wrote; other settings, nothing."""
    Dataset.from_dict({"text": ["w1 w2x"] * 3, "label": ["flat"] * 3}).save_to_disk(tmp_path / "rows")
    written = []
    for max_length in (None, None, 4):
        rows = Dataset.load_from_disk(tmp_path / "rows")
        encode_text(rows, tiny.tokenizer(), CLASSES, TextColumns(), "source", "label", max_length)
        written.append({path.name for path in (tmp_path / "rows").glob("cache-*")})
    assert written[0]
    assert written[0] == written[1] < written[2]


def test_a_pair_is_encoded_as_two_segments():
    (row,) = encode({"text": ["w1"], "reply": ["w2 w3"], "label": ["up"]}, text_pair="reply")
    assert tokens(row) == ["[CLS]", "w1", "[SEP]", "w2", "w3", "[SEP]"]
    assert row["token_type_ids"] == [0, 0, 0, 1, 1, 1]


def test_words_are_read_where_there_is_no_text():
    (row,) = encode({"tokens": [["w1", "w2x"]], "label": ["down"]})
    assert tokens(row) == ["[CLS]", "w1", "w2", "##x", "[SEP]"]
    (row,) = encode({"tokens": [["w1"]], "text": ["w9"], "label": ["down"]})
    assert tokens(row) == ["[CLS]", "w9", "[SEP]"]


def test_columns_may_have_other_names():
    (row,) = encode({"body": ["w1"], "kind": ["up"]}, text="body", label="kind")
    assert tokens(row) == ["[CLS]", "w1", "[SEP]"]
    assert row["labels"] == 1


@pytest.mark.parametrize("labels", [["split", "whole", "split"], [1, 0, 1]])
def test_a_word_label_goes_to_its_first_sub_word(labels):
    space = LabelSpace("token-classification", ("whole", "split"))
    (row,) = encode({"tokens": [["w1x", "w2", "w3xx"]], "label": [labels]}, space)
    assert tokens(row) == ["[CLS]", "w1", "##x", "w2", "w3", "##x", "##x", "[SEP]"]
    assert row["labels"] == [IGNORE, 1, IGNORE, 0, 1, IGNORE, IGNORE, IGNORE]
    assert row["word_mask"] == [0, 1, 0, 1, 1, 0, 0, 0]


def test_inputs_are_cut_with_their_labels():
    (row,) = encode({"tokens": [["w1x", "w2", "w3"]], "label": [[1, 0, 0]]}, TAGGING, max_length=5)
    assert tokens(row) == ["[CLS]", "w1", "##x", "w2", "[SEP]"]
    assert row["labels"] == [IGNORE, 1, IGNORE, 0, IGNORE]
    (row,) = encode({"text": ["w1 " * 50], "label": ["up"]}, max_length=8)
    assert row["length"] == 8


def test_an_unlabelled_domain_has_no_labels():
    (row,) = encode({"text": ["w1"], "label": ["nonsense"]}, label=None)
    assert "labels" not in row


@pytest.mark.parametrize(
    ("columns", "space", "message"),
    [
        (
            {"txt": ["w1"], "label": [0]},
            CLASSES,
            "neither a column 'text' nor 'tokens'; its columns are 'txt', 'label'",
        ),
        ({"text": ["w1"], "lable": [0]}, CLASSES, "no column 'label'.*Did you mean 'lable'"),
        ({"text": ["w1"], "label": [[0]]}, TAGGING, "no column 'tokens'.*`tokens_column`"),
        ({"text": ["w1", None], "label": [0, 1]}, CLASSES, "row 1: 'text' is None. Drop or fill"),
        ({"text": ["w1", " \t"], "label": [0, 1]}, CLASSES, "row 1: 'text' is empty. Drop or fill"),
        ({"text": [3], "label": [0]}, CLASSES, "row 0: 'text' must be a string, not int"),
        ({"tokens": [["w1"], []], "label": [[0], []]}, TAGGING, "row 1: 'tokens' is empty"),
        ({"tokens": ["w1 w2"], "label": [[0, 1]]}, TAGGING, "'tokens' must be a list of words, not str"),
        ({"tokens": [["w1", None]], "label": [[0, 1]]}, TAGGING, "'tokens' must be a list of words"),
        ({"tokens": [["w1", "w2"]], "label": [[0]]}, TAGGING, "row 0: 2 words but 1 labels"),
        ({"text": ["w1"], "label": [9]}, CLASSES, "row 0: label 9 is outside 0 … 2 .*'down', 'up', 'flat'"),
        ({"text": ["w1"], "label": ["upp"]}, CLASSES, "row 0: label 'upp' is not one of .*Did you mean 'up'"),
        ({"text": ["w1"], "label": [None]}, CLASSES, "row 0 has no label: 'label' is empty there. Drop or label"),
    ],
)
def test_bad_rows_are_named(columns, space, message):
    with pytest.raises(ValueError, match=f"^source .*{message}"):
        encode(columns, space)


def test_a_bad_row_is_found_beyond_the_first_batch_of_rows():
    texts = ["w1"] * 2100 + [""]
    with pytest.raises(ValueError, match="source row 2100: 'text' is empty"):
        encode({"text": texts, "label": [0] * 2101})


@pytest.mark.parametrize("form", ["torch", "numpy"])
def test_an_output_format_changes_nothing(tmp_path, form):
    plain = runs.trainer(tmp_path)
    formatted = runs.trainer(tmp_path, train_dataset=tiny.domain().with_format(form))
    assert plain.train_dataset.domain_rows[0].to_dict() == formatted.train_dataset.domain_rows[0].to_dict()


def test_the_length_is_the_models_own_unless_said_otherwise(tmp_path):
    long = Dataset.from_dict({"text": ["w1 " * 100, "w2 " * 100], "label": ["up", "down"]})
    longest = lambda **kw: max(runs.trainer(tmp_path, train_dataset=long, **kw).train_dataset.lengths)  # noqa: E731
    assert longest() == 64
    assert longest(max_length=20) == 20
    assert longest(model=tiny.bert(max_position_embeddings=32)) == 32
