"""Asking: the target rows that are most worth a label, written to a file that a person fills in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.label_space import listed
from ..selection.model_predictions import softmax
from ..selection.questions import draw_questions, question_scores
from .answer_reading import Answers
from .candidate_predictions import JUDGE_SEED
from .judging import Entry, Verdicts
from .question_file import Question, TargetCells, answers_begun, write_questions

QUESTIONS = "ask.csv"
MOST_IN_MESSAGE = 12


def check_asking(ask: Any, folder: Path, population: int, cells: TargetCells, answers: Answers | None) -> None:
    """Check that rows can be asked for, before anything is trained.

    Args:
        ask: how many.
        folder: the output folder.
        population: how many target rows there are to draw from.
        cells: of the target.
        answers: to earlier questions.

    Raises:
        ValueError: no number that can be, or tags that cannot be told apart in a cell.
        FileExistsError: somebody has begun to answer.
    """
    if isinstance(ask, bool) or not isinstance(ask, int) or ask < 1:
        raise ValueError(f"ask={ask!r} must be a whole number of at least 1: how many target rows to label.")
    asked = 0 if answers is None else len(answers.questions)
    if answers is not None and answers.population != population:
        raise ValueError(
            f"{answers.path} asks for rows out of {answers.population:,}, and this run has {population:,} to ask for: "
            "an effort with other candidates predicts other rows. Ask with the effort of the first time."
        )
    if ask > population - asked:
        before = f", {asked} of them asked for before" if asked else ""
        raise ValueError(f"ask={ask}: there are {population:,} target rows to ask for{before}. Ask for fewer.")
    if cells.tagging and (spaced := [name for name in cells.class_names if len(name.split()) != 1]):
        raise ValueError(
            f"ask: tags of a sentence are written with spaces between them, and {spaced[0]!r} holds one. Rename it."
        )
    question_path(folder, answers)


def question_path(folder: Path, answers: Answers | None) -> Path:
    """File that questions are written to: `ask.csv`, or `ask-2.csv` after answers and so on.

    A file that somebody has begun to fill in is never written to.

    Raises:
        FileExistsError: it holds answers that were not passed, or is no such file.
    """
    number = 1
    while True:
        path = folder / (QUESTIONS if number == 1 else f"ask-{number}.csv")
        if path.exists() and (begun := answers_begun(path)):
            if answers is None:
                raise FileExistsError(
                    f"{path} holds {begun} answer{'s' * (begun > 1)}, which are not overwritten. Pass it as "
                    "`answers`, with `ask` for more questions in a file of their own, or move it elsewhere."
                )
        elif answers is None or not path.exists() or path.resolve() != answers.path.resolve():
            return path
        number += 1


def choose_questions(
    verdicts: Verdicts, population: np.ndarray, count: int, answers: Answers | None
) -> list[Question]:
    """Questions that were asked before, followed by new ones.

    Args:
        verdicts: from `judge`: predictions of the candidates that passed its gates.
        population: numbers of the target rows to draw from, in ascending order.
        count: how many new ones.
        answers: to earlier questions.
    """
    before = () if answers is None else answers.questions
    entries = [entry for entry in verdicts.entries if entry.name not in verdicts.judgement.refused]
    members = [_probabilities(entry) for entry in entries if not entry.reference]
    means = [_probabilities(entry) for entry in entries if entry.reference] or [np.mean(members, axis=0)]
    stored = verdicts.base.predictions
    of_row = np.searchsorted(population, stored.target_rows)  # in tagging, of each word
    words = np.maximum(np.bincount(of_row, minlength=len(population)), 1)
    scores = np.bincount(of_row, question_scores(means[0], members), minlength=len(population)) / words
    features = None
    if stored.target_features is not None:
        columns = np.asarray(stored.target_features, dtype=np.float64).T
        sums = [np.bincount(of_row, column, minlength=len(population)) for column in columns]
        features = np.stack(sums, axis=1) / words[:, None]
    asked = np.searchsorted(population, [question.row for question in before])
    drawn = draw_questions(scores, features, count, asked, JUDGE_SEED + len(before))
    first = 1 if answers is None else answers.asked + 1
    return list(before) + [
        Question(first + k, int(population[at]), float(f"{chance:.6g}"), len(population))
        for k, (at, chance) in enumerate(zip(drawn.rows, drawn.chances, strict=True))
    ]


def ask_for(
    folder: Path, count: int, verdicts: Verdicts, population: np.ndarray, cells: TargetCells, answers: Answers | None
) -> Path:
    """Question file of a run, written; the path of it.

    Args:
        folder: the output folder.
        count: how many target rows to ask for.
        verdicts, population, answers: as in `choose_questions`.
        cells: of the target.

    Raises:
        FileExistsError: somebody has begun to answer.
        DiskFullError, OSError: it cannot be written.
    """
    questions = choose_questions(verdicts, population, count, answers)
    path = question_path(folder, answers)
    write_questions(path, questions, cells)
    return path


def what_to_do(path: Path, count: int, cells: TargetCells) -> str:
    """Sentence that says what to do with a question file."""
    classes = listed(cells.class_names, MOST_IN_MESSAGE)
    rows = f"{count} target row{'s' * (count > 1)} to label {'are' if count > 1 else 'is'} in {path}."
    how = "a tag for each word, with spaces between them" if cells.tagging else "one class a row"
    return (
        f"{rows} Fill in the column 'label', {how} ({classes}), and leave empty what you cannot tell. Then give the "
        f"same command with --answers {path}."
    )


def _probabilities(entry: Entry) -> np.ndarray:
    return softmax(entry.predictions.target_logits)
