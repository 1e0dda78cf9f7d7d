"""Zero-shot measures: accuracy and retrieval in a common space, and what can be had without training one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.preprocessing import normalize


def ensemble(embeddings: np.ndarray, templates: int) -> np.ndarray:
    """Class embeddings: the mean over the templates of each class, of length 1.

    Args:
        embeddings: (classes x templates, width) of length 1, the templates of a class one after another, as `prompts`
            writes them.
        templates: how many.

    Returns:
        (classes, width).
    """
    return np.asarray(normalize(embeddings.reshape(-1, templates, embeddings.shape[1]).mean(1)))


def class_accuracy(scores: np.ndarray, labels: np.ndarray, candidates: Sequence[int] | None = None) -> float:
    """Mean over the classes of the share of their rows that are predicted rightly.

    Args:
        scores: (n, K).
        labels: (n,) numbers of the classes.
        candidates: columns that may be predicted; all when `None`.

    Raises:
        ValueError: no rows.

    Example:
        >>> class_accuracy(np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 1, 1]))
        0.75
    """
    if not len(labels):
        raise ValueError("There are no rows to score.")
    columns = np.arange(scores.shape[1]) if candidates is None else np.asarray(candidates)
    right = columns[scores[:, columns].argmax(1)] == labels
    return float(np.mean([right[labels == k].mean() for k in np.unique(labels)]))


def harmonic_mean(first: float, second: float) -> float:
    """Harmonic mean of the accuracies on new and on trained classes, which is high where both are.

    Paper: Xian et al., Zero-Shot Learning: A Comprehensive Evaluation of the Good, the Bad and the Ugly, TPAMI 2018.

    Example:
        >>> round(harmonic_mean(0.5, 1.0), 3), harmonic_mean(0.0, 0.0)
        (0.667, 0.0)
    """
    return 2 * first * second / (first + second) if first + second else 0.0


def retrieval_recall(scores: np.ndarray, query_groups: np.ndarray, gallery_groups: np.ndarray, k: int) -> float:
    """R@k: the share of queries with a row of their own group among the k best.

    Args:
        scores: (queries, gallery).
        query_groups, gallery_groups: (queries,) and (gallery,) integers.
        k: how many rows are looked at.

    Raises:
        ValueError: k is no positive number.

    Example:
        >>> retrieval_recall(np.array([[0.1, 0.9, 0.5]]), np.array([7]), np.array([7, 8, 7]), k=2)
        1.0
    """
    if k < 1:
        raise ValueError(f"k={k!r} must be a whole number, at least 1.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((gallery_groups[best] == query_groups[:, None]).any(1).mean())


def linear_cka(images: np.ndarray, texts: np.ndarray) -> float:
    r"""Linear CKA: how alike two encoders order the same things, from 0 to 1.

    \[\frac{\lVert X^\top Y\rVert_F^2}{\lVert X^\top X\rVert_F \lVert Y^\top Y\rVert_F}\]

    with centred columns. With few rows and wide features it is high whatever the encoders are.

    Args:
        images, texts: (n, d) and (n, e), row by row of the same thing.

    Paper: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019.

    Example:
        >>> rows = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
        >>> round(linear_cka(rows, 3 * rows), 6)
        1.0
    """
    k, m = (_centred(rows @ rows.T) for rows in (images.astype(np.float64), texts.astype(np.float64)))
    return float((k * m).sum() / max(np.linalg.norm(k) * np.linalg.norm(m), 1e-300))


def cka_scores(
    images: np.ndarray, texts: np.ndarray, image_anchors: np.ndarray, text_anchors: np.ndarray
) -> np.ndarray:
    """Local CKA: of each image and each text, the CKA of anchors with the two added. Nothing is trained.

    Args:
        images, texts: (n, d) and (K, e) features.
        image_anchors, text_anchors: (a, d) and (a, e), row by row of the same thing, such as the means of the trained
            classes and their names; a few dozen at most.

    Returns:
        (n, K).

    Paper: Maniparambil et al., Do Vision and Language Encoders Represent the World Similarly?, CVPR 2024.
    """
    left, right = _added_kernels(images, image_anchors), _added_kernels(texts, text_anchors)
    return np.asarray(normalize(left) @ normalize(right).T)


def conse_scores(
    logits: np.ndarray, known_texts: np.ndarray, texts: np.ndarray, top: int = 10, mean: np.ndarray | None = None
) -> np.ndarray:
    """ConSE: an image is where the names of the classes that its classifier takes it for are. Nothing is trained.

    Args:
        logits: (n, classes) of the image encoder's own classifier.
        known_texts: (classes, e) features of their names.
        texts: (K, e) features of the new names.
        top: so many of the likeliest classes count.
        mean: (e,) taken off all names; the mean of `known_texts` when `None`.

    Returns:
        (n, K) cosines.

    Paper: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, ICLR 2014.
    """
    mean = known_texts.mean(0) if mean is None else mean
    shifted = logits - logits.max(1, keepdims=True)
    shares = np.exp(shifted)
    limit = np.sort(shares, axis=1)[:, -min(top, shares.shape[1])][:, None]
    shares = np.where(shares >= limit, shares, 0)
    return np.asarray(normalize(shares @ normalize(known_texts - mean)) @ normalize(texts - mean).T)


def _added_kernels(rows: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n, (a + 1)²) centred kernels of cosines between the anchors and one row more."""
    mean = anchors.mean(0)
    unit, added = normalize(anchors - mean), normalize(rows - mean)
    size = len(anchors) + 1
    kernels = np.empty((len(rows), size, size))
    kernels[:, :-1, :-1] = unit @ unit.T
    kernels[:, :-1, -1] = kernels[:, -1, :-1] = added @ unit.T
    kernels[:, -1, -1] = (added**2).sum(1)
    centre = np.eye(size) - 1 / size
    return np.asarray((centre @ kernels @ centre).reshape(len(rows), -1))


def _centred(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(kernel - kernel.mean(0) - kernel.mean(1, keepdims=True) + kernel.mean())
