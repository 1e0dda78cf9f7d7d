"""Candidates made in order: trained or put together from others, each at most once, with what is left to do shown."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..models.disk_space import DiskFullError, is_disk_full
from ..reporting.console import print_lines
from ..selection.rule import SelectionRule
from ..trainers.saving.folder_lock import FolderInUse
from ..trainers.saving.process_agreement import failed_everywhere
from ..trainers.setup.row_weights import weights_in_order
from .candidate_list import CandidateRecipe
from .candidate_run import CandidateOutcome, CandidateRunner, SoftLabels, model_facts
from .combined_models import save_average, save_with_target_statistics
from .corrections import Correction, calibration, soft_probabilities, training_weights
from .judging import estimate_shift
from .probe_candidate import NO_FEATURES, fitted_probe, save_probe, source_rows, source_strength
from .round_decision import decide_round
from .round_teaching import choose_teachers
from .stored_predictions import StoredPredictions

BROKEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # a folder that cannot be written to any more


class CandidateMaker:
    """Maker of a list of candidates.

    Args:
        runner: trains and predicts.
        recipes: in the order in which they are made.
        rule: decides which rounds of self-training are kept.
    """

    def __init__(self, runner: CandidateRunner, recipes: Sequence[CandidateRecipe], rule: SelectionRule | None = None):
        self.runner, self.recipes, self.rule = runner, list(recipes), rule or SelectionRule()
        self.outcomes: dict[str, CandidateOutcome] = {}

    def check(self, class_names: Sequence[str]) -> None:
        """Check of the candidates' settings, before anything is trained.

        Args:
            class_names: of the run.

        Raises:
            ValueError, TypeError: settings that cannot be, with the candidate.
        """
        for recipe in self.recipes:
            if recipe.probe and not isinstance(self.runner.inputs.model, str):
                raise ValueError(f"Candidate {recipe.name!r}: {NO_FEATURES}")
            if not recipe.trains:
                continue
            try:
                config = self.runner.config(recipe)
                if recipe.pretrain is not None:
                    self.runner.starts.config(recipe.pretrain)
                weights_in_order("class_weights", config.class_weight_map(), class_names)
                weights_in_order("source_weights", config.source_weight_map(), list(self.runner.inputs.train))
            except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
                raise type(error)(f"Candidate {recipe.name!r}: {error}") from error

    def make_all(self) -> list[CandidateOutcome]:
        """Outcomes of all candidates; one that breaks is noted, and the rest goes on.

        Raises:
            OSError: the disk is full or cannot be written to, for this candidate as for all that follow.
            Exception: what broke the plain source-only run, without which there is nothing to compare with, or what
                broke on some processes and not on others.
        """
        for number, recipe in enumerate(map(self._of_what_is_made, self.recipes)):
            needed = [recipe.start] if recipe.round_of else recipe.parts  # others need not teach a round
            missing = [self.outcomes[name] for name in needed if self.outcomes[name].predictions is None]
            if missing:
                self._keep(_without(recipe, missing[0]))
                continue
            try:
                outcome = self._round(recipe, number) if recipe.round_of else self._make(recipe, number)
                self._check_rows(outcome)
                self._keep(outcome)
            except Exception as error:
                if (recipe.base and recipe.seed == 0) or is_of_the_disk(error):
                    raise
                if not failed_everywhere(self.runner.inputs.args.world_size):
                    raise
                reason = " ".join(str(error).split()) or type(error).__name__
                print_lines(f"{recipe.name} failed and is left out: {reason}")
                self._keep(CandidateOutcome(recipe, failure=reason))
        return list(self.outcomes.values())

    def _of_what_is_made(self, recipe: CandidateRecipe) -> CandidateRecipe:
        """A mean of those of its parts that were made, if that is two at least; other recipes as they are."""
        made = tuple(name for name in recipe.mean_of if self.outcomes[name].predictions is not None)
        if not 2 <= len(made) < len(recipe.mean_of):
            return recipe
        missing = ", ".join(name for name in recipe.mean_of if name not in made)
        print_lines(f"{recipe.name} is the mean of {', '.join(made)}: without {missing}.")
        return replace(recipe, mean_of=made)

    def _check_rows(self, outcome: CandidateOutcome) -> None:
        """Check that a candidate predicts what source-only does, without which they cannot be compared.

        Raises:
            ValueError: it predicts other classes or rows.
        """
        base = next((o for o in self.outcomes.values() if o.recipe.base and o.recipe.seed == 0), None)
        if base is None or base.model is None or outcome.model is None:
            return
        if outcome.model.class_names != base.model.class_names:
            raise ValueError(f"Its classes are not those of {base.name}.")
        own, other = self._rows(outcome), self._rows(base)
        if any(not np.array_equal(mine, theirs) for mine, theirs in zip(own, other, strict=True)):
            raise ValueError(
                f"It predicts other rows than {base.name}: give it the same max_length, by which words are cut."
            )

    @staticmethod
    def _rows(outcome: CandidateOutcome) -> tuple[np.ndarray, np.ndarray]:
        assert outcome.predictions is not None
        return outcome.predictions.source_validation_labels, outcome.predictions.target_rows

    def _keep(self, outcome: CandidateOutcome) -> None:
        self.outcomes[outcome.name] = outcome

    def _round(self, recipe: CandidateRecipe, number: int) -> CandidateOutcome:
        """Outcome of a round of self-training, made if the one before it stands, and set aside if it is not kept."""
        outcomes, previous = list(self.outcomes.values()), self.outcomes[recipe.start]
        teaching = choose_teachers(recipe.round_of, outcomes, self.rule)
        obstacle = teaching.left_out.get(recipe.start)
        if obstacle:
            why = f"{previous.name} was not kept" if previous.set_aside else f"{previous.name} is refused: {obstacle}"
            print_lines("", f"{recipe.name} is not made: {why}.")
            return CandidateOutcome(recipe, set_aside=f"{recipe.name} is not made: {why}.")
        for name, why in teaching.left_out.items():
            print_lines(f"{name} does not teach {recipe.name}: {why}")
        outcome = self._make(recipe, number, teaching.soft_labels())
        self._check_rows(outcome)
        decision = decide_round(outcome, teaching, self.rule)
        print_lines(decision.reason)
        if decision.kept:
            return replace(outcome, round_reason=decision.reason)
        return replace(outcome, set_aside=decision.reason)

    def _make(self, recipe: CandidateRecipe, number: int, soft_labels: SoftLabels | None = None) -> CandidateOutcome:
        if recipe.mean_of:
            return self.mean(recipe)
        soft_labels = self._soft_labels(recipe) if recipe.student_of else soft_labels
        stored = self.runner.stored(recipe, soft_labels)
        title = f"[{number + 1} of {len(self.recipes)}] {recipe.name}"
        if stored is not None:
            print_lines(f"{title}: made before, {_duration(stored.seconds)} then.")
            return stored
        print_lines("", f"{title}: {recipe.about or 'training'}{self._time_left(number)}")
        outcome = self.runner.run(recipe, soft_labels) if recipe.trains else self._put_together(recipe)
        print_lines(f"{recipe.name} took {_duration(outcome.seconds)}.")
        return outcome

    def _time_left(self, number: int) -> str:
        """What all that is left will take, from the pace of what was trained in this run or before."""
        trained = [o for o in self.outcomes.values() if o.recipe.cost and o.seconds]
        if not trained:
            return ""
        pace = sum(o.seconds for o in trained) / sum(o.recipe.cost for o in trained)
        return f" (about {_duration(pace * sum(recipe.cost for recipe in self.recipes[number:]))} left in all)"

    # ---- what is made of others

    def mean(self, recipe: CandidateRecipe) -> CandidateOutcome:
        """Mean of the calibrated predictions of candidates that are made."""
        parts = [self._predictions(name) for name in recipe.mean_of]
        calibrated = [
            part.map_logits(self._correction(name)) for name, part in zip(recipe.mean_of, parts, strict=True)
        ]
        first = self.outcomes[recipe.mean_of[0]]
        return CandidateOutcome(recipe, predictions=StoredPredictions.mean(parts, calibrated), model=first.model)

    def _correction(self, name: str) -> Correction:
        outcome = self.outcomes[name]
        weights = None
        if outcome.class_weights and outcome.model is not None:
            weights = np.array([outcome.class_weights.get(label, 1.0) for label in outcome.model.class_names])
        return calibration(self._predictions(name), weights)

    def _soft_labels(self, recipe: CandidateRecipe) -> SoftLabels:
        """Soft labels that a student learns from: calibrated, and corrected where a label shift is believed."""
        teacher = self.outcomes[recipe.student_of]
        assert teacher.predictions is not None
        assert teacher.model is not None
        predictions = teacher.predictions
        shift = estimate_shift(predictions)
        correction = Correction(shift.temperature, shift.weights if shift.believed else None)
        probabilities: Any = soft_probabilities(predictions, correction)
        weights = training_weights(shift, np.array(teacher.model.class_counts))
        rows = predictions.target_rows
        if teacher.model.task == "token-classification":
            rows, starts = np.unique(rows, return_index=True)
            probabilities = np.split(probabilities, starts[1:])
        named = {} if weights is None else dict(zip(teacher.model.class_names, map(float, weights), strict=True))
        return SoftLabels(rows, probabilities, named)

    def _predictions(self, name: str) -> StoredPredictions:
        predictions = self.outcomes[name].predictions
        assert predictions is not None
        return predictions

    def _put_together(self, recipe: CandidateRecipe) -> CandidateOutcome:
        """Outcome of a model that takes no training run, saved in a folder of its own and predicted from there."""
        if recipe.probe:
            trainer = self.runner.trainer_of(recipe, None)
            source = source_rows(trainer)
            probe = fitted_probe(trainer, [source], source_strength(trainer, source))
            return self.runner.run_untrained(
                recipe, model_facts(trainer), lambda folder: save_probe(trainer, probe, folder)
            )
        parts = [self.outcomes[name] for name in recipe.parts]
        facts = parts[0].model
        assert facts is not None
        if recipe.average_of:
            return self.runner.run_untrained(recipe, facts, lambda folder: save_average(parts, folder))
        trainer = self.runner.trainer_of(replace(recipe, training={"adabn": True}), parts[0].folder)
        return self.runner.run_untrained(recipe, facts, lambda folder: save_with_target_statistics(trainer, folder))


def _without(recipe: CandidateRecipe, missing: CandidateOutcome) -> CandidateOutcome:
    """Outcome of a candidate that is made of one that there is not."""
    if missing.failure:
        return CandidateOutcome(recipe, failure=f"It is made of {missing.name}, which failed.")
    return CandidateOutcome(
        recipe, set_aside=f"{recipe.name} is not made: it is made of {missing.name}, which was not made."
    )


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error is of the disk that candidates are written to, and not of the candidate.

    Example:
        >>> is_of_the_disk(OSError(errno.EROFS, "Read-only file system")), is_of_the_disk(ValueError("size"))
        (True, False)
    """
    broken = isinstance(error, OSError) and error.errno in BROKEN
    return broken or isinstance(error, (DiskFullError, FolderInUse)) or is_disk_full(error)


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min {seconds % 60} s" if seconds < 600 else f"{round(seconds / 60)} min"
