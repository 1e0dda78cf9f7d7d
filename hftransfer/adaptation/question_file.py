"""Question file: target rows in a csv file, with an empty column for the labels that a person fills in."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data.content_hash import dataset_hash
from ..data.image_decoding import open_image
from ..data.label_values import literal_list
from ..trainers.saving.written_files import write_whole
from ..trainers.setup.run_domains import input_columns
from .run_inputs import RunInputs

ANSWER, CLASSES, NUMBER, ROW, CHANCE, POPULATION, ID = (
    "label",
    "classes",
    "number",
    "row",
    "chance",
    "drawn_from",
    "id",
)
TEXT, SECOND_TEXT, IMAGE = "text", "second_text", "image"
MACHINE = (NUMBER, ROW, CHANCE, POPULATION, ID)  # columns that say how a row was drawn
PICTURES = "_ask_images"  # the underscore keeps it from being uploaded
BETWEEN_CLASSES = " | "
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts so is run by a spreadsheet


@dataclass(frozen=True)
class Question:
    """Target row that is asked for.

    Args:
        number: of the draw, from 1.
        row: its number in the target data set.
        chance: that the draw had of taking it.
        population: how many target rows there were to draw from.
        answer: what was filled in; empty so far.
    """

    number: int
    row: int
    chance: float
    population: int
    answer: str = ""


@dataclass(frozen=True)
class TargetCells:
    """Target rows as a question file shows them. No label of the target is read.

    Args:
        inputs: of the run.
        task: `"sequence-classification"` or `"token-classification"`.
        class_names: in the order of a model's logits.
    """

    inputs: RunInputs
    task: str
    class_names: Sequence[str]

    @cached_property
    def modality(self) -> str:
        """`"text"` or `"image"`."""
        return self.inputs.modality

    @property
    def tagging(self) -> bool:
        return self.task == "token-classification"

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the target that are shown."""
        if self.modality == "image":
            return [self.inputs.args.image_column]
        text = input_columns(self.inputs.args).text
        own = text.input_column(self.inputs.target, self.tagging, "target")
        return [own] if text.text_pair is None else [own, text.text_pair]

    @cached_property
    def rows(self) -> Any:
        """The target without any other column: no label of it is read."""
        return self.inputs.target.select_columns(self.columns)

    def words(self, row: int) -> list[str]:
        """Words of a row, in tagging."""
        value = self.rows[int(row)][self.columns[0]]
        return list(literal_list(value) or []) if isinstance(value, str) else list(value)

    def texts(self, row: int) -> dict[str, str]:
        """Text cells of a row by column of the file; none of an image."""
        if self.modality == "image":
            return {}
        values = self.rows[int(row)]
        cells = [values[column] for column in self.columns]
        if self.tagging:
            cells[0] = self.words(row)
        texts = [" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in cells]
        return dict(zip((TEXT, SECOND_TEXT), texts, strict=False))

    def picture(self, row: int, folder: Path) -> str:
        """Path of a row's image: its own file, or one that is written to a folder."""
        value = self.rows[int(row)][self.columns[0]]
        path = value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None
        if path and Path(path).is_file():
            return str(path)
        folder.mkdir(exist_ok=True)
        file = folder / f"row-{row}.png"
        open_image(value, f"target row {row}").save(file)
        return f"{folder.name}/{file.name}"

    def id_of(self, question: Question) -> str:
        """Id of a question, by which a changed one is known: of the row's content, and of how it was drawn."""
        content = dataset_hash(self.rows.select([question.row]))
        drawn = f"{question.number} {question.row} {question.chance:.6g} {question.population} {content}"
        return f"q{hashlib.sha256(drawn.encode()).hexdigest()[:11]}"  # never all digits, which a spreadsheet rewrites


def write_questions(path: Path, questions: Sequence[Question], cells: TargetCells) -> None:
    """Question file, written whole or not at all; images that are no files are written beside it.

    Args:
        path: of the csv file.
        questions: in the order in which they were drawn.
        cells: of the target.
    """
    is_image = cells.modality == "image"
    shown = [IMAGE] if is_image else [TEXT, *([SECOND_TEXT] if len(cells.columns) > 1 else [])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([NUMBER, *shown, ANSWER, CLASSES, *MACHINE[1:]])
    allowed = BETWEEN_CLASSES.join(cells.class_names)
    for question in questions:
        row = question.row
        content = {IMAGE: cells.picture(row, path.parent / PICTURES)} if is_image else cells.texts(row)
        drawn = (row, f"{question.chance:.6g}", question.population, cells.id_of(question))
        before, after = [content[column] for column in shown], [question.answer, allowed]
        writer.writerow([question.number, *map(_harmless, before), *map(_harmless, after), *drawn])
    write_whole(path, "\ufeff" + text.getvalue())  # the mark by which spreadsheets know UTF-8


def answers_begun(path: Path) -> int:
    """How many answers a question file holds.

    Raises:
        FileExistsError: it is no question file, so that it is not ours to replace.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        rows = []
    if not rows or any(not {ANSWER, ID} <= set(row) for row in rows):
        raise FileExistsError(f"{path} is no file of questions as `ask` writes it. Move it elsewhere.")
    return sum(bool((row[ANSWER] or "").strip()) for row in rows)


def without_mark(cell: str) -> str:
    """Cell as it was before `write_questions` made it harmless.

    Example:
        >>> without_mark("'=1+1"), without_mark("'tis so")
        ('=1+1', "'tis so")
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _harmless(cell: str) -> str:
    """Cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
