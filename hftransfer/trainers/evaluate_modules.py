"""The metrics as `evaluate` modules: they ship with the package, need no network and combine with others.

Kept off the import path of everything else, because importing `evaluate` takes seconds.

Example:
    >>> from hftransfer.trainers.evaluate_modules import DomainClassification
    >>> DomainClassification(names=["no", "yes"]).compute(predictions=[0, 1], references=[0, 1])["macro_f1"]
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from .metrics import classification_metrics, regression_metrics


class DomainClassification(evaluate.Metric):
    """Accuracy, macro and micro precision, recall and F1, and each per class.

    Args:
        names: label names in id order.
        multilabel: rows are 0/1 vectors.
    """

    def __init__(self, names: Sequence[str], multilabel: bool = False, **kwargs: Any):
        self.names, self.multilabel = tuple(names), multilabel
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        kind = datasets.Sequence(ids) if self.multilabel else ids
        return evaluate.MetricInfo(
            description=str(type(self).__doc__),
            citation="",
            inputs_description="predictions and references: class ids",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return classification_metrics(np.asarray(predictions), np.asarray(references), self.names, self.multilabel)


class DomainRegression(evaluate.Metric):
    """Mean squared error, mean absolute error and Pearson correlation."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=str(type(self).__doc__),
            citation="",
            inputs_description="predictions and references: numbers",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return regression_metrics(np.asarray(predictions), np.asarray(references))
