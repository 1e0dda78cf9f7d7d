"""Image-text pairs as cached features: images and texts in groups, any text of a group with any of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageTextPairs:
    """Pairs of frozen features. Images and texts of one group belong together.

    Of classes, a group is a class, with its images and its name in several templates; of captions, a group is a
    caption with its image.

    Args:
        images: (n, d).
        image_groups: (n,) integers.
        texts: (m, e).
        text_groups: (m,) integers.
        weights: (n,) how often an image is drawn; every group as often as any other when `None`.

    Raises:
        ValueError: shapes that do not go together, values that are not finite, or an image without a text.
    """

    images: np.ndarray
    image_groups: np.ndarray
    texts: np.ndarray
    text_groups: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, rows, groups in (
            ("images", self.images, self.image_groups),
            ("texts", self.texts, self.text_groups),
        ):
            if rows.ndim != 2 or groups.shape != (len(rows),) or not len(rows):
                raise ValueError(
                    f"{name} must be (rows, width) with one group a row, not {rows.shape}, {groups.shape}."
                )
            if not np.isfinite(rows).all():
                raise ValueError(f"{name}: the features are not all finite.")
        lacking = np.setdiff1d(self.image_groups, self.text_groups)
        if len(lacking):
            raise ValueError(f"Images of group {lacking[0]} have no text.")
        if self.weights is None:
            object.__setattr__(self, "weights", group_weights(self.image_groups))
        assert self.weights is not None
        if self.weights.shape != self.image_groups.shape or self.weights.min() < 0 or not self.weights.sum() > 0:
            raise ValueError("weights must be one number of at least 0 an image, not all of them 0.")

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image numbers, and for each the number of a text of its group, both (count,), drawn with replacement."""
        assert self.weights is not None
        chosen = rng.choice(len(self.images), size=count, p=self.weights / self.weights.sum())
        order = np.argsort(self.text_groups, kind="stable")
        first = np.searchsorted(self.text_groups[order], self.image_groups[chosen])
        counts = np.searchsorted(self.text_groups[order], self.image_groups[chosen], side="right") - first
        return chosen, order[first + rng.integers(0, counts)]

    def text_targets(self) -> np.ndarray:
        """(n, e) mean of the texts of each image's group, each text of length 1."""
        texts = self.texts / np.maximum(np.linalg.norm(self.texts, axis=1, keepdims=True), 1e-12)
        groups, number = np.unique(self.text_groups, return_inverse=True)
        sums = np.zeros((len(groups), texts.shape[1]))
        np.add.at(sums, number, texts)
        means = sums / np.bincount(number)[:, None]
        return np.asarray(means[np.searchsorted(groups, self.image_groups)])


def group_weights(groups: np.ndarray) -> np.ndarray:
    """(n,) weights by which every group counts 1 in all.

    Example:
        >>> group_weights(np.array([5, 5, 7]))
        array([0.5, 0.5, 1. ])
    """
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[number])


def joined(pairs: ImageTextPairs, others: ImageTextPairs) -> ImageTextPairs:
    """Pairs of both, whose groups stay apart, with the weights that they have."""
    assert pairs.weights is not None
    assert others.weights is not None
    shift = int(max(pairs.text_groups.max(), pairs.image_groups.max())) + 1
    low = int(min(others.text_groups.min(), others.image_groups.min()))
    return ImageTextPairs(
        np.concatenate([pairs.images, others.images]),
        np.concatenate([pairs.image_groups, others.image_groups - low + shift]),
        np.concatenate([pairs.texts, others.texts]),
        np.concatenate([pairs.text_groups, others.text_groups - low + shift]),
        np.concatenate([pairs.weights, others.weights]),
    )
