"""Ranking of checkpoints for a labelled data set, before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..messages import shown
from ..models.model_size import count_parameters
from ..reporting.choice_picture import draw_choice
from ..reporting.choice_table import ChoiceColumn, ChoiceTable
from ..selection.transferability import LabelledFeatures, get_transferability
from ..selection.transferability.linear_probe import held_out_logits
from ..selection.transferability.rank_resampling import order_of, resampled_means, share_first
from ..settings import text_keys
from .frozen_domains import FrozenDomain, RowOptions, read_domain

SCORES = ("logme", "h_score", "knn")  # beside the probe, which always ranks; in the order in which they break ties
SHARES = ("knn",)  # scores that are accuracies
BEHIND = 0.05  # share of resamples in which another one is first, from which on it is named in a note


@dataclass(frozen=True)
class RankedCheckpoint:
    """Checkpoint in a ranking.

    Attributes:
        name: id or folder.
        rank: from 1 on.
        first: share of resamples in which it is first.
        parameters: how many, without the head.
        width: of its features.
        probe_accuracy: of a linear probe on its frozen features, cross-validated; what ranks.
        low, high: middle 90 % of the resamples' accuracies.
        scores: further transferability scores by name.
    """

    name: str
    rank: int
    first: float
    parameters: int
    width: int
    probe_accuracy: float
    low: float
    high: float
    scores: dict[str, float]


@dataclass(frozen=True)
class CheckpointRanking:
    """Ranking of checkpoints for a labelled data set, from `rank_checkpoints`.

    Attributes:
        checkpoints: best first.
        rows, classes: how many rows were read, and how many classes they have.

    Example:
        >>> ranking = rank_checkpoints(["runs/a", "runs/b"], news, resamples=100, cache_dir=False)
        >>> ranking.best.rank, ranking.best.parameters, ranking.rows
        (1, 50304, 24)
    """

    checkpoints: tuple[RankedCheckpoint, ...]
    rows: int
    classes: int

    @property
    def best(self) -> RankedCheckpoint:
        """The checkpoint that is first."""
        return self.checkpoints[0]

    def tables(self) -> tuple[ChoiceTable, ...]:
        """Table of the ranking, as plain facts."""
        found = self.checkpoints
        columns = [
            ChoiceColumn("rank", "rank", [c.rank for c in found], "place", printed=False),
            ChoiceColumn("parameters", "size", [c.parameters for c in found], "size"),
            ChoiceColumn(
                "probe_accuracy",
                "probe accuracy",
                [c.probe_accuracy for c in found],
                "share",
                [c.low for c in found],
                [c.high for c in found],
                drawn=True,
            ),
            ChoiceColumn("first", "first in", [c.first for c in found], "share", drawn=True),
        ]
        for name in found[0].scores:
            values = [c.scores[name] for c in found]
            columns.append(ChoiceColumn(name, name.replace("_", "-"), values, "share" if name in SHARES else "number"))
        title = f"Checkpoints, frozen, on {self.rows:,} rows of {self.classes} classes, best first by a linear probe"
        return (ChoiceTable(title, "checkpoint", [c.name for c in found], columns, self._notes()),)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Picture: probe accuracy with its interval, and how often each is first. It needs the extra `plots`."""
        draw_choice(self.tables()[0], path)

    def _notes(self) -> list[str]:
        rivals = [c.name for c in self.checkpoints[1:] if c.first >= BEHIND]
        notes = []
        if rivals:
            notes.append(f"not told apart by these rows: {self.best.name}, {', '.join(rivals)}")
        largest = max(self.checkpoints, key=lambda c: c.parameters)
        if largest is not self.best:
            notes.append(
                f"the largest is {largest.name}; fine-tuned, larger ones often gain more than frozen ones show"
            )
        return notes


