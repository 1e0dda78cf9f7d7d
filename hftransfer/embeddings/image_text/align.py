"""Alignment of a frozen image encoder and a frozen text encoder, so that words classify images of new classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import VisionTextDualEncoderProcessor

from ...models.atomic_folder import new_folder
from ..embedder import Embedder
from ..training_state import remove_training_state
from .captioned_images import checked_captions
from .dual_encoder import check_dual_encoder, dual_encoder
from .image_text_pairs import ImageTextPairs, joined
from .known_classes import known_classes
from .projection_training import STATE, ProjectionSettings, train_projections
from .projections import Projections, ridge_projections
from .prompts import TEMPLATES, prompts
from .zero_shot import class_accuracy, ensemble, harmonic_mean, retrieval_recall

KNOWN_TEMPLATES = 2  # of a known class: there are many of them
KNOWN_WEIGHTS = (1.0, 3.0, 10.0)  # of which held-out classes choose one; the middle one where there are none
STAGES = ("choosing", "final")  # of the training, whose states are in folders of these names
FEWEST_CLASSES = 4  # of which some can be held out
SAMPLES = ("a", "a photo of two cats.")  # texts of different length


@dataclass
class ImageTextAlignment:
    """Image encoder and text encoder with projections into one space.

    Attributes:
        image_embedder, text_embedder: of the frozen encoders, with `pooling="pooler"`.
        projections: trained ones.
        names: class names, or captions, that were trained on.
        held_out: class names that chose the step, and were trained on only afterwards, in as many steps.
        step: number of steps that were kept.
        scores: of the held-out classes or validation captions, by step.
        known: how many of the image encoder's own classes were trained on as well.
        known_class_weight: how often one of them counted against a class or caption.
        settings: of the training.
        folder: with the state of the training, which `save` removes.

    Example:
        >>> pictures = [np.full((8, 8, 3), 40 * i, dtype=np.uint8) for i in range(4)]
        >>> alignment = align_image_text(
        ...     "runs/image-encoder", "runs/teacher", pictures, ["w1", "w2", "w1", "w2"],
        ...     settings=ProjectionSettings(steps=2), cache_dir=False, progress=False,
        ... )
        >>> alignment.embed_names(["w1", "w7"]).shape
        (2, 32)
    """

    image_embedder: Embedder
    text_embedder: Embedder
    projections: Projections
    names: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    step: int = 0
    scores: dict[int, float] = field(default_factory=dict)
    known: int = 0
    known_class_weight: float = 1.0
    settings: ProjectionSettings = field(default_factory=ProjectionSettings)
    folder: str | os.PathLike[str] | None = None

    def embed_images(self, images: Any) -> np.ndarray:
        """(n, width) embeddings of length 1 of images, as `Embedder` takes them."""
        return _projected(self.projections.images, self.image_embedder.transform(images))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) embeddings of length 1 of sentences."""
        return _projected(self.projections.texts, self.text_embedder.transform(list(texts)))

    def embed_names(self, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> np.ndarray:
        """(K, width) embeddings of classes by their names: the mean over the templates, of length 1."""
        return ensemble(self.embed_texts(prompts(names, templates)), len(templates))

    def classify(self, images: Any, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> np.ndarray:
        """(n, K) cosines of images and class names, whether trained on or new; the largest is the prediction."""
        return np.asarray(self.embed_images(images) @ self.embed_names(names, templates).T)

    def save(self, output_dir: str | os.PathLike[str], card: str | None = None) -> None:
        """Plain `VisionTextDualEncoderModel` with its processor, in a new folder, whole or not at all.

        Args:
            output_dir: it must not exist.
            card: text of its README.md.

        Raises:
            FileExistsError: there is something at `output_dir`.
            ValueError: the encoders do not fit such a model.
        """
        images, texts = (e.extractor().backbone(kind) for e, kind in self._sides())
        model = dual_encoder(images.backbone, texts.backbone, self.projections)
        model.config.hftransfer = {
            "image_text": {
                "names": list(self.names),
                "known_classes": self.known,
                "known_class_weight": self.known_class_weight,
                "step": self.step,
                "logit_bias": float(self.projections.logit_bias) if self.settings.loss == "siglip" else 0.0,
                **asdict(self.settings),
            }
        }
        check_sides(self.image_embedder, self.text_embedder, self.projections, model)
        with new_folder(output_dir) as folder:
            model.save_pretrained(folder)
            processor = VisionTextDualEncoderProcessor(images.processing, texts.processing)
            processor.save_pretrained(folder)
            images.processing.save_pretrained(folder)  # pipelines look for it by itself
            if card is not None:
                (folder / "README.md").write_text(card, encoding="utf-8")
        if self.folder is not None:
            for name in STAGES:
                remove_training_state(Path(self.folder) / name / STATE)
            with suppress(OSError):  # other files are in it, or there is none
                Path(self.folder).rmdir()

    def _sides(self) -> tuple[tuple[Embedder, str], tuple[Embedder, str]]:
        return (self.image_embedder, "image"), (self.text_embedder, "text")


def align_image_text(
    image_encoder: Any,
    text_encoder: Any,
    images: Any,
    captions: Sequence[str],
    *,
    validation: tuple[Any, Sequence[str]] | None = None,
    templates: Sequence[str] | None = TEMPLATES,
    held_out: Sequence[str] | None = None,
    use_known_classes: bool = True,
    known_class_weight: float | None = None,
    settings: ProjectionSettings | None = None,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | bool | None = None,
    batch_size: int = 64,
    device: Any = None,
    progress: bool = True,
) -> ImageTextAlignment:
    """Alignment of a frozen image encoder and a frozen text encoder by small projections.

    Both encoders run once over their rows, and the projections are trained on the cached features. Of the classes,
    some are held out first: their validation rows, and those of the other classes, choose the number of steps by the
    harmonic mean of both accuracies among all names. Then all classes are trained on, in as many steps.

    Args:
        image_encoder, text_encoder: Hub ids, folders or loaded models with a `pooler_output`.
        images: as `Embedder` takes them.
        captions: one an image: a class name, or with `templates=None` a sentence.
        validation: images and captions that choose the step; without them all steps are taken.
        templates: sentences around class names; `None` where captions are sentences already.
        held_out: class names that are held out to choose the step; every fifth when `None`, none where there are
            fewer than four classes.
        use_known_classes: train on the classes that the image encoder's own classifier knows too, if it has one: its
            weights stand for images, its labels are the names. With few classes this is what makes new names work.
        known_class_weight: how often one of them counts against a class or caption of yours; when `None`, 1, 3 or 10,
            whichever start the held-out classes find best, and 3 where none are held out.
        settings: of the training.
        folder: for the state of the training, so that a run that was stopped goes on.
        cache_dir, batch_size, device, progress: as in `embed`.

    Raises:
        ValueError: encoders or captions that cannot be used.
        FileNotFoundError: there is no such encoder.

    Example:
        >>> pictures = [np.full((8, 8, 3), 40 * i, dtype=np.uint8) for i in range(6)]
        >>> names = ["w1", "w2", "w3", "w1", "w2", "w3"]
        >>> alignment = align_image_text(
        ...     "runs/image-encoder", "runs/teacher", pictures, names,
        ...     settings=ProjectionSettings(steps=2), cache_dir=False, progress=False,
        ... )
        >>> alignment.classify(pictures, ["w1", "w7"]).shape
        (6, 2)
        >>> alignment.save("runs/dual")
    """
    settings = settings or ProjectionSettings()
    if known_class_weight is not None and not (np.isfinite(known_class_weight) and known_class_weight > 0):
        raise ValueError(f"known_class_weight={known_class_weight!r} must be a positive number.")
    if templates is not None:
        prompts(["name"], templates)  # refuses what is none before anything is computed
    options: dict[str, Any] = {"pooling": "pooler", "dtype": "float32", "device": device, "batch_size": batch_size}
    options |= {"cache_dir": cache_dir, "progress": progress}
    image_embedder, text_embedder = Embedder(image_encoder, **options), Embedder(text_encoder, **options)
    check_sides(image_embedder, text_embedder)
    rows = _rows(image_embedder, images, captions, "captions")
    rows_to_choose = None if validation is None else _rows(image_embedder, *validation, "validation captions")
    known = known_classes(image_embedder.extractor()) if use_known_classes else None
    weight = KNOWN_WEIGHTS[1] if known_class_weight is None else known_class_weight
    more = None if known is None else _known_pairs(known, text_embedder, rows)

    def pairs_of(chosen: _Rows, weight: float) -> ImageTextPairs:
        own = _pairs(chosen, text_embedder, templates)
        return own if more is None else joined(own, replace(more, weights=np.full(len(more.images), weight)))

    steps, final = settings.steps, None
    scores: dict[int, float] = {}
    chosen_out: tuple[str, ...] = ()
    if rows_to_choose is not None:
        chosen_out = _held_out(rows.names, held_out) if templates is not None else ()
        score = _Score(rows_to_choose, text_embedder, templates, rows.names, chosen_out)
        kept = rows.without(chosen_out)
        if more is not None and known_class_weight is None and chosen_out:
            starts = [ridge_projections(pairs_of(kept, w), settings.width, settings.ridge) for w in KNOWN_WEIGHTS]
            with torch.no_grad():
                weight = KNOWN_WEIGHTS[int(np.argmax([score(start) for start in starts]))]
        found = train_projections(pairs_of(kept, weight), settings, score, _inside(folder, STAGES[0]))
        steps, scores = found.step, found.scores
        final = None if chosen_out else found.projections
    if final is None:
        taken = replace(settings, steps=steps)
        final = train_projections(pairs_of(rows, weight), taken, None, _inside(folder, STAGES[1])).projections
    return ImageTextAlignment(
        image_embedder,
        text_embedder,
        final,
        rows.names,
        chosen_out,
        steps,
        scores,
        0 if known is None else len(known[0]),
        weight,
        settings,
        folder,
    )


def check_sides(
    image_embedder: Embedder, text_embedder: Embedder, projections: Projections | None = None, model: Any = None
) -> None:
    """Check, on noise and two short texts, that two encoders can be a dual encoder.

    Args:
        image_embedder, text_embedder: with `pooling="pooler"`.
        projections: of the model; random ones when `None`.
        model: made of all of them; it is made when `None`.

    Raises:
        ValueError: they cannot.
    """
    sides = [(e.extractor().backbone(kind), kind) for e, kind in ((image_embedder, "image"), (text_embedder, "text"))]
    noise = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    batch: dict[str, torch.Tensor] = {}
    features = []
    for (backbone, kind), values in zip(sides, (noise, list(SAMPLES)), strict=True):
        encoded, _ = backbone.encode(values, [f"sample {i}" for i in range(len(values))])
        inputs = backbone.stack(encoded)
        inputs = {"pixel_values": inputs["pixel_values"]} if kind == "image" else inputs
        with backbone.running():
            features.append(backbone.pooled(inputs, encoded)[0].float().cpu())
        batch |= {name: value.cpu() for name, value in inputs.items()}
    if projections is None:
        with torch.random.fork_rng(devices=[]):
            projections = Projections(features[0].shape[1], features[1].shape[1], features[1].shape[1])
    if model is None:
        model = dual_encoder(sides[0][0].backbone, sides[1][0].backbone, projections)
    with torch.no_grad():
        check_dual_encoder(model, batch, projections.images(features[0]), projections.texts(features[1]))


@dataclass(frozen=True)
class _Rows:
    """Image features with the number of each one's name."""

    features: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def without(self, names: Sequence[str]) -> _Rows:
        """Rows of other names; the numbers stay."""
        kept = ~np.isin(self.labels, [self.names.index(name) for name in names])
        return _Rows(np.asarray(self.features)[kept], self.labels[kept], self.names)


class _Score:
    """Score of projections on validation rows: of classes, the harmonic mean of the accuracies on held-out and on
    trained ones among all names; of captions, the mean R@1 of both directions."""

    def __init__(
        self,
        rows: _Rows,
        texts: Embedder,
        templates: Sequence[str] | None,
        trained: tuple[str, ...],
        held_out: Sequence[str],
    ):
        self.templates = 1 if templates is None else len(templates)
        self.images, self.is_caption = torch.from_numpy(np.array(rows.features)), templates is None
        if self.is_caption:
            self.names = rows.names
        else:
            self.names = tuple(dict.fromkeys([*trained, *rows.names]))
        self.labels = np.array([self.names.index(rows.names[k]) for k in rows.labels])
        sentences = list(self.names) if templates is None else prompts(self.names, templates)
        self.texts = torch.from_numpy(np.array(texts.transform(sentences)))
        self.is_held_out = np.isin(self.labels, [self.names.index(name) for name in held_out])
        if held_out and not (self.is_held_out.any() and not self.is_held_out.all()):
            raise ValueError(
                f"No validation row is of the held-out classes ({', '.join(held_out)}), or none of another: hold out "
                "others, or give more validation rows."
            )

    def __call__(self, projections: Projections) -> float:
        images = projections.images(self.images).numpy()
        scores = images @ ensemble(projections.texts(self.texts).numpy(), self.templates).T
        if self.is_caption:
            numbers = np.arange(len(self.names))
            return (
                retrieval_recall(scores, self.labels, numbers, 1) + retrieval_recall(scores.T, numbers, self.labels, 1)
            ) / 2
        new = self.is_held_out
        if not new.any():
            return class_accuracy(scores, self.labels)
        return harmonic_mean(
            class_accuracy(scores[new], self.labels[new]), class_accuracy(scores[~new], self.labels[~new])
        )


def _rows(embedder: Embedder, images: Any, captions: Sequence[str], what: str) -> _Rows:
    captions = checked_captions(captions, what)
    if hasattr(images, "__len__") and len(images) != len(captions):
        raise ValueError(f"{what}: there are {len(captions)} for {len(images)} images.")
    features = embedder.transform(images)
    if len(features) != len(captions):
        raise ValueError(f"{what}: there are {len(captions)} for {len(features)} images.")
    names = tuple(dict.fromkeys(captions))
    if len(names) < 2:
        raise ValueError(f"{what}: all are {names[0]!r}, and two different ones are needed at least.")
    number = {name: i for i, name in enumerate(names)}
    return _Rows(features, np.array([number[caption] for caption in captions]), names)


def _pairs(rows: _Rows, texts: Embedder, templates: Sequence[str] | None) -> ImageTextPairs:
    kept = np.unique(rows.labels)
    names = [rows.names[k] for k in kept]
    sentences = names if templates is None else prompts(names, templates)
    features = texts.transform(sentences)
    groups = np.repeat(kept, len(sentences) // len(names))
    return ImageTextPairs(np.asarray(rows.features), rows.labels, np.asarray(features), groups)


def _known_pairs(
    known: tuple[tuple[str, ...], np.ndarray, np.ndarray], texts: Embedder, rows: _Rows
) -> ImageTextPairs:
    """Pairs of known classes: their names, and rows of the classifier, as far apart as the images are."""
    names, images, _ = known
    features = texts.transform(prompts(names, TEMPLATES[:KNOWN_TEMPLATES]))
    numbers = np.arange(len(names))
    own = np.asarray(rows.features, dtype=np.float64)
    spread = np.linalg.norm(own - own.mean(0), axis=1).mean()
    images = images / np.maximum(np.linalg.norm(images, axis=1, keepdims=True), 1e-12)
    images = (images - images.mean(0)) * spread  # without a mean, they leave the images' mean direction as it is
    return ImageTextPairs(
        images.astype(np.float32),
        numbers,
        np.asarray(features),
        np.repeat(numbers, KNOWN_TEMPLATES),
    )


def _held_out(names: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return tuple(names[::5]) if len(names) >= FEWEST_CLASSES else ()
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"held_out: {unknown[0]!r} is not among the classes ({', '.join(names)}).")
    if len(names) - len(set(given)) < 2:
        raise ValueError("held_out leaves fewer than two classes to train on.")
    return tuple(dict.fromkeys(given))


def _inside(folder: str | os.PathLike[str] | None, name: str) -> Path | None:
    return None if folder is None else Path(folder) / name


def _projected(project: Any, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(project(torch.from_numpy(np.array(features))).numpy())
