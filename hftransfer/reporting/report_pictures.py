"""Pictures of the adaptation report, and what the page says in place of one that cannot be drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from markupsafe import Markup

from ..extras import install_hint
from .adaptation_facts import AdaptationFacts
from .feature_pictures import (
    FeaturePicture,
    LegendEntry,
    draw_features,
    feature_legend,
    project_by_pca,
    project_by_umap,
)
from .shift_pictures import draw_confidences, draw_frequencies, draw_reliability

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class ReportPictures:
    """Pictures by section; `notes` has a sentence for each that is missing though its facts are there."""

    frequencies: Markup | None = None
    confidences: Markup | None = None
    reliability: Markup | None = None
    pca: Sequence[FeaturePicture] = ()
    umap: Sequence[FeaturePicture] = ()
    legend: Sequence[LegendEntry] = ()
    notes: dict[str, str] = field(default_factory=dict)


def draw_pictures(facts: AdaptationFacts) -> ReportPictures:
    """Pictures of the facts that are there. One that fails is noted, logged, and costs no other."""
    pictures = ReportPictures()

    def attempt(name: str, draw: Callable[[], T], package: str, extra: str) -> T | None:
        try:
            return draw()
        except ImportError as error:
            if (error.name or "").partition(".")[0] != package:
                failed(name, error)
            else:
                pictures.notes[name] = Markup("<code>{}</code> adds this picture.").format(install_hint(extra))
        except Exception as error:  # the page is worth more than one picture of it
            failed(name, error)
        return None

    def failed(name: str, error: Exception) -> None:
        logger.warning("The report's picture of %s could not be drawn: %s", name, error, exc_info=error)
        pictures.notes[name] = f"This picture could not be drawn: {error}"

    def plot(name: str, draw: Callable[[], T]) -> T | None:
        return attempt(name, draw, "matplotlib", "plots")

    if facts.label_shift is not None:
        pictures.frequencies = plot("frequencies", partial(draw_frequencies, facts.label_shift))
    if facts.confidences is not None:
        pictures.confidences = plot("confidences", partial(draw_confidences, facts.confidences))
    if facts.calibration is not None:
        pictures.reliability = plot("reliability", partial(draw_reliability, facts.calibration))
    if facts.features is not None:
        pictures.legend = feature_legend(facts.features)
        pictures.pca = plot("pca", partial(draw_features, facts.features, project_by_pca, "PCA")) or ()
        if pictures.pca:
            draw = partial(draw_features, facts.features, project_by_umap, "UMAP")
            pictures.umap = attempt("umap", draw, "umap", "umap") or ()
    return pictures
