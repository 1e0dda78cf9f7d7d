"""Files of questions and answers: what is written, what a filled-in one comes to, and what is refused."""

from pathlib import Path

import answer_sheets
import numpy as np
import pandas as pd
import pictures
import pytest
import tiny
from datasets import Dataset

from hftransfer import AdaptationConfig
from hftransfer.adaptation.answer_judging import AnsweredRows, check_answers
from hftransfer.adaptation.answer_reading import read_answers
from hftransfer.adaptation.asking import check_asking, question_path
from hftransfer.adaptation.question_file import Question, TargetCells, answers_begun, write_questions
from hftransfer.adaptation.run_inputs import RunInputs
from hftransfer.trainers.hub.push import PRIVATE

ROWS = (4, 11, 2, 7, 9)
ODD = {2: '=HYPERLINK("http://x")', 7: "a, b; “c”\nand\tmore", 9: "'quoted"}


def cells_of(target, task: str = "sequence-classification", names=tiny.LABELS, source=None) -> TargetCells:
    args = AdaptationConfig("out", use_cpu=True, report_to="none")
    source = tiny.domain(6) if source is None else source
    return TargetCells(RunInputs("nowhere", args, {"source": source}, {}, target), task, names)


def questions(rows=ROWS, **more) -> list[Question]:
    return [Question(k + 1, row, 0.0123456789 * (k + 1), 20, **more) for k, row in enumerate(rows)]


def labelled_target() -> Dataset:
    """Twenty rows with labels that nobody may see, some of texts that csv files and spreadsheets find hard."""
    texts = [ODD.get(row, f"text {row}") for row in range(20)]
    return Dataset.from_dict({"text": texts, "label": ["SECRET"] * 20})


@pytest.fixture
def cells():
    return cells_of(labelled_target())


@pytest.fixture
def path(tmp_path, cells):
    write_questions(tmp_path / "ask.csv", questions(), cells)
    return tmp_path / "ask.csv"


# ---- what is written


def test_a_question_file_has_the_texts_the_classes_and_no_label(path, cells):
    rows = answer_sheets.read(path)
    assert [int(row["row"]) for row in rows] == list(ROWS)
    assert {row["label"] for row in rows} == {""}
    assert {row["classes"] for row in rows} == {"down | up | flat"}
    assert [row["text"].removeprefix("'") for row in rows[:2]] == ["text 4", "text 11"]
    assert "SECRET" not in path.read_text()
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert not list(path.parent.glob("*.part"))


def test_no_cell_is_a_formula(path):
    assert answer_sheets.read(path)[2]["text"] == f"'{ODD[2]}"


def test_images_are_files_beside_it_or_their_own(tmp_path):
    target = pictures.pictures(8, labelled=False)
    cells = cells_of(target.cast_column("image", target.features["image"]), source=pictures.pictures(6))
    cells.inputs.target[0]["image"].save(tmp_path / "own.png")
    write_questions(tmp_path / "ask.csv", questions((3, 5)), cells)
    rows = answer_sheets.read(tmp_path / "ask.csv")
    assert [row["image"] for row in rows] == ["_ask_images/row-3.png", "_ask_images/row-5.png"]
    assert all((tmp_path / row["image"]).is_file() for row in rows)
    paths = Dataset.from_dict({"image": [str(tmp_path / "own.png")] * 8})
    write_questions(tmp_path / "by-path.csv", questions((3, 5)), cells_of(paths, source=pictures.pictures(6)))
    assert answer_sheets.read(tmp_path / "by-path.csv")[0]["image"] == str(tmp_path / "own.png")
    answer_sheets.fill(tmp_path / "ask.csv", lambda row: "flat")
    answers = read_answers(tmp_path / "ask.csv", cells)
    assert [int(label[0]) for label in answers.labels] == [2, 2]


# ---- what answers come to