def rank_checkpoints(
    models: Sequence[Any] | Mapping[str, Any],
    data: Any,
    *,
    scores: Sequence[str] = SCORES,
    label_column: str = "label",
    text_column: str | None = None,
    image_column: str | None = None,
    max_rows: int | None = 2000,
    resamples: int = 1000,
    seed: int = 42,
    **embedding: Any,
) -> CheckpointRanking:
    """Ranking of checkpoints for a labelled data set: which one to fine-tune, before anything is trained.

    Each checkpoint embeds the rows once, frozen; the features are cached. The five-fold accuracy of a linear probe
    ranks; of equal ones, the further scores in their order. How often each is first is counted over bootstrap
    resamples of the rows. The number of parameters is always shown: on standard benchmarks size alone ranks as well
    as most scores do.

    Args:
        models: ids, folders or loaded models, or a dict of them by name.
        data: labelled rows, one class each: a dataset, DataFrame, list of dicts or dict of lists, or a name as
            `load_shift` takes it (its train split).
        scores: of `get_transferability`, besides the probe.
        label_column, text_column, image_column: where labels and inputs are; inputs are found when `None`.
        max_rows: of a larger set as many are drawn; all when `None`.
        resamples: of the bootstrap.
        seed: of drawn rows, folds and resamples.
        **embedding: options of `Embedder`, such as `pooling`, `max_length`, `batch_size`, `cache_dir`.

    Raises:
        ValueError: no model, two of a name, an unknown score, or rows that cannot be used.
        TypeError: an option that `Embedder` does not have.
        FileNotFoundError: a model or file that is not there.

    Example:
        >>> ranking = rank_checkpoints(["runs/a", "runs/b"], news, resamples=100, cache_dir=False)
        >>> sorted(checkpoint.name for checkpoint in ranking.checkpoints)
        ['runs/a', 'runs/b']
    """
    options = RowOptions(label_column, text_column, image_column, max_rows, resamples, seed, embedding)
    named = named_models(models)
    further = {name: get_transferability(name) for name in scores if name != "probe"}
    for score in further.values():
        missing = [need for need in score.needs() if need not in ("features", "classes", "seed")]
        if missing:
            raise ValueError(
                f"{score.name} reads {missing[0]}, which frozen features do not give. Compute it by "
                f"`get_transferability({score.name!r}).score(LabelledFeatures(…))`."
            )
    domain = read_domain("data", data, options)
    sizes = {name: count_parameters(model, embedding.get("revision")) for name, model in named.items()}
    found = {name: _scored(name, model, domain, further, options) for name, model in named.items()}

    right = np.stack([row.right for row in found.values()])
    accuracies = right.mean(1)
    breakers = [np.array([row.scores[score] for row in found.values()]) for score in further]
    places = order_of(accuracies, *breakers)
    drawn = resampled_means(right, options.resamples, options.seed)
    first = share_first(drawn, places)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    ranked = [
        RankedCheckpoint(
            name=name,
            rank=int(places[i]),
            first=float(first[i]),
            parameters=sizes[name],
            width=row.width,
            probe_accuracy=float(accuracies[i]),
            low=float(low[i]),
            high=float(high[i]),
            scores=row.scores,
        )
        for i, (name, row) in enumerate(found.items())
    ]
    classes = len(set(domain.labels or ()))
    return CheckpointRanking(tuple(sorted(ranked, key=lambda c: c.rank)), len(domain.rows), classes)


@dataclass(frozen=True)
class _Scored:
    """What is known of one checkpoint: which rows its probe is right on, and its scores."""

    right: np.ndarray
    width: int
    scores: dict[str, float]


def _scored(name: str, model: Any, domain: FrozenDomain, further: Mapping[str, Any], options: RowOptions) -> _Scored:
    rows = LabelledFeatures(domain.features(options.embedder(model)), np.array(domain.labels), seed=options.seed)
    right = held_out_logits(rows.features, rows.classes, options.seed).argmax(1) == rows.classes
    return _Scored(right, rows.features.shape[1], {score: get.score(rows) for score, get in further.items()})


def named_models(models: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Models by name; raises `ValueError` where there is none, or two of a name."""
    if isinstance(models, Mapping):
        named = text_keys(models, "models")
    else:
        named = {}
        for model in [models] if isinstance(models, (str, Path)) else models:
            model = str(model) if isinstance(model, Path) else model
            name = model if isinstance(model, str) else _name_of(model)
            if name in named:
                raise ValueError(f"models holds {shown(name)} twice. Give a dict of models by name.")
            named[name] = model
    if not named:
        raise ValueError("models is empty: name one checkpoint at least.")
    return named


def _name_of(model: Any) -> str:
    return getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
