"""Zero-shot report: accuracy on new and trained classes and retrieval, beside chance and what needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .align import ImageTextAlignment
from .captioned_images import checked_captions
from .known_classes import known_classes
from .prompts import TEMPLATES, prompts
from .zero_shot import cka_scores, class_accuracy, conse_scores, ensemble, retrieval_recall

DEPTHS = (1, 10)  # of retrieval
ANCHORS = 100  # classes of which the local CKA is computed at most: its cost grows with their square


def zero_shot_report(
    alignment: ImageTextAlignment,
    images: Any,
    captions: Sequence[str],
    anchors: tuple[Any, Sequence[str]] | None = None,
    templates: Sequence[str] | None = TEMPLATES,
) -> dict[str, dict[str, float]]:
    """Scores on labelled test images: of the alignment, of chance, and of what needs no training.

    Args:
        alignment: trained.
        images, captions: to score on. Class names that were not trained on are the new ones.
        anchors: training images and class names, of which local CKA takes the class means; without, it is left out.
        templates: `None` where captions are sentences; then only retrieval is scored.

    Returns:
        `{method: {score: value}}`. `new_accuracy` is on images of new classes among all names, `new_only_accuracy`
        among the new names, `trained_accuracy` on trained classes among all names: each the mean over classes.
        `image_to_text_…_recall` ranks names or captions for an image, `text_to_image_…_recall` images for a name.

    Raises:
        ValueError: not one caption an image, or a caption that is a number or nothing.

    Example:
        >>> from types import SimpleNamespace
        >>> pictures = [np.full((8, 8, 3), 40 * i, dtype=np.uint8) for i in range(6)]
        >>> alignment = align_image_text(
        ...     "runs/image-encoder", "runs/teacher", pictures[:4], ["w1", "w2", "w1", "w2"],
        ...     settings=ProjectionSettings(steps=2), cache_dir=False, progress=False,
        ... )
        >>> report = zero_shot_report(alignment, pictures, ["w1", "w2", "w1", "w2", "w3", "w3"])
        >>> round(report["chance"]["new_accuracy"], 2)
        0.33
    """
    captions = checked_captions(captions, "captions")
    names = list(dict.fromkeys([*(alignment.names if templates is not None else ()), *captions]))
    labels = np.array([names.index(caption) for caption in captions])
    sentences = names if templates is None else prompts(names, templates)
    count = 1 if templates is None else len(templates)
    features = np.asarray(alignment.image_embedder.transform(images))
    if len(features) != len(captions):
        raise ValueError(f"captions: there are {len(captions)} for {len(features)} images.")
    texts = np.asarray(alignment.text_embedder.transform(sentences))
    with torch.no_grad():
        u = alignment.projections.images(torch.from_numpy(np.array(features))).numpy()
        v = ensemble(alignment.projections.texts(torch.from_numpy(np.array(texts))).numpy(), count)
    new = [k for k, name in enumerate(names) if name not in alignment.names]
    report = {"chance": _chance(labels, new, len(names), templates is not None)}
    means = texts.reshape(len(names), count, -1).mean(1)
    if templates is not None:
        if anchors is not None:
            report["local CKA, nothing trained"] = _scores(
                _cka(alignment, anchors, features, names, means), labels, new
            )
        known = known_classes(alignment.image_embedder.extractor())
        if known is not None:
            known_names, weight, bias = known
            known_texts = np.asarray(alignment.text_embedder.transform(prompts(known_names, TEMPLATES[:1])))
            report["ConSE, nothing trained"] = _scores(
                conse_scores(features @ weight.T + bias, known_texts, texts[::count]), labels, new
            )
    report["aligned"] = _scores(u @ v.T, labels, new, templates is not None)
    return report


def _scores(scores: np.ndarray, labels: np.ndarray, new: list[int], classes: bool = True) -> dict[str, float]:
    found: dict[str, float] = {}
    if classes:
        is_new = np.isin(labels, new)
        if is_new.any():
            found["new_accuracy"] = class_accuracy(scores[is_new], labels[is_new])
            found["new_only_accuracy"] = class_accuracy(scores[is_new], labels[is_new], new)
        if not is_new.all():
            found["trained_accuracy"] = class_accuracy(scores[~is_new], labels[~is_new])
    present, numbers = np.unique(labels), np.arange(scores.shape[1])
    for k in DEPTHS:
        found[f"image_to_text_R@{k}_recall"] = retrieval_recall(scores, labels, numbers, k)
    for k in DEPTHS:
        found[f"text_to_image_R@{k}_recall"] = retrieval_recall(scores.T[present], present, labels, k)
    return found


def _chance(labels: np.ndarray, new: list[int], count: int, classes: bool) -> dict[str, float]:
    """Expected scores of a ranking at random."""
    found: dict[str, float] = {}
    if classes:
        if new:
            found |= {"new_accuracy": 1 / count, "new_only_accuracy": 1 / len(new)}
        if not np.isin(labels, new).all():
            found["trained_accuracy"] = 1 / count
    counts = np.unique(labels, return_counts=True)[1]
    for k in DEPTHS:
        found[f"image_to_text_R@{k}_recall"] = min(1.0, k / count)
    for k in DEPTHS:
        found[f"text_to_image_R@{k}_recall"] = float(np.mean([_hit(len(labels), c, k) for c in counts]))
    return found


def _hit(rows: int, right: int, k: int) -> float:
    """Probability that one of k rows drawn without replacement is right."""
    drawn = np.arange(min(k, rows))
    return float(1 - np.prod(np.maximum(rows - right - drawn, 0) / (rows - drawn)))


def _cka(
    alignment: ImageTextAlignment,
    anchors: tuple[Any, Sequence[str]],
    features: np.ndarray,
    names: list[str],
    texts: np.ndarray,
) -> np.ndarray:
    rows, of = np.asarray(alignment.image_embedder.transform(anchors[0])), np.array(list(map(str, anchors[1])))
    present = [name for name in names if (of == name).any()][:ANCHORS]
    image_anchors = np.stack([rows[of == name].mean(0) for name in present])
    text_anchors = texts[[names.index(name) for name in present]]
    return cka_scores(features, texts, image_anchors, text_anchors)
