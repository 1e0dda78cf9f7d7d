"""Relation between domains: distances of their inputs, transfer of probes, overlap of label sets, as matrices."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ..domain_distance import proxy_a_distance
from .linear_probe import fit_probe, held_out_logits


@dataclass(frozen=True)
class DomainRelation:
    """Relation between labelled domains, as a frozen checkpoint sees them; rows and columns are the domains.

    Attributes:
        names: of the D domains.
        a_distance: (D, D), proxy A-distances, between 0 and 2; symmetric, 0 on the diagonal.
        probe_transfer: (D, D), accuracy of a linear probe fitted on the row's domain, on the column's; cross-validated
            on the diagonal. Rows of classes that the probe has not seen count as wrong. It reads the labels of both.
        label_overlap: (D, D), classes that two domains share over classes that either has, between 0 and 1.
    """

    names: tuple[str, ...]
    a_distance: np.ndarray
    probe_transfer: np.ndarray
    label_overlap: np.ndarray


def relate_features(
    domains: Mapping[str, tuple[np.ndarray, np.ndarray]], class_count: int, seed: int = 0
) -> DomainRelation:
    """Relation between labelled domains from their frozen features.

    Args:
        domains: (n, d) features and (n,) class ids by name; the ids are of a label set that all share, of which a
            domain may lack classes.
        class_count: of that label set.
        seed: of folds.

    Papers: Ben-David et al., A Theory of Learning from Different Domains, Machine Learning 2010 (distance); Zamir et
    al., Taskonomy: Disentangling Task Transfer Learning, CVPR 2018 (transfer between all pairs).

    Example:
        >>> draw = np.random.default_rng(0)
        >>> one, other = ((draw.normal(size=(50, 4)) + shift, np.arange(50) % 2) for shift in (0, 9))
        >>> relate_features({"one": one, "other": other}, 2).a_distance
        array([[0., 2.],
               [2., 0.]])
    """
    names, count = tuple(domains), len(domains)
    distance, transfer, overlap = np.zeros((count, count)), np.zeros((count, count)), np.eye(count)
    classes_of = [set(classes.tolist()) for _, classes in domains.values()]
    for i, (features, classes) in enumerate(domains.values()):
        probe = fit_probe(features, classes, class_count)
        for j, (other, other_classes) in enumerate(domains.values()):
            if i == j:
                transfer[i, i] = (held_out_logits(features, classes, seed).argmax(1) == classes).mean()
                continue
            transfer[i, j] = (probe.logits(other).argmax(1) == other_classes).mean()
            if i < j:
                distance[i, j] = distance[j, i] = proxy_a_distance(features, other, seed)
                overlap[i, j] = overlap[j, i] = _overlap(classes_of[i], classes_of[j])
    return DomainRelation(names, distance, transfer, overlap)


def _overlap(one: Collection[int], other: Collection[int]) -> float:
    shared = set(one) & set(other)
    return len(shared) / len(set(one) | set(other))