def test_answers_are_read_in_the_order_of_the_draws(path, cells):
    rows = answer_sheets.read(path)
    for row, label in zip(rows, ("up", " Down ", "", "FLAT", "up"), strict=True):
        row["label"] = label
    answer_sheets.write(path, rows[::-1])
    answers = read_answers(path, cells)
    assert answers.rows.tolist() == [4, 11, 7, 9]
    assert [int(label[0]) for label in answers.labels] == [1, 0, 2, 1]
    assert answers.numbers.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(answers.chances, [0.0123457 * k for k in (1, 2, 4, 5)], rtol=1e-5)
    assert (len(answers), answers.left_out, answers.asked, answers.population) == (4, 1, 5, 20)


def test_a_spreadsheet_may_save_it_in_its_own_way(path, cells):
    """Semicolons, decimal commas, other line ends, a column more and one less; rows taken out count as left out."""
    rows = answer_sheets.read(path)[:-2]
    for row in rows:
        del row["classes"]
        row |= {"label": "up", "remark": "sure", "chance": row["chance"].replace(".", ",")}
    answer_sheets.write(path, rows, delimiter=";", lineterminator="\r\n")
    answers = read_answers(path, cells)
    assert answers.rows.tolist() == list(ROWS[:-2])
    answer_sheets.write(path, [rows[0], rows[2]])
    assert (len(read_answers(path, cells)), read_answers(path, cells).left_out) == (2, 1)


def test_a_spreadsheet_on_windows_may_save_it_in_its_own_encoding(path, cells):
    rows = answer_sheets.read(path)
    for row in rows:
        row["label"] = "up"
    answer_sheets.write(path, rows, delimiter=";", encoding="cp1252", lineterminator="\r\n")
    assert b"\x93c\x94" in path.read_bytes()
    assert len(read_answers(path, cells)) == 5
    answer_sheets.write(path, rows, delimiter=";", encoding="utf-16")
    assert len(read_answers(path, cells)) == 5
    other = "“c”".encode("cp1252")
    path.write_bytes(path.read_bytes().decode("utf-16").encode("cp1252").replace(other, b"\xd2c\xd3"))
    with pytest.raises(ValueError, match=r"with 1 error: It is no UTF-8 and was read as cp1252: save it as UTF-8\.\n"):
        read_answers(path, cells)


def test_rows_of_blanks_are_none(path, cells):
    rows = answer_sheets.read(path)
    rows[0]["label"] = "up"
    blanks = dict.fromkeys(rows[0], " ")
    answer_sheets.write(path, [blanks, *rows, blanks, blanks])
    answers = read_answers(path, cells)
    assert (len(answers), answers.left_out) == (1, 4)


def test_a_folder_may_be_in_the_home_folder(path, cells, monkeypatch):
    answer_sheets.fill(path, lambda row: "up")
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(read_answers("~/ask.csv", cells)) == 5


def test_a_text_that_has_the_mark_of_its_own_is_as_it_was_asked_for(tmp_path):
    """The mark before a formula is taken away; this text only looks as if it had been put there."""
    cells = cells_of(Dataset.from_dict({"text": ["'=cited", "-", "'tis so", "=1"] * 5}))
    write_questions(tmp_path / "ask.csv", questions((0, 1, 2, 3)), cells)
    answer_sheets.fill(tmp_path / "ask.csv", lambda row: "up")
    assert len(read_answers(tmp_path / "ask.csv", cells)) == 4


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_a_program_may_save_it_with_numbers(tmp_path, ending):
    """Rows and classes as numbers, the row 0 and the class 0 among them."""
    cells = cells_of(Dataset.from_dict({"text": [f"text {row}" for row in range(20)]}), names=("0", "1"))
    write_questions(tmp_path / "ask.csv", questions((0, 5)), cells)
    table = pd.read_csv(tmp_path / "ask.csv").assign(label=[0, 1])
    path = tmp_path / f"ask.{ending}"
    table.to_json(path, orient="records", double_precision=15) if ending == "json" else table.to_parquet(path)
    answers = read_answers(path, cells)
    assert answers.rows.tolist() == [0, 5]
    assert [int(label[0]) for label in answers.labels] == [0, 1]


