"""Linear probe on answers: the frozen backbone, with a final layer fitted on source and answered target rows."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ..data.label_masking import mask_target_labels
from ..selection.transferability.linear_probe import Probe
from ..stages import stage
from ..trainers.prediction_pass import predict_rows
from .answer_reading import Answers
from .answer_training import fold_parts
from .candidate_list import CandidateRecipe
from .candidate_run import CandidateOutcome, CandidateRunner, model_facts
from .probe_candidate import ProbeRows, fitted_probe, save_probe, source_rows, source_strength

PROBED = "probe-with-answers"


class AnswerProbe:
    """Maker of one candidate: a linear probe that is fitted on the source rows and on answers.

    The answered rows count as much as the source rows in all. The features are computed once.

    Args:
        runner: of the other candidates.
        answers: whose labels it is fitted on.
    """

    def __init__(self, runner: CandidateRunner, answers: Answers):
        self.runner, self.answers = runner, answers

    @property
    def recipe(self) -> CandidateRecipe:
        """What it is."""
        rows = f"the source and {len(self.answers)} labelled target rows"
        about = f"the backbone as it is, with a final layer fitted on {rows}"
        return CandidateRecipe(PROBED, about, probe=True, answers=self.answers.hash)

    def make(self) -> CandidateOutcome:
        """Outcome of an earlier run with the same answers, or of a new one.

        Raises:
            Exception: whatever stops it.
        """
        outcome = self.runner.stored(self.recipe)
        if outcome is not None:
            return outcome
        probe = self._fitted(np.arange(len(self.answers)))
        return self.runner.run_untrained(
            self.recipe, model_facts(self._trainer), lambda folder: save_probe(self._trainer, probe, folder)
        )

    def cross_fitted_logits(self) -> list[np.ndarray]:
        """Logits of each answered row from a probe that was fitted without it, in the order of the answers.

        The parts are those of `AnswerRunner.cross_fitted_logits`. In tagging, logits are of the words that the
        tokenizer keeps.
        """
        count = len(self.answers)
        logits = [np.zeros((0, 0))] * count
        with stage(f"fitting {PROBED}"):
            for held_out in fold_parts(count):
                others = np.setdiff1d(np.arange(count), held_out)
                probe = self._fitted(others)
                for position in held_out:
                    logits[int(position)] = probe.logits(self._features[int(position)])
        return logits

    # ---- what it is fitted on

    @cached_property
    def _trainer(self) -> Any:
        return self.runner.trainer_of(self.recipe, None)

    @cached_property
    def _source(self) -> ProbeRows:
        return source_rows(self._trainer)

    @cached_property
    def _strength(self) -> float:
        return source_strength(self._trainer, self._source)

    def _fitted(self, positions: np.ndarray) -> Probe:
        return fitted_probe(self._trainer, [self._source, self._answered(positions)], self._strength)

    @cached_property
    def _features(self) -> list[np.ndarray]:
        """(1, d) of each answered row, in tagging (words, d)."""
        inputs = self.runner.inputs
        rows = mask_target_labels(inputs.target.select(self.answers.rows), inputs.args.label_column)
        found = predict_rows(self._trainer, rows, features=self._trainer.prepared.head.in_features)
        assert found.features is not None
        return [found.features[found.rows == number].astype(np.float64) for number in range(len(self.answers))]

    def _answered(self, positions: np.ndarray) -> ProbeRows:
        """Some of the answers; sentences that the tokenizer cuts are left out."""
        pairs = [(self._features[int(k)], self.answers.labels[int(k)]) for k in positions]
        whole = [(features, labels) for features, labels in pairs if len(features) == len(labels)]
        if not whole:
            raise ValueError("The tokenizer cuts each of the answered sentences. Raise max_length.")
        labels = np.concatenate([labels for _, labels in whole])
        return ProbeRows(np.concatenate([features for features, _ in whole]), labels, np.ones(len(labels)))
