"""Few-shot classifier: prototypes, a probe, or an encoder tuned on pairs, saved as a plain model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from transformers import PreTrainedModel

from ...messages import shown
from ...setting_ranges import POSITIVE
from ...settings import read_choice
from ..embed import check_pass
from ..embedder import Embedder
from ..feature_extractor import FeatureExtractor
from ..input_rows import InputRows, input_rows
from ..nearest_prototype import NearestPrototype
from ..probe_export import export_probe
from ..training_state import remove_training_state
from .labelled_rows import SOURCE, labelled_rows
from .pair_training import STATE, PairSettings, PairTraining, train_on_pairs
from .token_mean import token_mean_classifier
from .unit_spread import UnitSpread

FewShotMethod = Literal["prototype", "probe", "pairs", "pairs_prototype"]
METHODS: tuple[FewShotMethod, ...] = get_args(FewShotMethod)
TUNED, LOGISTIC = ("pairs", "pairs_prototype"), ("probe", "pairs")


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Classifier from a few labelled rows a class, of texts or images, that is saved as a plain model.

    Features are centred and scaled by one number before the classifier. A text encoder of BERT's kind whose features
    are means over tokens gets one more layer, so that a plain model can hold the result; the means are then centred
    over their own entries and of one length.

    Args:
        model: Hub id, folder, or a loaded transformers model, which stays as it is.
        method: `"prototype"` (the nearest prototype on frozen features), `"probe"` (logistic regression on them),
            `"pairs"` (logistic regression after the encoder was tuned on pairs of rows, as in SetFit) or
            `"pairs_prototype"` (the nearest prototype after that).
        pooling: see `embed`; `"mean"` of texts and `"head"` of images when `None`.
        pairs: settings of pair training; the usual ones when `None`.
        C: inverse strength of the logistic regression's penalty.
        max_length, batch_size, device, cache_dir, processing_class, revision, progress: see `embed`.
        column: of a data set, with the texts or images; found when `None`.
        folder: for the state of pair training, so that a run that was stopped goes on; `save` removes the state.
            Nothing is kept when `None`.

    Attributes:
        classes_: (K,) in order.
        labels_: (n,) of the rows that were learned from.
        training_: of the encoder, a `PairTraining`; `None` of a frozen one.
        pooling_: how hidden states become features.
        pipeline_: embedder, scaling and classifier, as `export_probe` takes it.

    Paper: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022 (SetFit); Wang et al., SimpleShot, 2019.

    Example:
        >>> texts, labels = ["w1 w2", "w3", "w1 w4", "w3 w5"], ["up", "down", "up", "down"]
        >>> few = FewShotClassifier("runs/teacher", "pairs", cache_dir=False, progress=False).fit(texts, labels)
        >>> few.training_.steps, few.predict(["w1 w6"]).shape
        (1, (1,))
        >>> few.save("runs/few").config.id2label
        {0: 'down', 1: 'up'}
    """

    def __init__(
        self,
        model: Any,
        method: FewShotMethod = "pairs",
        pooling: str | None = None,
        pairs: PairSettings | None = None,
        C: float = 1.0,
        max_length: int | None = None,
        batch_size: int = 64,
        device: Any = None,
        cache_dir: str | os.PathLike[str] | bool | None = None,
        processing_class: Any = None,
        column: str | None = None,
        revision: str | None = None,
        progress: bool = True,
        folder: str | os.PathLike[str] | None = None,
    ):
        self.model = model
        self.method = method
        self.pooling = pooling
        self.pairs = pairs
        self.C = C
        self.max_length = max_length
        self.batch_size = batch_size
        self.device = device
        self.cache_dir = cache_dir
        self.processing_class = processing_class
        self.column = column
        self.revision = revision
        self.progress = progress
        self.folder = folder

    def fit(self, rows: Any, y: ArrayLike | str) -> FewShotClassifier:
        """Classifier of the labelled rows.

        Args:
            rows: texts or images, or a data set that holds some; see `embed`.
            y: (n,) labels, or the name of a data set's column with them, whose empty rows are left out.

        Raises:
            TypeError, ValueError: settings, rows or labels that cannot be used; the message names the setting or row.
            FloatingPointError: pair training that diverges, or features that are not finite.
            DiskFullError: there is no room for the state of pair training.
        """
        tunes, head = self._checked_settings()
        rows, labels = labelled_rows(rows, y, self.column)
        self.classes_, classes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"All labelled rows of the source are of one class, {shown(self.classes_[0].item())}: a classifier "
                "needs two."
            )
        extractor, inputs = self._read(rows)
        if inputs.count != len(labels):
            raise ValueError(f"{SOURCE}: there are {len(labels)} labels for {inputs.count} rows.")
        self.labels_ = labels
        self.training_: PairTraining | None = None
        self.pooling_ = extractor.poolings[0]
        if tunes:
            self.training_ = train_on_pairs(extractor, inputs, classes, self.pairs, self.progress, self.folder)
            processing = extractor.processing(inputs.kind)
            extractor = self._extractor(self.training_.model, extractor.poolings[0], processing)
        self.modality_ = inputs.modality
        self.pipeline_: Pipeline = make_pipeline(self._embedder(extractor, inputs), UnitSpread(), head)
        self.pipeline_.fit(inputs, labels)
        if tunes and self.pipeline_[-2].alike_:
            raise FloatingPointError(
                "Pair training has made the features of all rows alike, so no class can be told: lower learning_rate."
            )
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """(n,) classes of rows.

        Args:
            rows: texts or images, or a data set that holds some.
        """
        check_is_fitted(self)
        return np.asarray(self.pipeline_.predict(rows))

    @available_if(lambda self: str(self.method) in LOGISTIC)
    def predict_proba(self, rows: Any) -> np.ndarray:
        """(n, K) probabilities; the nearest prototype has none.

        Args:
            rows: as in `predict`.
        """
        check_is_fitted(self)
        return np.asarray(self.pipeline_.predict_proba(rows))

    def decision_function(self, rows: Any) -> np.ndarray:
        """(n, K) scores, the logits of the saved model; of two classes (n,), the difference of its two logits.

        Args:
            rows: as in `predict`.
        """
        check_is_fitted(self)
        return np.asarray(self.pipeline_.decision_function(rows))

    def score(self, rows: Any, y: ArrayLike | str) -> float:
        """Accuracy on labelled rows.

        Args:
            rows, y: as in `fit`.

        Raises:
            ValueError: rows or labels that cannot be used; numbers where names of classes were learned, or names where
                numbers were.
        """
        check_is_fitted(self)
        rows, labels = labelled_rows(rows, y, self.column, "test")
        given, learned = labels[0].item(), self.classes_[0].item()
        if isinstance(given, str) != isinstance(learned, str):
            raise ValueError(
                f"test: the labels are such as {shown(given)}, and those that were learned such as {shown(learned)}. "
                "Write both as texts, or both as numbers."
            )
        return float(np.mean(self.predict(rows) == labels))

    def save(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        names: Sequence[str] | None = None,
        card: str | None = None,
    ) -> PreTrainedModel:
        """Plain `AutoModelForSequenceClassification` or `AutoModelForImageClassification`, saved with its processor.

        Args:
            output_dir: a folder that does not exist yet; nothing is written when `None`.
            names: of the classes in the order of `classes_`; those themselves when `None`.
            card: text of its README.md, such as `few_shot_card` gives; there is none when `None`.

        Returns:
            The model, which loads and works without hftransfer.

        Raises:
            ValueError: the model's last layer cannot read these features; another `pooling` may do.
            FileExistsError: `output_dir` exists.
        """
        check_is_fitted(self)
        model = export_probe(self.pipeline_, output_dir, names, self.modality_, card)
        if output_dir is not None and self.folder is not None:
            remove_training_state(Path(self.folder) / STATE)
        return model

    def card_facts(self) -> dict[str, Any]:
        """Facts that `few_shot_card` takes: base model, method, labelled rows by class, settings.

        Example:
            >>> texts, labels = ["w1 w2", "w3", "w1 w4", "w3 w5"], ["up", "down", "up", "down"]
            >>> few = FewShotClassifier("runs/teacher", "probe", cache_dir=False, progress=False).fit(texts, labels)
            >>> few.card_facts()["labelled"]
            {'down': 2, 'up': 2}
        """
        check_is_fitted(self)
        is_name = isinstance(self.model, str)
        settings: dict[str, Any] = {"method": self.method, "pooling": self.pooling_}
        if self.method in LOGISTIC:
            settings["C"] = self.C
        for name in ("max_length", "revision"):
            if getattr(self, name) is not None:
                settings[name] = getattr(self, name)
        if self.training_ is not None:
            settings |= {"steps of pair training": self.training_.steps, **asdict(self.pairs or PairSettings())}
            del settings["save_steps"]
        counts = Counter(self.labels_.tolist())
        return {
            "base_model": self.model if is_name else getattr(self.model.config, "_name_or_path", ""),
            "modality": self.modality_,
            "method": self.method,
            "labelled": {str(name): counts[name] for name in self.classes_.tolist()},
            "settings": settings,
        }

    def check_save(self, rows: Any, y: ArrayLike | str) -> None:
        """Check that what is fitted on these rows can be saved, before an encoder is tuned.

        Args:
            rows, y: as in `fit`.

        Raises:
            ValueError: it cannot; the message says why, and which pooling can.
        """
        self._checked_settings()
        frozen = {"method": "prototype", "pairs": None, "C": 1.0, "cache_dir": False, "folder": None}
        settings = {**self.get_params(deep=False), **frozen}
        FewShotClassifier(**settings).fit(rows, y).save()

    def _checked_settings(self) -> tuple[bool, Any]:
        """Whether the encoder is tuned, and the classifier on its features."""
        read_choice("method", self.method, METHODS)
        check_pass(self.batch_size, self.cache_dir)
        tunes, is_logistic = self.method in TUNED, self.method in LOGISTIC
        if self.pairs is not None and not isinstance(self.pairs, PairSettings):
            raise TypeError(f"pairs={shown(self.pairs)} must be PairSettings(…) or None.")
        if self.pairs is not None and not tunes:
            raise ValueError(
                f"method={self.method!r} tunes no encoder, so it takes no settings of pairs: leave them out."
            )
        if not isinstance(self.folder, (str, os.PathLike, type(None))):
            raise TypeError(f"folder={shown(self.folder)} must be a path or None.")
        if self.folder is not None and not tunes:
            raise ValueError(
                f"method={self.method!r} trains on no pairs, so folder={os.fspath(self.folder)!r} would stay empty: "
                "leave it out."
            )
        C = POSITIVE.read("C", self.C)
        if not is_logistic and C != 1:
            raise ValueError(f"C={C} is of a logistic regression, and method={self.method!r} has none: leave it out.")
        if self.pooling == "token" or not isinstance(self.pooling, (str, type(None))):
            raise ValueError(f"pooling={self.pooling!r} must be one pooling that gives a vector a row.")
        return tunes, LogisticRegression(C=C, max_iter=1000) if is_logistic else NearestPrototype(linear=True)

    def _read(self, rows: Any) -> tuple[FeatureExtractor, InputRows]:
        """Extractor for such rows, and the rows as it takes them."""
        modality = self._extractor(self.model, "mean", self.processing_class).modality
        inputs = input_rows(rows, self.column, modality, SOURCE)
        if inputs.count is None:
            raise ValueError(f"{SOURCE} is a stream: pass a list or a map-style data set of the labelled rows.")
        pooling = self.pooling or ("head" if inputs.kind == "image" else "mean")
        return self._extractor(self.model, pooling, self.processing_class), inputs

    def _extractor(self, model: Any, pooling: str, processing: Any) -> FeatureExtractor:
        device = self.device if model is self.model else None
        return FeatureExtractor(model, pooling, -1, self.max_length, None, device, processing, self.revision)

    def _embedder(self, extractor: FeatureExtractor, inputs: InputRows) -> Embedder:
        """Embedder of the extractor's features, by a model whose last layer reads them where there is one."""
        model, pooling = extractor.model, extractor.poolings[0]
        if inputs.kind != "image" and pooling == "mean":
            classifier = token_mean_classifier(extractor, inputs.kind)
            model, pooling = (model, pooling) if classifier is None else (classifier, "head")
        return Embedder(
            model,
            pooling,
            max_length=self.max_length,
            batch_size=self.batch_size,
            device=self.device if model is self.model else None,
            cache_dir=self.cache_dir,
            processing_class=extractor.processing(inputs.kind),
            column=self.column,
            revision=self.revision if model is self.model else None,
            progress=self.progress,
        )

    def __sklearn_clone__(self) -> FewShotClassifier:
        """Copy with the same settings and the same loaded model, which fitting never changes."""
        return type(self)(**self.get_params(deep=False))
