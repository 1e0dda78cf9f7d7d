"""Choice of a source domain for an unlabelled target, and the relation between domains."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..data.domain_arguments import source_label
from ..data.label_warnings import warn_of_case
from ..models.model_size import count_parameters
from ..reporting.choice_picture import draw_choice, draw_matrices
from ..reporting.choice_table import ChoiceColumn, ChoiceTable
from ..selection.transferability.domain_relation import DomainRelation, relate_features
from ..selection.transferability.source_scores import SourceScores, score_sources
from ..settings import text_keys
from .frozen_domains import FrozenDomain, RowOptions, SharedLabels, read_domain

BEHIND = 0.05  # share of resamples in which another one is first, from which on it is named in a note
NO_PROMISE = (
    "ranked without target labels, by distance, agreement and estimated accuracy: a choice by evidence, no promise"
)


@dataclass(frozen=True)
class SourceChoice:
    """Ranking of sources for an unlabelled target, from `choose_source`.

    Attributes:
        sources: scores by name, best first.
        target_rows: how many rows of the target were read.
        parameters: of the checkpoint.

    Example:
        >>> choice = choose_source("runs/a", {"news": news}, medical, cache_dir=False)
        >>> choice.best, choice.sources["news"].rows
        ('news', 24)
    """

    sources: dict[str, SourceScores]
    target_rows: int
    parameters: int

    @property
    def best(self) -> str:
        """Name of the source that is first."""
        return next(iter(self.sources))

    def tables(self) -> tuple[ChoiceTable, ...]:
        """Table of the ranking, as plain facts; columns with `oracle_` in their names read target labels."""
        found = list(self.sources.values())
        columns = [
            ChoiceColumn("rank", "rank", [s.rank for s in found], "place", printed=False),
            ChoiceColumn("first", "first in", [s.first for s in found], "share", drawn=True),
            ChoiceColumn("rows", "rows", [s.rows for s in found], "count"),
            ChoiceColumn(
                "a_distance",
                "distance",
                [s.a_distance for s in found],
                "number",
                [s.distance_low for s in found],
                [s.distance_high for s in found],
                drawn=True,
            ),
            ChoiceColumn("agreement", "agreement", [s.agreement for s in found], "share"),
            ChoiceColumn(
                "estimated_accuracy", "estimated accuracy", [s.estimated_accuracy for s in found], "share", drawn=True
            ),
            ChoiceColumn("probe_accuracy", "at home", [s.probe_accuracy for s in found], "share"),
            ChoiceColumn("oracle_accuracy", "accuracy", [s.oracle_accuracy for s in found], "share", drawn=True),
        ]
        columns = [c for c in columns if any(value is not None for value in c.values)]
        size = ChoiceColumn("parameters", "", [self.parameters], "size").cell(0)
        title = (
            f"Sources for {self.target_rows:,} target rows, best first, by a frozen checkpoint of {size} parameters"
        )
        return (ChoiceTable(title, "source", list(self.sources), columns, self._notes()),)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Picture of how often each is first, distances, estimates and, where there are any, oracle accuracies. It
        needs the extra `plots`."""
        draw_choice(self.tables()[0], path)

    def _notes(self) -> list[str]:
        names = list(self.sources)
        rivals = [name for name in names[1:] if self.sources[name].first >= BEHIND]
        notes = [NO_PROMISE]
        if rivals:
            notes.append(f"not told apart by these rows: {self.best}, {', '.join(rivals)}")
        first = {
            "distance": self._leader(lambda s: -s.a_distance),
            "agreement": self._leader(lambda s: s.agreement),
            "estimated accuracy": self._leader(lambda s: s.estimated_accuracy),
        }
        first = {criterion: name for criterion, name in first.items() if name}
        if len(set(first.values())) > 1:
            by = ", ".join(f"by {criterion} {name}" for criterion, name in first.items())
            notes.append(
                f"the criteria disagree on which is first, and nothing here says which of them is right: {by}"
            )
        return notes

    def _leader(self, criterion: Callable[[SourceScores], float | None]) -> str:
        """The one source that is first by a criterion; empty where several are, or where it says nothing."""
        found = {name: criterion(scores) for name, scores in self.sources.items()}
        best = max((value for value in found.values() if value is not None), default=None)
        leaders = [name for name, value in found.items() if value == best and value is not None]
        return leaders[0] if len(leaders) == 1 else ""


