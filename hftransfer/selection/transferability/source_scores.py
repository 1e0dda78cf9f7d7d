"""Scores of source domains for an unlabelled target: distance, agreement and confidence of probes, and their rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..calibration import calibrated, fit_temperature
from ..domain_distance import distance_of, told_apart
from ..validators.accuracy_estimates import sure_rows
from .linear_probe import fit_probe, held_out_logits
from .rank_resampling import order_of, ranks_of, resampled_means, share_first

FEWEST_ROWS = 10


@dataclass(frozen=True)
class SourceScores:
    """Scores of one source for a target whose labels are not read.

    Attributes:
        rank: from 1 on, by the mean of the ranks by `a_distance`, `agreement` and `estimated_accuracy`.
        first: share of resamples in which the source is first.
        rows: of the source.
        a_distance: proxy A-distance of source and target, between 0 and 2; smaller is better.
        distance_low, distance_high: of its resamples, the middle 90 %.
        agreement: share of target rows for which the source's probe answers as the mean of the other sources' probes
            does; `None` of a single source.
        estimated_accuracy: of the source's probe on the target, by average thresholded confidence (`ATC`): an estimate
            that reads no target labels, and is too high where the probe is sure of what it gets wrong.
        probe_accuracy: of the source's probe on its own rows, cross-validated.
        oracle_accuracy: of the source's probe on the target; `None` without target labels.
    """

    rank: int
    first: float
    rows: int
    a_distance: float
    distance_low: float
    distance_high: float
    agreement: float | None
    estimated_accuracy: float
    probe_accuracy: float
    oracle_accuracy: float | None = None


def score_sources(
    sources: Mapping[str, tuple[np.ndarray, np.ndarray]],
    target_features: np.ndarray,
    class_count: int,
    seed: int = 0,
    resamples: int = 1000,
    oracle_classes: np.ndarray | None = None,
) -> dict[str, SourceScores]:
    """Scores of source domains for an unlabelled target, by what can be known without its labels.

    Each source gets a linear probe on frozen features, which predicts the target. The sources are ranked by the mean
    of three ranks: by their proxy A-distance from the target, by how their probe agrees with those of the others, and
    by the accuracy that average thresholded confidence expects of it. Of equal means, the smaller distance is first.

    Args:
        sources: (n, d) features and (n,) class ids by name; ids are of a label set that all share, of which a source
            may lack classes.
        target_features: (m, d).
        class_count: of that label set.
        seed: of folds and resamples.
        resamples: bootstrap draws of the rows of sources and target; the probes are not fitted anew.
        oracle_classes: (m,) class ids of the target, -1 where there is none or no source has it; reported, and never
            read by the ranks.

    Raises:
        ValueError: a domain of fewer than ten rows, or a source of one class.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> near, far = ((draw.normal(size=(50, 4)) + shift, np.arange(50) % 2) for shift in (0, 5))
        >>> scores = score_sources({"near": near, "far": far}, draw.normal(size=(40, 4)), 2)
        >>> scores["far"].a_distance, scores["far"].rank
        (2.0, 2)
    """
    _check(sources, target_features)
    if oracle_classes is not None and not (oracle_classes >= 0).any():
        oracle_classes = None
    apart = [told_apart(features, target_features, seed) for features, _ in sources.values()]
    answers = [_answers(*rows, target_features, class_count, seed) for rows in sources.values()]
    agree = _agreement(np.stack([answer.probabilities for answer in answers]))
    sure = np.stack([answer.sure for answer in answers])
    distances = np.array([distance_of(*told) for told in apart])
    drawn = _resampled_distances(apart, resamples, seed)
    criteria = [(-distances, -drawn), *((v.mean(1), resampled_means(v, resamples, seed)) for v in (agree, sure))]
    if len(sources) < 2:
        del criteria[1]
    points = -np.mean([ranks_of(on_all) for on_all, _ in criteria], axis=0)
    drawn_points = -np.mean([ranks_of(on_drawn) for _, on_drawn in criteria], axis=0)
    places = order_of(points, -distances)
    first = share_first(drawn_points, places)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    scores = {}
    for i, (name, answer) in enumerate(zip(sources, answers, strict=True)):
        oracle = None
        if oracle_classes is not None:
            known = oracle_classes >= 0
            oracle = float((answer.probabilities.argmax(1) == oracle_classes)[known].mean())
        scores[name] = SourceScores(
            rank=int(places[i]),
            first=float(first[i]),
            rows=len(sources[name][1]),
            a_distance=float(distances[i]),
            distance_low=float(low[i]),
            distance_high=float(high[i]),
            agreement=float(agree[i].mean()) if len(sources) > 1 else None,
            estimated_accuracy=float(sure[i].mean()),
            probe_accuracy=answer.own_accuracy,
            oracle_accuracy=oracle,
        )
    return scores


@dataclass(frozen=True)
class _Answers:
    """Answers of a source's probe: calibrated (m, K) on the target, which of them are sure, accuracy on the source."""

    probabilities: np.ndarray
    sure: np.ndarray
    own_accuracy: float


def _answers(
    features: np.ndarray, classes: np.ndarray, target_features: np.ndarray, class_count: int, seed: int
) -> _Answers:
    held_out = held_out_logits(features, classes, seed, class_count=class_count)
    temperature = fit_temperature(held_out, classes)
    on_target = calibrated(fit_probe(features, classes, class_count).logits(target_features), temperature)
    sure = sure_rows(calibrated(held_out, temperature), classes, on_target)
    return _Answers(on_target, sure, float((held_out.argmax(1) == classes).mean()))


def _agreement(probabilities: np.ndarray) -> np.ndarray:
    """(S, m, K) -> (S, m) whether each source's answer is that of the mean of the others; of one source, yes."""
    if len(probabilities) < 2:
        return np.ones(probabilities.shape[:2], dtype=bool)
    others = probabilities.sum(0) - probabilities
    return probabilities.argmax(2) == others.argmax(2)


def _resampled_distances(apart: Sequence[tuple[np.ndarray, np.ndarray]], resamples: int, seed: int) -> np.ndarray:
    """(resamples, S) proxy A-distances of drawn rows; the same rows of the target for all sources."""
    of_target = resampled_means(np.stack([target for _, target in apart]), resamples, seed)
    of_sources = [resampled_means(source[None], resamples, seed + 1 + i)[:, 0] for i, (source, _) in enumerate(apart)]
    return np.maximum(0.0, 2 * (np.stack(of_sources, 1) + of_target - 1))


def _check(sources: Mapping[str, tuple[np.ndarray, np.ndarray]], target_features: np.ndarray) -> None:
    counts = {**{name: len(classes) for name, (_, classes) in sources.items()}, "target": len(target_features)}
    few = next((name for name, count in counts.items() if count < FEWEST_ROWS), None)
    if few is not None:
        raise ValueError(f"{few} has {counts[few]} rows; a source is chosen from {FEWEST_ROWS} at least.")
    for name, (_, classes) in sources.items():
        if len(np.unique(classes)) < 2:
            raise ValueError(f"source {name!r} holds one class only: a probe has nothing to tell apart.")