def test_tags_are_written_with_spaces_between(tmp_path):
    target = tiny.tagged(8, labelled=False)
    cells = cells_of(target, "token-classification", tiny.TAGS, tiny.tagged(6))
    write_questions(tmp_path / "ask.csv", questions((3, 5)), cells)
    rows = answer_sheets.read(tmp_path / "ask.csv")
    assert rows[0]["text"] == " ".join(target[3]["tokens"])
    for row in rows:
        row["label"] = " ".join(tiny.TAGS[word.endswith("x")] for word in row["text"].split())
    answer_sheets.write(tmp_path / "ask.csv", rows)
    answers = read_answers(tmp_path / "ask.csv", cells)
    expected = [[int(word.endswith("x")) for word in target[row]["tokens"]] for row in (3, 5)]
    assert [label.tolist() for label in answers.labels] == expected
    cut = AnsweredRows(answers, np.repeat([3, 5], [len(expected[0]), len(expected[1]) + 1]))
    assert cut.kept.tolist() == [0]
    rows[1]["label"] += " whole"
    answer_sheets.write(tmp_path / "ask.csv", rows)
    words = len(expected[1])
    with pytest.raises(ValueError, match=rf"row 1 .*: {words} words and {words + 1} tags; each word needs one"):
        read_answers(tmp_path / "ask.csv", cells)


# ---- what is refused


def changed(**cells):
    def change(rows):
        rows[1] |= cells

    return change


def twice(rows):
    rows.append(rows[0] | {"number": "9"})


def renumbered(rows):
    rows[1]["number"] = rows[0]["number"]


def without(column):
    def change(rows):
        for row in rows:
            del row[column]

    return change


def renamed(rows):
    for row in rows:
        row["lable"] = row.pop("label")


def swapped(rows):
    rows[0]["text"], rows[1]["text"] = rows[1]["text"], rows[0]["text"]


def emptied(rows):
    for row in rows:
        row["label"] = ""


