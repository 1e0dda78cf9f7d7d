"""Pictures of features: the same rows in two models, by PCA and, where it is installed, by UMAP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from .adaptation_facts import FeatureFacts
from .inline_svg import BLUE, DIM, GREEN, ORANGE, PURPLE, SKY, VERMILION, inline_svg

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = ("o", "^", "s", "D", "v", "P", "X")  # seven with six colours: 42 pairs
SHAPES = {  # the same for the page's legend, in a box of 12 by 12
    "o": "M6 1a5 5 0 1 0 .01 0z",
    "^": "M6 1l5 10H1z",
    "s": "M1.5 1.5h9v9h-9z",
    "D": "M6 .5l5.5 5.5-5.5 5.5L.5 6z",
    "v": "M6 11L1 1h10z",
    "P": "M4 1h4v3h3v4H8v3H4V8H1V4h3z",
    "X": "M3.2 1L6 3.8 8.8 1 11 3.2 8.2 6 11 8.8 8.8 11 6 8.2 3.2 11 1 8.8 3.8 6 1 3.2z",
}
MOST_ROWS = 800  # of each domain
MOST_CLASSES = 40  # told apart by colour and shape
Projection = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FeaturePicture:
    """Picture of one model's features."""

    heading: str
    svg: Markup


@dataclass(frozen=True)
class LegendEntry:
    """Class with its colour, and the path of its shape."""

    name: str
    colour: str
    shape: str


def feature_legend(facts: FeatureFacts) -> list[LegendEntry]:
    """Legend of the pictures: classes in the order of their ids; none where there are too many to tell apart."""
    if len(facts.classes) > MOST_CLASSES:
        return []
    return [LegendEntry(name, *_colour_and_shape(i)) for i, name in enumerate(facts.classes)]


def _colour_and_shape(i: int) -> tuple[str, str]:
    return COLOURS[i % len(COLOURS)], SHAPES[MARKERS[i % len(MARKERS)]]


def draw_features(facts: FeatureFacts, project: Projection, name: str) -> list[FeaturePicture]:
    """Pictures of source-only's and of the chosen model's features; one where they are the same model.

    Args:
        facts: features of the same rows.
        project: (n, d) features -> (n, 2), fitted to each model.
        name: of the projection, one word.
    """
    draw = np.random.default_rng(0)
    source_rows, target_rows = (
        np.sort(draw.permutation(len(features))[:MOST_ROWS]) for features in (facts.source_before, facts.target_before)
    )
    before, after = facts.target_classes_before, facts.target_classes_after
    models = [("source-only", facts.source_before, facts.target_before, before)]
    if facts.source_after is not None and facts.target_after is not None:
        models.append(("handed over", facts.source_after, facts.target_after, after))
    elif before is not None and after is not None and not np.array_equal(before, after):
        models.append(("handed over: the same features", facts.source_before, facts.target_before, after))
    pictures: list[FeaturePicture] = []
    for heading, source, target, answers in models:
        points = project(np.concatenate([np.asarray(source)[source_rows], np.asarray(target)[target_rows]]))
        source_classes = np.asarray(facts.source_classes)[source_rows]
        target_classes = None if answers is None else np.asarray(answers)[target_rows]
        domains = [
            ("source, by label", points[: len(source_rows)], source_classes),
            ("target" if answers is None else "target, by answer", points[len(source_rows) :], target_classes),
        ]
        svg = _scatter(domains, len(facts.classes), f"{name}-{len(pictures)}", f"Features by {name}, {heading}")
        pictures.append(FeaturePicture(heading, svg))
    return pictures


def _scatter(
    domains: Sequence[tuple[str, np.ndarray, np.ndarray | None]], classes: int, name: str, description: str
) -> Markup:
    """Two panels with common axes, a domain each, the other domain as a shadow."""

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for panel, (title, points, ids), (_, shadow, _) in zip(panels, domains, domains[::-1], strict=True):
            panel.plot(*shadow.T, ".", color="#8c96a0", alpha=0.3, ms=3, mew=0, rasterized=True)
            if ids is None or classes > MOST_CLASSES:
                panel.plot(*points.T, "o", color=BLUE, alpha=0.6, ms=3.2, mew=0, rasterized=True)
            else:
                for i in range(classes):
                    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
                    panel.plot(*points[ids == i].T, marker, color=colour, alpha=0.75, ms=3.6, mew=0, rasterized=True)
            panel.set_title(title)
            panel.set_xticks([])
            panel.set_yticks([])
            for spine in panel.spines.values():
                spine.set(visible=True, color=DIM, alpha=0.4)

    return inline_svg(draw, name, f"{description}; source and target rows side by side.", 2.6)


def project_by_pca(features: np.ndarray) -> np.ndarray:
    """Projection on the two directions of largest variance, (n, d) -> (n, 2).

    Rows that are not finite are NaN, which no picture shows. Features of one dimension have a second one of zeros.
    """
    return _projected(features, _pca)


def _pca(features: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    directions = min(2, *features.shape)
    return PCA(directions, svd_solver="full").fit_transform(features)


def project_by_umap(features: np.ndarray) -> np.ndarray:
    """Projection by UMAP, (n, d) -> (n, 2), with a fixed seed.

    Raises:
        ImportError: without umap-learn.

    Paper: McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction,
    2018.
    """
    return _projected(features, _umap)


def _umap(features: np.ndarray) -> np.ndarray:
    from umap import UMAP

    neighbours = max(2, min(15, len(features) - 1))
    return UMAP(n_neighbors=neighbours, init="random", random_state=0, n_jobs=1).fit_transform(features)


def _projected(features: np.ndarray, project: Projection) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    finite = np.isfinite(features).all(1)
    points = np.full((len(features), 2), np.nan)
    points[finite] = 0
    if finite.any() and np.ptp(features[finite], axis=0).any():  # rows that are all alike have no directions
        projected = project(features[finite])
        points[finite, : projected.shape[1]] = projected
    return points
