"""Answers to questions: a filled-in question file, read strictly, with all that is wrong said at once."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.label_space import listed
from ..data.label_values import label_key
from ..data.row_origins import ORIGIN
from ..data.table_files import read_table
from ..messages import nearest, shown
from .question_file import ANSWER, ID, IMAGE, MACHINE, TEXT, Question, TargetCells, without_mark
from .settings_hash import settings_hash

WINDOWS = "cp1252"
MOST_ERRORS = 20  # that one message names
NO_ANSWER = "Fill in its column 'label', as the column 'classes' says."


@dataclass(frozen=True)
class Answers:
    """Answers to questions.

    Args:
        path: of the file.
        questions: all of the file, in the order in which they were drawn; those without an answer among them.
        answered: (n,) positions of those with one.
        labels: of these, (1,) class ids each; in tagging (words,).
    """

    path: Path
    questions: tuple[Question, ...]
    answered: np.ndarray
    labels: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.answered)

    @property
    def rows(self) -> np.ndarray:
        """(n,) numbers of the answered rows in the target data set."""
        return np.array([self.questions[k].row for k in self.answered], dtype=int)

    @property
    def left_out(self) -> int:
        """How many questions have no answer; those that were taken out of the file among them."""
        return self.asked - len(self)

    @property
    def asked(self) -> int:
        """How many draws there were."""
        return max(question.number for question in self.questions)

    @property
    def population(self) -> int:
        """How many target rows were drawn from."""
        return self.questions[0].population

    @property
    def numbers(self) -> np.ndarray:
        """(n,) numbers of the answered draws."""
        return np.array([self.questions[k].number for k in self.answered], dtype=int)

    @property
    def chances(self) -> np.ndarray:
        """(n,) chances of the answered draws."""
        return np.array([self.questions[k].chance for k in self.answered])

    @property
    def hash(self) -> str:
        """Of rows and labels."""
        return settings_hash(rows=self.rows, labels=[label.tolist() for label in self.labels])

    def part(self, positions: np.ndarray) -> Answers:
        """Some of the answers.

        Args:
            positions: among the answered ones.
        """
        labels = tuple(self.labels[int(k)] for k in positions)
        return Answers(self.path, self.questions, self.answered[positions], labels)


def read_answers(path: str | Path, cells: TargetCells) -> Answers:
    """Answers from a question file that somebody filled in.

    A row without an answer is left out. A class is found by its name, whatever the case of its letters where no two
    classes differ by that alone.

    Args:
        path: of the csv file.
        cells: of the target.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is of other data, or holds something that cannot be; all of it is named.
    """
    path = Path(path).expanduser()
    encoding = _encoding_of(path)
    read = read_table(path, "answers", encoding, ANSWER, (TEXT, IMAGE, ID))
    columns: dict[str, list[Any]] = {name: list(read.dataset[name]) for name in read.dataset.column_names}
    content = IMAGE if cells.modality == "image" else TEXT
    missing = [name for name in (ANSWER, content, *MACHINE) if name not in read.columns]
    if missing:
        raise ValueError(
            f"answers {str(path)!r} has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(map(repr, read.columns))}.{nearest(missing[0], read.columns)} Only the column {ANSWER!r} is "
            "to be changed."
        )
    origins = columns.pop(ORIGIN)
    reader = _Reader(cells)
    for k in range(read.rows):
        cells_of_row = {name: "" if values[k] is None else str(values[k]) for name, values in columns.items()}
        if any(map(str.strip, cells_of_row.values())):
            reader.read(cells_of_row, str(origins[k]))
    reader.refuse(path, encoding)
    if not reader.labels:
        raise ValueError(f"answers {str(path)!r}: none of its {read.rows} rows has an answer. {NO_ANSWER}")
    order = sorted(range(len(reader.questions)), key=lambda k: reader.questions[k].number)
    answered = np.array([at for at, k in enumerate(order) if k in reader.labels], dtype=int)
    labels = tuple(reader.labels[k] for k in order if k in reader.labels)
    return Answers(path, tuple(reader.questions[k] for k in order), answered, labels)


class _Reader:
    """Reader of rows, which keeps all errors."""

    def __init__(self, cells: TargetCells):
        self.cells = cells
        self.errors: list[str] = []
        self.others = 0  # rows of other data
        self.questions: list[Question] = []
        self.labels: dict[int, np.ndarray] = {}  # by the position of their question
        self.names = {label_key(name): i for i, name in enumerate(cells.class_names)}
        self.folded: dict[str, list[int]] = {}
        for i, name in enumerate(cells.class_names):
            self.folded.setdefault(label_key(name).casefold(), []).append(i)
        self.seen: dict[int, str] = {}
        self.numbers: dict[int, str] = {}

    def read(self, row: Mapping[str, str], name: str) -> None:
        """One row of the file."""
        question = self._question(row, name)
        if question is None:
            return
        self.questions.append(question)
        if question.answer:
            label = self._label(question, name)
            if label is not None:
                self.labels[len(self.questions) - 1] = label

    def refuse(self, path: Path, encoding: str | None) -> None:
        """Check for errors; raises `ValueError` with all of them."""
        hint = f" It is no UTF-8 and was read as {encoding}: save it as UTF-8." if encoding and self.others else ""
        if self.others and not self.questions:
            raise ValueError(
                f"answers {str(path)!r} is of other target rows: none of its rows is as it was asked for.{hint} Pass "
                "the target and the settings that it was asked for with, or ask again."
            )
        if self.questions and len({question.population for question in self.questions}) > 1:
            self.errors.append("rows that were drawn from different numbers of rows: files were put together")
        if not self.errors:
            return
        more = len(self.errors) - MOST_ERRORS
        lines = [f"  {error}" for error in self.errors[:MOST_ERRORS]] + [f"  and {more} more"] * (more > 0)
        found = f"{len(self.errors)} error{'s' * (len(self.errors) > 1)}"
        raise ValueError("\n".join([f"answers {str(path)!r} cannot be used, with {found}:{hint}", *lines]))

    def _question(self, row: Mapping[str, str], name: str) -> Question | None:
        numbers = {column: _number(row[column]) for column in MACHINE[:-1]}
        broken = [column for column, value in numbers.items() if value is None]
        if broken:
            self.errors.append(f"row {name}: {broken[0]!r} is {shown(row[broken[0]])}, which is no number")
            return None
        number, target_row, chance, population = (float(value or 0) for value in numbers.values())
        target = self.cells.inputs.target
        if not 0 <= target_row < len(target) or not target_row.is_integer():
            self.errors.append(f"row {name}: there is no target row {row['row']}; they go from 0 to {len(target) - 1}")
            return None
        question = Question(int(number), int(target_row), chance, int(population), without_mark(row[ANSWER]).strip())
        for of, value, seen in (("row", question.row, self.seen), ("number", question.number, self.numbers)):
            if value in seen:
                self.errors.append(f"row {name}: {of} {value} stands in row {seen[value]} already")
                return None
            seen[value] = name
        if changed := self._changed(row, question):
            self.errors.append(f"row {name}: {changed}")
            self.others += 1
            return None
        return question

    def _changed(self, row: Mapping[str, str], question: Question) -> str:
        """What is not as it was asked for; empty where all is."""
        for column, text in self.cells.texts(question.row).items():
            if _plain(without_mark(row.get(column, ""))) != _plain(without_mark(text)):
                return f"{column!r} is {shown(row.get(column, ''))}, and target row {question.row} is {shown(text)}"
        if self.cells.id_of(question) != row[ID].strip():
            return f"'id' does not fit target row {question.row} and how it was drawn: one of them was changed"
        return ""

    def _label(self, question: Question, name: str) -> np.ndarray | None:
        answers = question.answer.split() if self.cells.tagging else [question.answer]
        ids = [self._class_id(answer) for answer in answers]
        unknown = [answer for answer, found in zip(answers, ids, strict=True) if found is None]
        classes = self.cells.class_names
        if unknown:
            self.errors.append(
                f"row {name}: {shown(unknown[0])} is none of the classes {listed(classes)}."
                f"{nearest(unknown[0], classes)}"
            )
            return None
        if self.cells.tagging and len(ids) != (words := len(self.cells.words(question.row))):
            self.errors.append(f"row {name}: {words} words and {len(ids)} tags; each word needs one")
            return None
        return np.array(ids, dtype=int)

    def _class_id(self, answer: str) -> int | None:
        key = label_key(answer)
        alike = self.folded.get(key.casefold(), [])
        return self.names.get(key, alike[0] if len(alike) == 1 else None)


def _encoding_of(path: Path) -> str | None:
    """Encoding of a csv file that is no UTF-8 and has no mark: the one that spreadsheets on Windows write. What comes
    out is compared with what was asked for."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    for encoding, name in (("utf-8", None), (WINDOWS, WINDOWS)):
        with suppress(UnicodeDecodeError):
            content.decode(encoding)
            return name
    raise ValueError(f"answers {str(path)!r} is neither UTF-8 nor {WINDOWS}: save it as UTF-8.")


def _number(cell: str) -> float | None:
    """Number of a cell, with a decimal comma where a spreadsheet made one; `None` where it is none."""
    text = cell.strip().replace(",", ".")
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text) else None


def _plain(text: str) -> str:
    """Text whatever its line ends and outer spaces are, which programs change when they save."""
    return " ".join(text.replace("\ufeff", "").split())