@dataclass(frozen=True)
class RelatedDomains:
    """Relation between labelled domains, from `relate_domains`.

    Attributes:
        matrices: distances, transfer of probes and overlap of label sets.
        parameters: of the checkpoint.

    Example:
        >>> related = relate_domains("runs/a", {"news": news, "more": news_validation}, cache_dir=False)
        >>> related.matrices.names, related.matrices.probe_transfer.shape
        (('news', 'more'), (2, 2))
    """

    matrices: DomainRelation
    parameters: int

    def tables(self) -> tuple[ChoiceTable, ...]:
        """Tables of the three matrices, as plain facts."""
        names = self.matrices.names
        size = ChoiceColumn("parameters", "", [self.parameters], "size").cell(0)
        tables = []
        for title, matrix, kind, note in (
            (
                "A-distance",
                self.matrices.a_distance,
                "number",
                f"as a frozen checkpoint of {size} parameters sees them",
            ),
            (
                "probe transfer",
                self.matrices.probe_transfer,
                "share",
                "accuracy of a probe fitted on the row's domain, on the column's: it reads the labels of both",
            ),
            (
                "label overlap",
                self.matrices.label_overlap,
                "share",
                "classes that both have over those that either has",
            ),
        ):
            columns = [
                ChoiceColumn(name, name, [float(v) for v in matrix[:, i]], "share" if kind == "share" else "number")
                for i, name in enumerate(names)
            ]
            tables.append(ChoiceTable(title, "domain", list(names), columns, (note,)))
        return tuple(tables)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Heat maps of the three matrices. They need the extra `plots`."""
        draw_matrices(self.tables(), path)


def choose_source(
    model: Any,
    sources: Mapping[str, Any],
    target: Any,
    *,
    label_column: str = "label",
    text_column: str | None = None,
    image_column: str | None = None,
    max_rows: int | None = 2000,
    resamples: int = 1000,
    seed: int = 42,
    **embedding: Any,
) -> SourceChoice:
    """Ranking of source domains for an unlabelled target: which labelled set to train on.

    A frozen checkpoint embeds all domains once; the features are cached. What can be known without target labels
    ranks: the proxy A-distance of source and target, the agreement of the source's linear probe with those of the
    other sources on the target, and the accuracy that the probe's confidence lets expect there. Target labels, where
    there are any, are read for `oracle_accuracy` alone.

    Args:
        model: id, folder or loaded model.
        sources: labelled domains by name, one class a row, in any form that `rank_checkpoints` takes.
        target: the unlabelled domain, in the same forms.
        label_column, text_column, image_column, max_rows, resamples, seed, embedding: as in `rank_checkpoints`.

    Raises:
        ValueError: no source, or rows that cannot be used.
        TypeError: sources that are no dict, or an option that `Embedder` does not have.
        FileNotFoundError: a model or file that is not there.

    Example:
        >>> choice = choose_source("runs/a", {"news": news, "more": news_validation}, medical, cache_dir=False)
        >>> sorted(choice.sources), choice.best in choice.sources
        (['more', 'news'], True)
    """
    options = RowOptions(label_column, text_column, image_column, max_rows, resamples, seed, embedding)
    domains = _labelled(sources, options)
    unlabelled = read_domain("target", target, options, target=True)
    size = count_parameters(model, embedding.get("revision"))
    embedder, labels = options.embedder(model), SharedLabels(domains)
    features = {name: (domain.features(embedder), labels.ids(domain)) for name, domain in domains.items()}
    scores = score_sources(
        features,
        unlabelled.features(embedder),
        len(labels.names),
        options.seed,
        options.resamples,
        labels.ids(unlabelled) if unlabelled.labels is not None else None,
    )
    ranked = dict(sorted(scores.items(), key=lambda item: item[1].rank))
    return SourceChoice(ranked, len(unlabelled.rows), size)


def relate_domains(
    model: Any,
    domains: Mapping[str, Any],
    *,
    label_column: str = "label",
    text_column: str | None = None,
    image_column: str | None = None,
    max_rows: int | None = 2000,
    seed: int = 42,
    **embedding: Any,
) -> RelatedDomains:
    """Relation between labelled domains: distances of their inputs, transfer of probes, overlap of label sets.

    Args:
        model: id, folder or loaded model, which is frozen.
        domains: labelled ones by name, in any form that `rank_checkpoints` takes; two at least.
        label_column, text_column, image_column, max_rows, seed, embedding: as in `rank_checkpoints`.

    Raises:
        ValueError: fewer than two domains, or rows that cannot be used.
        TypeError: domains that are no dict, or an option that `Embedder` does not have.

    Example:
        >>> related = relate_domains("runs/a", {"news": news, "more": news_validation}, cache_dir=False)
        >>> related.matrices.label_overlap
        array([[1., 1.],
               [1., 1.]])
    """
    options = RowOptions(label_column, text_column, image_column, max_rows, seed=seed, embedding=embedding)
    labelled = _labelled(domains, options)
    if len(labelled) < 2:
        raise ValueError("There is one domain only: a relation needs two at least.")
    embedder, labels = options.embedder(model), SharedLabels(labelled)
    features = {name: (domain.features(embedder), labels.ids(domain)) for name, domain in labelled.items()}
    matrices = relate_features(features, len(labels.names), options.seed)
    return RelatedDomains(matrices, count_parameters(model, embedding.get("revision")))


def _labelled(sources: Any, options: RowOptions) -> dict[str, FrozenDomain]:
    """Labelled domains by name."""
    if not isinstance(sources, Mapping):
        raise TypeError(f"sources must be a dict of labelled sets by name, not {type(sources).__name__}.")
    if not sources:
        raise ValueError("sources is empty: name one labelled set at least.")
    named = text_keys(sources, "sources")
    domains = {name: read_domain(source_label(name), rows, options) for name, rows in named.items()}
    names = {name for domain in domains.values() for name in domain.labels or () if name is not None}
    warn_of_case(names, options.label_column, "Write them the same way if they are one.")
    return domains
