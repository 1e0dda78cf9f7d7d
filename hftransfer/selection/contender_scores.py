"""Scores of contenders, and how far two contenders' scores differ by the choice of rows."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .contenders import Contender, row_weights, weighted_frequencies
from .model_predictions import MixedPairs, Predictions
from .validators import VALIDATORS, Validator, get_validator

GROUPS = 20  # of rows, that the jackknife leaves out in turn


@dataclass(frozen=True)
class ScoreSample:
    """Scores of one contender, and their values with a group of rows left out in turn.

    Args:
        scores: name -> value.
        left: name -> (G,) values without group g, calibration included; empty where there are too few rows.
    """

    scores: dict[str, float]
    left: dict[str, np.ndarray]

    def differences(self, other: ScoreSample) -> dict[str, tuple[float, float]]:
        r"""How far these scores lie above another contender's: by name, the difference and its standard error.

        By the delete-a-group jackknife, with δ_g the difference without group g:

        \[\mathrm{se}^2 = \frac{G - 1}{G} \sum_g (\delta_g - \bar\delta)^2\]

        What is hard for both contenders cancels. The error is infinite where no group could be left out.

        Paper: Efron and Stein, The Jackknife Estimate of Variance, Annals of Statistics 1981.
        """
        differences = {}
        for name in self.scores:
            if name in other.scores:
                deltas = self.left[name] - other.left[name]
                error = float(np.sqrt((len(deltas) - 1) * np.var(deltas))) if len(deltas) else np.inf
                differences[name] = self.scores[name] - other.scores[name], error
        return differences

    def clear_differences(self, other: ScoreSample, errors: float) -> tuple[list[str], list[str]]:
        """Names of the scores that lie above another contender's, and below, by more than so many standard errors."""
        differences = self.differences(other)
        better = [name for name, (d, error) in differences.items() if d > max(1e-9, errors * error)]
        worse = [name for name, (d, error) in differences.items() if -d > max(1e-9, errors * error)]
        return better, worse


class ContenderScores:
    """Several validators of one model at once, fit for the class frequencies that are believed of the target.

    Validators that can be told class frequencies, as `information` and `nuclear_norm`, are told those of a believed
    label shift, or else the source's. `source_accuracy` weights its rows by the class weights of a believed shift.

    Args:
        names: of validators.
        labels: (n,) of source validation rows.
        classes: K.
        believed: (K,) class weights of a label shift that is believed, or `None`.

    Raises:
        ValueError: a validator that there is none of.
    """

    def __init__(self, names: Sequence[str], labels: np.ndarray, classes: int, believed: np.ndarray | None):
        frequencies = weighted_frequencies(labels, classes, believed)
        self.weights = believed
        self.validators: dict[str, Validator] = {}
        for name in names:
            validator = get_validator(name)
            if "class_frequencies" in inspect.signature(VALIDATORS[name]).parameters:
                validator = VALIDATORS[name](class_frequencies=frequencies)  # type: ignore[call-arg]
            self.validators[name] = validator

    def __call__(self, contender: Contender) -> dict[str, float]:
        """Scores by name, of calibrated predictions; those that lack an input, or are no number, are left out."""
        predictions = contender.calibrated()
        scores = {}
        for name, validator in self.validators.items():
            if name == "source_accuracy":
                rows = row_weights(predictions.source_labels, self.weights)
                right = predictions.source_logits.argmax(1) == predictions.source_labels
                value = float(np.average(right, weights=rows))
            elif any(getattr(predictions, need) is None for need in validator.needs()):
                continue
            else:
                value = validator.score(predictions)
            if np.isfinite(value):
                scores[name] = value
        return scores

    def sample(self, contender: Contender) -> ScoreSample:
        """Scores with the values that they have when groups of rows are left out.

        Row i is in group i mod 20 in both domains, so that all contenders lose the same rows.
        """
        p = contender.predictions
        source, target = np.arange(len(p.source_logits)), np.arange(len(p.target_logits))
        groups = min(GROUPS, len(source), len(target))
        parts = [
            self(
                replace(contender, predictions=rows_of(p, source[source % groups != g], target[target % groups != g]))
            )
            for g in range(groups if groups > 1 else 0)
        ]
        scores = self(contender)
        return ScoreSample(scores, {name: np.array([part.get(name, np.nan) for part in parts]) for name in scores})


def rows_of(predictions: Predictions, source_rows: np.ndarray, target_rows: np.ndarray) -> Predictions:
    """Predictions of some of the rows; of mixtures, those whose rows are both there."""
    p = predictions
    mixed = p.mixed
    if mixed is not None:
        position = np.full(len(p.target_logits), -1)
        position[target_rows] = np.arange(len(target_rows))
        first, second = position[mixed.first], position[mixed.second]
        kept = (first >= 0) & (second >= 0)
        mixed = MixedPairs(mixed.probabilities[kept], first[kept], second[kept])
    part = replace(
        p,
        source_logits=p.source_logits[source_rows],
        source_labels=p.source_labels[source_rows],
        target_logits=p.target_logits[target_rows],
        source_features=None if p.source_features is None else p.source_features[source_rows],
        target_features=None if p.target_features is None else p.target_features[target_rows],
        reference_probabilities=None if p.reference_probabilities is None else p.reference_probabilities[target_rows],
        mixed=mixed,
    )
    if "density_ratio" in vars(p):  # held out already, and dear
        vars(part)["density_ratio"] = None if p.density_ratio is None else p.density_ratio[source_rows]
    return part
