"""Prototype alignment: class centroids, kept over batches, are drawn together across domains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F

from ...settings import read_choice
from ..base import Objective, Range, is_positive
from ..contrastive import excluded_logit
from ..kernels import squared_distances, squared_norms
from ..moments import class_membership, mean, row_weights, shares
from ..pseudo_labels import PseudoLabels, Reference, without_relative_threshold, without_source_logits
from ..published_statistics import PublishedStatistics, load_statistics, needed, source_side

SOURCE, TARGET = 0, 1

Distance = Literal["squared", "cosine"]


class Prototype(Objective):
    r"""Prototype alignment of class centroids.

    Source and target centroids of the same class are drawn together.

    A source row belongs to its label's class, a target row to the predicted one once the model is nearly as sure of it
    as of the source (`PseudoLabels`; no gradient through predictions). A class's centroid is a moving average of its
    batch means \(\bar s_k\), \(\bar t_k\),

    \[c^S_k \leftarrow \theta\, c^S_k + (1-\theta)\, \bar s_k,\qquad c^T_k \leftarrow \theta\, c^T_k
      + (1-\theta)\, \bar t_k,\qquad \frac{1}{|C|}\sum_{k\in C} D(c^S_k, c^T_k)\]

    with gradient through the batch's share, 1 - θ of it. The first mean of a class is taken whole, and a class that
    the batch lacks keeps its centroid. C are the classes that both domains have had. Without one the loss is 0. D is
    the squared distance, as in Xie et al., or the cosine distance 1 - cos. They sum over classes; the mean here makes
    a weight mean the same for 3 classes and for 30.

    That form only attracts. With a `temperature` τ a centroid must be nearer to its own class than to the others of
    the other domain, those it has had at all, and D(c^S_k, c^T_k) gives way to

    \[\tfrac12\left(-\log\frac{\exp(-D(c^S_k, c^T_k)/\tau)}{\sum_l \exp(-D(c^S_k, c^T_l)/\tau)}
      -\log\frac{\exp(-D(c^S_k, c^T_k)/\tau)}{\sum_l \exp(-D(c^S_l, c^T_k)/\tau)}\right)\]

    The softmax over distances to prototypes is Snell et al.'s, with squared distances and τ = 1; with cosines and a
    small τ it is ProtoNCE's (Li et al.). Both contrast rows with the centroids of their own data; here the other
    domain's centroids are contrasted, which neither paper does.

    Source weights make \(\bar s_k\) a weighted mean. A weight that all rows of a class share cancels out: how frequent
    a class is makes no difference here.

    With `statistics`, the source's centroids are published prototypes and stay as they are; target rows are clipped as
    the site's rows were, and no source row is read. A class without a prototype is left out. Which target rows take
    part then follows the model's confidence on the target itself, as in FreeMatch: a row does that is at least as sure
    as target rows have been of late.

    Args:
        feature_dim, num_classes: widths.
        class_names: in the order of the logits; published prototypes are matched by name.
        decay: θ.
        threshold: a fixed probability that a target row's prediction must have; 0 takes all rows, as the paper does;
            relative when `None`.
        distance: `"squared"` or `"cosine"`.
        temperature: τ of the contrastive form; `None` for the plain one.
        relative_threshold: the threshold as a share of the mean confidence on source rows, 0.9 when both are `None`;
            with `statistics`, of the running mean confidence on target rows, 1 when both are `None`.
        per_class: lower the bar of classes whose rows seldom pass it.
        statistics: folder that `publish_statistics` wrote, in the place of source rows.

    Shapes: (n, d), (m, d), (n,), (m, K), (n,), (n, K) -> ().

    Paper: Xie et al., Learning Semantic Representations for Unsupervised Domain Adaptation, ICML 2018 (MSTN, of which
    this is the centroid term); Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017; Li et al.,
    Prototypical Contrastive Learning of Unsupervised Representations, ICLR 2021; the relative threshold: Berthelot et
    al., AdaMatch, ICLR 2022, and Wang et al., FreeMatch, ICLR 2023.
    """

    centroids: torch.Tensor
    seen: torch.Tensor
    paper = "Xie et al., Learning Semantic Representations for Unsupervised Domain Adaptation, ICML 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {
        "weight": Range(0.01, 1.0, log=True),
        "decay": (0.0, 0.7, 0.9),
        "relative_threshold": (None, 0.0, 0.8, 1.0),
        "per_class": (False, True),
        "distance": ("squared", "cosine"),
        "temperature": (None, 1.0, 10.0),
    }

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        decay: float = 0.7,
        threshold: float | None = None,
        distance: Distance = "squared",
        temperature: float | None = None,
        relative_threshold: float | None = None,
        per_class: bool = False,
        statistics: str | None = None,
        class_names: Sequence[str] = (),
    ):
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"decay={decay!r} must be at least 0 and below 1.")
        read_choice("distance", distance, Distance)
        if temperature is not None and not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number or nothing.")
        self.decay, self.distance, self.temperature = decay, distance, temperature
        relative_to: Reference = "source" if statistics is None else "target"
        self.pseudo_labels = PseudoLabels(num_classes, threshold, relative_threshold, per_class, relative_to)
        self.register_buffer("centroids", torch.zeros(2, num_classes, feature_dim))
        self.register_buffer("seen", torch.zeros(2, num_classes))  # 1 for a class that has a centroid
        self.published: PublishedStatistics | None = None
        if statistics is not None:
            self.published = load_statistics(statistics)
            self.published.need("prototypes", "prototype")
            self.published.check_width(feature_dim)
            self._set_source(self.published, class_names or tuple(map(str, range(num_classes))))

    def _set_source(self, published: PublishedStatistics, class_names: Sequence[str]) -> None:
        """Published prototypes as the source's centroids, in the order of the logits."""
        names = list(published.facts["classes"])
        if set(names) != set(class_names):
            raise ValueError(
                f"the published prototypes are of the classes {', '.join(names)}, and this run has "
                f"{', '.join(class_names)}: rename the labels of one of the two."
            )
        if len(published.without_prototype) == len(names):
            raise ValueError(
                "no class of the published prototypes has one: its rows were too few for the noise. Ask the site for "
                "prototypes alone, of more rows or with a larger epsilon."
            )
        order = [names.index(name) for name in class_names]
        self.centroids[SOURCE] = published.tensors["prototypes"][order]
        self.seen[SOURCE] = published.tensors["has_prototype"][order].to(self.seen.dtype)

    @classmethod
    def search_ranges(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return without_relative_threshold(settings, super().search_ranges(settings))

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return without_source_logits(settings, source_side(settings, cls.needs()))

    def forward(
        self,
        source_features: torch.Tensor | None = None,
        target_features: torch.Tensor | None = None,
        source_labels: torch.Tensor | None = None,
        target_logits: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
        source_logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        target_features = needed("target_features", target_features)
        target_logits = needed("target_logits", target_logits)
        ones = target_features.new_ones(len(target_features))
        if self.published is not None:
            pseudo = self.pseudo_labels(target_logits)
            target_features, s = self.published.clip(target_features), self.centroids[SOURCE].clone()
        else:
            source_features = needed("source_features", source_features)
            source_labels = needed("source_labels", source_labels)
            source_weights = row_weights(source_features, source_weights)
            pseudo = self.pseudo_labels(target_logits, source_logits, source_labels, source_weights)
            s = self._updated_centroids(SOURCE, source_features, source_labels, source_weights)
        t = self._updated_centroids(TARGET, target_features, pseudo, ones)
        if self.distance == "cosine":  # half the squared distance of what has length 1
            s, t = (F.normalize(x, dim=1) / math.sqrt(2) for x in (s, t))
        source_seen, target_seen = self.seen
        if self.temperature is None:
            values = (s - t).square().sum(1)
        else:
            center = mean(torch.cat([s, t]).detach(), self.seen.flatten())
            s, t = s - center, t - center  # products of rows far from the origin lose digits
            logits = squared_distances(s, t, squared_norms(s), squared_norms(t)) / -self.temperature
            masked = logits.masked_fill(~(source_seen.unsqueeze(1) * target_seen > 0), excluded_logit(logits))
            values = (masked.logsumexp(0) + masked.logsumexp(1)) / 2 - logits.diagonal()
        pair_counts = source_seen * target_seen
        return mean(torch.where(pair_counts > 0, values, 0), pair_counts)

    def _updated_centroids(
        self, domain: int, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Centroids after this batch, (K, d), with gradient through its share; the buffers are updated with them."""
        of_class = class_membership(labels, self.seen.shape[1]) * weights.unsqueeze(1)
        is_present = (of_class.sum(0) > 0).to(rows.dtype)
        centroids, was_seen = self.centroids[domain], self.seen[domain]
        share = is_present * (1 - self.decay * was_seen)
        updated = centroids + share.unsqueeze(1) * (shares(of_class).T @ rows - centroids)
        centroids.copy_(updated.detach())
        was_seen.copy_(torch.maximum(was_seen, is_present))
        return updated
