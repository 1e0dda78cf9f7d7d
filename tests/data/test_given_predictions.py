"""Given predictions: files and arrays of probabilities, the top k alone, labels alone; smoothing; what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import read_predictions

NAN = float("nan")


def file(tmp_path, text, name="answers.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_csv_of_probabilities(tmp_path):
    given = read_predictions(file(tmp_path, "down,up\n0.7,0.3\n0.2,0.8\n"), 2)
    assert (given.class_names, given.hard) == (("down", "up"), False)
    assert given.probabilities.tolist() == [[0.7, 0.3], [0.2, 0.8]]


def test_the_top_k_alone_leaves_cells_empty(tmp_path):
    given = read_predictions(file(tmp_path, "a,b,c\n0.7,,0.1\n,0.9,\n"), 2)
    assert given.probabilities.tolist() == [[0.7, 0.0, 0.1], [0.0, 0.9, 0.0]]


def test_columns_that_are_no_classes_are_left_aside_by_name(tmp_path):
    given = read_predictions(file(tmp_path, "id,up,down\nx,0.4,0.6\ny,1,0\n"), 2, ["down", "up"])
    assert given.probabilities.tolist() == [[0.6, 0.4], [0.0, 1.0]]


def test_labels_alone(tmp_path):
    for given in (
        read_predictions(file(tmp_path, "label\nup\ndown\nup\n"), 3),
        read_predictions(["up", "down", "up"], 3),
    ):
        assert (given.class_names, given.hard) == (("down", "up"), True)
        assert given.probabilities.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert read_predictions(np.array(["up", "down"]), 2).probabilities.tolist() == [[0, 1], [1, 0]]
    assert read_predictions(["up", "down"], 2, ["up", "flat", "down"]).probabilities.shape == (2, 3)


def test_smoothing_keeps_the_likeliest_and_spreads_the_rest():
    given = read_predictions([[0.6, 0.3, 0.1], [NAN, 0.5, NAN]], 2, ["a", "b", "c"])
    for row, smooth in zip(given.probabilities, given.smoothed(), strict=True):
        top = int(np.argmax(row))
        expected = [(1 - row[top]) / 2] * 3
        expected[top] = row[top]
        assert smooth == pytest.approx(expected)
    hard = read_predictions(["a", "b"], 2, ["a", "b", "c"])
    assert hard.smoothed(0.1) == pytest.approx(np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]))
    assert hard.smoothed(0.0).tolist() == [[1, 0, 0], [0, 1, 0]]


REFUSED = {
    "too few rows": ([[0.5, 0.5]], 2, ["a", "b"], "holds 1 rows, and the target 2"),
    "no names": ([[0.5, 0.5]], 1, None, "pass labels"),
    "another number of names": ([[0.5, 0.5]], 1, ["a", "b", "c"], "2 columns, and labels names 3"),
    "a name twice": ([[0.5, 0.5]], 1, ["a", "a"], "each once"),
    "logits": ([[3.0, -1.0]], 1, ["a", "b"], "row 0 must be probabilities"),
    "more than 1": ([[0.9, 0.9]], 1, ["a", "b"], "Logits go through a softmax"),
    "less than 1 in sum": ([[0.3, 0.3]], 1, ["a", "b"], "sums to 0.6"),
    "nothing said": ([[NAN, NAN]], 1, ["a", "b"], "no probability at all"),
    "infinite": ([[float("inf"), 0.0]], 1, ["a", "b"], "must be probabilities"),
    "a vector": ([0.5, 0.5], 2, ["a", "b"], "not the shape"),
    "objects": ([{"a": 1}], 1, ["a", "b"], "a file, an array"),
    "one label": (["up", "up"], 2, None, "one class alone"),
    "one label of two names": (["up", "up"], 2, ["up", "down"], "one class alone \\('up'\\)"),
    "one class the likeliest on all rows": ([[0.9, 0.1], [0.6, 0.4]], 2, ["a", "b"], "one class alone \\('a'\\)"),
    "a blank label": (["up", " "], 2, None, "row 1 has no label. Give one"),
    "no label": (["up", None], 2, None, "row 1 has no label. Give one"),
    "a number among labels": (["up", 3], 2, None, "row 1: 3 is no label: give the names"),
    "numbers of classes": ([1, 0], 2, ["a", "b"], "row 0: 1 is no label: give the names of classes as text"),
    "numbers in an array": (np.array([1, 0]), 2, None, "row 0: 1 is no label: give the names"),
    "nothing but gaps": ([None, None], 2, None, "row 0 has no label"),
    "a blank name": ([[0.5, 0.5]], 1, ["a", " "], "none blank"),
    "an unknown label": (["up", "dwon"], 2, ["up", "down"], "Did you mean 'down'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    given, rows, labels, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        read_predictions(given, rows, labels)


@pytest.mark.parametrize(
    ("text", "labels", "said"),
    [
        ("down,up\n0.7,much\n0.5,0.5\n", None, "row 0: 'much' in the column 'up'"),
        ("text,score\nrose,0.5\nfell,0.1\n", None, "is no probability"),
        ("down,up\n0.7,0.3\n0.5,0.5\n", ["down", "pu"], "no column 'pu'"),
        ("label,up\nx,0.3\ny,0.5\n", None, "cannot both be learned from"),
        ("up\n0.7\n0.3\n", None, "one column"),
        ("id,down,up\n7,0.7,0.3\n8,0.5,0.5\n", None, "If a column of id, down, up is no class, name the classes"),
    ],
)
def test_files_that_are_refused(tmp_path, text, labels, said):
    with pytest.raises(ValueError, match=said):
        read_predictions(file(tmp_path, text), 2, labels)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_predictions(tmp_path / "nowhere.csv", 2)


@pytest.mark.parametrize("epsilon", [-0.1, 1, NAN, "0.1", True])
def test_an_epsilon_that_is_no_share_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon="):
        read_predictions(["a", "b"], 2).smoothed(epsilon)
