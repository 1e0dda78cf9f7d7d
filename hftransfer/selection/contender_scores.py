"""Scores of contenders, and how far two contenders' scores differ by the choice of rows."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .contenders import Contender, row_weights, weighted_frequencies
from .model_predictions import MixedPairs, Predictions
from .validators import VALIDATORS, Validator, get_validator

GROUPS = 20  # of rows, that the jackknife leaves out in turn


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

    def differences(self, first: Contender, second: Contender) -> dict[str, tuple[float, float]]:
        r"""How far the first model's scores lie above the second's: by name, the difference and its standard error.

        By the delete-a-group jackknife: row i is in group i mod 20 in both domains, and

        \[\mathrm{se}^2 = \frac{G - 1}{G} \sum_g (\delta_g - \bar\delta)^2\]

        with δ_g the difference without group g, calibration included. Both models lose the same rows, so that what is
        hard for both cancels.

        Paper: Efron and Stein, The Jackknife Estimate of Variance, Annals of Statistics 1981.
        """
        whole = [self(contender) for contender in (first, second)]
        shared = [name for name in whole[0] if name in whole[1]]
        logits = first.predictions.source_logits, first.predictions.target_logits
        source, target = (np.arange(len(z)) for z in logits)
        groups = min(GROUPS, len(source), len(target))
        if groups < 2:
            return {name: (whole[0][name] - whole[1][name], np.inf) for name in shared}
        left: dict[str, list[float]] = {name: [] for name in shared}
        for group in range(groups):
            rows = np.flatnonzero(source % groups != group), np.flatnonzero(target % groups != group)
            parts = [self(replace(c, predictions=rows_of(c.predictions, *rows))) for c in (first, second)]
            for name in shared:
                left[name].append(parts[0].get(name, np.nan) - parts[1].get(name, np.nan))
        errors = {name: float(np.sqrt((groups - 1) * np.var(values))) for name, values in left.items()}
        return {name: (whole[0][name] - whole[1][name], errors[name]) for name in shared}


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