BAD = {
    "an unknown class": (changed(label="upp"), r"row 1 \(ask.csv line 3\): 'upp' is none of .* Did you mean 'up'"),
    "a number for a class": (changed(label="1"), "row 1 .*: '1' is none of the classes 'down', 'up', 'flat'"),
    "two classes": (changed(label="up, down"), "'up, down' is none of the classes"),
    "a changed text": (changed(text="text 12"), "'text' is 'text 12', and target row 11 is 'text 11'"),
    "swapped texts": (swapped, "2 errors"),
    "another row": (changed(row="12"), "'text' is 'text 11', and target row 12 is 'text 12'"),
    "a row that is not there": (changed(row="20"), "there is no target row 20; they go from 0 to 19"),
    "half a row": (changed(row="1.5"), "there is no target row 1.5"),
    "no number": (changed(row="eleven"), "'row' is 'eleven', which is no number"),
    "an empty number": (changed(chance=""), "'chance' is '', which is no number"),
    "a changed chance": (changed(chance="0.5"), "'id' does not fit target row 11 and how it was drawn"),
    "a changed id": (changed(id="q00000000000"), "'id' does not fit target row 11"),
    "a row twice": (twice, r"row 5 \(ask.csv line 8\): row 4 stands in row 0 \(ask.csv line 2\) already"),
    "a number twice": (renumbered, "number 1 stands in row 0 .* already"),
    "no answers": (emptied, "none of its 5 rows has an answer. Fill in"),
    "no labels": (without("label"), "has no column 'label'"),
    "no ids": (without("id"), "has no column 'id'; its columns are"),
    "no texts": (without("text"), "has no column 'text'"),
    "another name": (renamed, "has no column 'label'.*Did you mean 'lable'"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_a_file_that_cannot_be(path, cells, change, message):
    answer_sheets.fill(path, lambda row: "up")
    rows = answer_sheets.read(path)
    change(rows)
    answer_sheets.write(path, rows)
    with pytest.raises(ValueError, match=message):
        read_answers(path, cells)


def test_all_errors_are_said_at_once(path, cells):
    rows = answer_sheets.read(path)
    rows[0]["label"], rows[1]["text"], rows[3]["row"], rows[4]["label"] = "left", "other", "x", "down"
    answer_sheets.write(path, rows)
    with pytest.raises(ValueError, match="with 3 errors") as error:
        read_answers(path, cells)
    said = str(error.value).splitlines()
    assert [line.split("(ask.csv line ")[1].split(")")[0] for line in said[1:]] == ["2", "3", "5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b"number,text,label\n", "it has a header but no rows"),
        (b"PK\x03\x04 a spreadsheet", "."),
        (b"number,text,label\n1,caf\x81,up\n", "is neither UTF-8 nor cp1252: save it as UTF-8"),
        (b"number,text,label\n1,a,b,c,up\n", "fields|columns"),
    ],
)
def test_what_is_no_such_file(tmp_path, cells, content, message):
    if content is not None:
        (tmp_path / "ask.csv").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_answers(tmp_path / "ask.csv", cells)


def test_answers_of_other_data_are_one_error(path):
    answer_sheets.fill(path, lambda row: "up")
    other = Dataset.from_dict({"text": [f"another {row}" for row in range(20)]})
    with pytest.raises(ValueError, match="is of other target rows"):
        read_answers(path, cells_of(other))


def test_answers_to_rows_that_are_not_predicted(path, cells):
    answers = read_answers(answer_sheets.fill(path, lambda row: "up"), cells)
    check_answers(answers, np.arange(20), ["source-only"])
    with pytest.raises(ValueError, match="answers to 2 target rows that this run does not predict, such as row 9"):
        check_answers(answers, np.arange(9), ["source-only"])
    with pytest.raises(ValueError, match="A candidate is called 'trained-on-answers'"):
        check_answers(answers, np.arange(20), ["trained-on-answers"])


def test_questions_are_never_pushed():
    from huggingface_hub.utils import filter_repo_objects

    names = ["ask.csv", "ask-2.csv", "_ask_images/row-1.png", "config.json", "report.html"]
    assert list(filter_repo_objects(names, ignore_patterns=PRIVATE)) == ["config.json", "report.html"]


# ---- a file that is there


def test_a_file_that_nobody_has_begun_is_replaced_and_another_is_not(path, cells):
    folder = path.parent
    assert question_path(folder, None) == path
    rows = answer_sheets.read(path)
    rows[3]["label"] = "up"
    answer_sheets.write(path, rows)
    assert answers_begun(path) == 1
    with pytest.raises(FileExistsError, match="holds 1 answer, which are not overwritten. Pass it as `answers`"):
        check_asking(5, folder, 20, cells, None)
    answers = read_answers(path, cells)
    assert question_path(folder, answers) == folder / "ask-2.csv"
    answer_sheets.write(folder / "ask-2.csv", rows)
    assert question_path(folder, answers) == folder / "ask-3.csv"


def test_somebody_elses_file_is_left_alone(tmp_path, cells):
    (tmp_path / "ask.csv").write_text("my,own\n1,2\n")
    with pytest.raises(FileExistsError, match="is no file of questions"):
        check_asking(5, tmp_path, 20, cells, None)
    assert (tmp_path / "ask.csv").read_text() == "my,own\n1,2\n"


@pytest.mark.parametrize("ask", [0, -1, 2.5, True, "50", 21])
def test_a_number_that_cannot_be_asked_for(tmp_path, cells, ask):
    with pytest.raises(ValueError, match="ask="):
        check_asking(ask, Path(tmp_path), 20, cells, None)


def test_another_number_of_rows_to_ask_for(path, cells):
    answers = read_answers(answer_sheets.fill(path, lambda row: "up"), cells)
    with pytest.raises(ValueError, match="asks for rows out of 20, and this run has 30"):
        check_asking(5, path.parent, 30, cells, answers)
    with pytest.raises(ValueError, match="there are 20 target rows to ask for, 5 of them asked for before"):
        check_asking(16, path.parent, 20, cells, answers)


def test_tags_with_spaces_cannot_be_asked_for(tmp_path):
    cells = cells_of(tiny.tagged(8, labelled=False), "token-classification", ("whole", "in parts"), tiny.tagged(6))
    with pytest.raises(ValueError, match="'in parts' holds one"):
        check_asking(5, tmp_path, 20, cells, None)
