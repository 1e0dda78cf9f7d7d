"""Rounds of self-training after a student: which candidates a number of rounds adds to a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .candidate_list import CandidateRecipe, check_name


def check_rounds(rounds: Any) -> None:
    """Check of the number of rounds. Raises a `ValueError`."""
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 0):
        raise ValueError(f"rounds={rounds!r} must be a whole number of at least 0, or nothing for those of the list.")


def with_rounds(recipes: Sequence[CandidateRecipe], rounds: int | None) -> list[CandidateRecipe]:
    """Candidates with so many rounds of self-training, in place of those that the list has.

    The first round follows the student that the list's first round follows, and learns from the same candidates; in a
    list without rounds it follows the last student, and learns from what that has learnt from and from that student.

    Args:
        recipes: of a list.
        rounds: how many; those of the list when `None`.

    Raises:
        ValueError: there is no student that a round could follow, another candidate is made of a round, or a name that
            a round needs is taken.

    Example:
        >>> student = CandidateRecipe("student", student_of="mean", start="source-only")
        >>> [recipe.name for recipe in with_rounds([student], 2)]
        ['student', 'student-2', 'student-3']
    """
    check_rounds(rounds)
    if rounds is None:
        return list(recipes)
    former = [recipe for recipe in recipes if recipe.round_of]
    removed = {recipe.name for recipe in former}
    others = [recipe for recipe in recipes if not recipe.round_of]
    for recipe in others:
        made_of = next((name for name in recipe.parts if name in removed), None)
        if made_of is not None:
            raise ValueError(
                f"rounds={rounds} takes the place of the list's rounds, and the candidate {recipe.name!r} is made of "
                f"{made_of!r}, which is one. Leave rounds out."
            )
    if rounds == 0:
        return others
    students = [recipe for recipe in others if recipe.student_of]
    if not former and not students:
        raise ValueError(
            f"rounds={rounds} follow a student, and no candidate is one: choose effort='standard' or 'thorough', or "
            "add a candidate with student_of."
        )
    *members, student = former[0].round_of if former else (students[-1].student_of, students[-1].name)
    added: list[CandidateRecipe] = []
    previous = student
    for number in range(2, rounds + 2):
        name = f"{student}-{number}"
        check_name(f"rounds={rounds}", name, [recipe.name for recipe in (*others, *added)])
        about = f"round {number} of self-training: {previous}, trained further on what {', '.join(members)} and it say"
        added.append(CandidateRecipe(name, about, round_of=(*members, previous), start=previous))
        previous = name
    return [*others, *added]
