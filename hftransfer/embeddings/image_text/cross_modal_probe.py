"""Cross-modal probe: class names as extra training rows of a classifier of few images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .align import ImageTextAlignment
from .captioned_images import checked_captions
from .prompts import TEMPLATES


def names_as_shots(
    alignment: ImageTextAlignment,
    images: Any,
    labels: Sequence[str],
    names: Sequence[str] | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows of a probe in the common space: the images, and each class's name as one image more.

    Classes of which there is no image are trained on by their names alone.

    Args:
        alignment: trained; its embeddings are the features.
        images: few, as `Embedder` takes them.
        labels: (n,) class names.
        names: of all classes; those of `labels` when `None`.
        templates: around the names.

    Returns:
        (n + K, width) and (n + K,), for any scikit-learn classifier; predict on `alignment.embed_images`.

    Raises:
        ValueError: not one label an image, or a label that is not among the names.

    Paper: Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models, CVPR
    2023.

    Example:
        >>> pictures = [np.full((8, 8, 3), 40 * i, dtype=np.uint8) for i in range(4)]
        >>> alignment = align_image_text(
        ...     "runs/image-encoder", "runs/teacher", pictures, ["w1", "w2", "w1", "w2"],
        ...     settings=ProjectionSettings(steps=2), cache_dir=False, progress=False,
        ... )
        >>> rows, labels = names_as_shots(alignment, pictures[:1], ["w1"], ["w1", "w2", "w3"])
        >>> rows.shape, labels.tolist()
        ((4, 32), ['w1', 'w1', 'w2', 'w3'])
    """
    labels = checked_captions(labels, "labels")
    classes = list(dict.fromkeys(labels if names is None else map(str, names)))
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise ValueError(f"labels: {unknown[0]!r} is not among the names ({', '.join(classes)}).")
    embeddings = alignment.embed_images(images)
    if len(embeddings) != len(labels):
        raise ValueError(f"labels: there are {len(labels)} for {len(embeddings)} images.")
    rows = np.concatenate([embeddings, alignment.embed_names(classes, templates)])
    return rows, np.array([*labels, *classes])
