"""Embedder: frozen features as a scikit-learn transformer."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from .embed import Embeddings, embed_rows
from .feature_extractor import FeatureExtractor
from .input_rows import input_rows


class Embedder(TransformerMixin, BaseEstimator):
    """Frozen features of a pretrained model, as a scikit-learn transformer with a cache.

    It learns nothing: `fit` only checks the settings. Pipelines, `GridSearchCV` and `cross_val_score` work, and the
    features of a row are computed once.

    Args:
        model: Hub id, folder, or a loaded transformers model.
        pooling, layer, max_length, batch_size, dtype, device, processing_class, revision: see `embed`.
        cache_dir: folder of the cache; the usual one when `None`; `False` keeps nothing.
        cache_size: limit such as `"20 GB"`.
        column: of a data set; found when `None`.
        progress: show how far it is.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> probe = make_pipeline(Embedder("runs/teacher", cache_dir=False), LogisticRegression())
        >>> probe.fit(["w1 w2", "w3", "w1 w4", "w3 w5"], ["up", "down", "up", "down"]).predict(["w1 w2"]).shape
        (1,)
    """

    def __init__(
        self,
        model: Any,
        pooling: Any = "mean",
        layer: Any = -1,
        max_length: int | None = None,
        batch_size: int = 64,
        dtype: Any = None,
        device: Any = None,
        cache_dir: str | os.PathLike[str] | bool | None = None,
        processing_class: Any = None,
        column: str | None = None,
        revision: str | None = None,
        cache_size: str | int | None = None,
        progress: bool = True,
    ):
        self.model = model
        self.pooling = pooling
        self.layer = layer
        self.max_length = max_length
        self.batch_size = batch_size
        self.dtype = dtype
        self.device = device
        self.cache_dir = cache_dir
        self.processing_class = processing_class
        self.column = column
        self.revision = revision
        self.cache_size = cache_size
        self.progress = progress

    def fit(self, rows: Any, y: Any = None) -> Embedder:
        """Nothing but a check of the settings.

        Raises:
            TypeError, ValueError: a setting that cannot be used.
        """
        self.extractor()
        return self

    def transform(self, rows: Any, column: str | None = None) -> np.ndarray:
        """Features of rows.

        Args:
            rows: texts, lists of words or images, or a data set that holds some; see `embed`.
            column: of a data set.

        Returns:
            (rows, width), float32: memory-mapped and read-only, or in memory with `cache_dir=False`. With
            `pooling="token"`, (words, width).

        Raises:
            TypeError, ValueError, FileNotFoundError, FloatingPointError: as `embed`.
        """
        return self.embed(rows, column).features

    def embed(self, rows: Any, column: str | None = None) -> Embeddings:
        """Features of rows, with what their columns and rows are; see `transform`."""
        extractor = self.extractor()
        inputs = input_rows(rows, column or self.column, extractor.modality)
        return embed_rows(extractor, inputs, self.batch_size, self.cache_dir, self.cache_size, self.progress)

    def extractor(self) -> FeatureExtractor:
        """Extractor of the present settings, with the model that was loaded last where it is still the one."""
        settings = {
            name: getattr(self, name)
            for name in ("model", "pooling", "layer", "max_length", "dtype", "device", "processing_class", "revision")
        }
        shared = self.__dict__.setdefault("_shared", {})
        if shared.get("settings") != settings:
            shared |= {"settings": settings, "extractor": FeatureExtractor(**settings)}
        extractor: FeatureExtractor = shared["extractor"]
        return extractor

    def __sklearn_clone__(self) -> Embedder:
        """Copy with the same settings, which shares the loaded model: it is never changed."""
        clone = type(self)(**self.get_params(deep=False))
        clone.__dict__["_shared"] = self.__dict__.setdefault("_shared", {})
        return clone

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_shared", None)  # a model that was loaded is loaded again
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return True
