"""Options of the recipe `adapt` besides the trainer's config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import explain_fields, option, read_choice
from .run_options import RunArguments

Effort = Literal["quick", "standard", "thorough"]


@explain_fields()
@dataclass
class AdaptArguments(RunArguments):
    """Arguments of the recipe `adapt` besides `AdaptationConfig`: which domains, which model, which candidates.

    `source` and `target` are as in `RunArguments`.

    Example:
        >>> AdaptArguments(source=["news.csv"], target="medical.csv", effort="quick").effort
        'quick'
    """

    effort: str | None = option(
        None,
        "Candidates",
        "quick: one source-only run and corrections that cost nothing; standard: three runs, their mean, and a model "
        "that learns from it; thorough: more kinds of candidates. standard when absent.",
    )
    candidates: str | None = option(
        None, "Candidates", "YAML file with a list of candidates of your own, instead of an effort's."
    )

    rounds: int | None = option(
        None,
        "Candidates",
        "How many rounds of self-training follow the student, as long as each is kept; when absent, two with "
        "effort=thorough and none with the others.",
    )

    ask: int | None = option(
        None,
        "Few target labels",
        "How many target rows to write to ask.csv in the output folder, for a person to label: those most worth it.",
    )
    answers: str | None = option(
        None,
        "Few target labels",
        "Such a file, filled in: its labels tell the accuracy, decide between the candidates, and are trained on.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds is not None and self.rounds < 0:
            raise ValueError(f"rounds={self.rounds} must be a whole number of at least 0.")
        if self.effort is not None:
            read_choice("effort", self.effort, Effort)
            if self.candidates is not None:
                raise ValueError("effort and candidates are both given: each is a list of candidates. Leave one out.")

    def check_domains(self) -> None:
        """Check of the domains.

        Raises:
            ValueError: there is no source or no target, or the target is a source.
        """
        super().check_domains()
        if not self.target:
            raise ValueError("--target is missing: name the unlabelled target, or `--target sample`.")
