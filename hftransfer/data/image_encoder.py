"""Image encoder: images checked early, decoded and augmented when a batch is made."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image

from .augmentation import Compose, make_augmentation
from .domain_arguments import undecoded
from .encoder_fingerprint import fingerprint_for, set_fingerprint
from .image_decoding import ImageError, open_image
from .image_references import first_unusable_row
from .label_masking import REVEALED
from .label_space import LabelEncoder, LabelSpace, column_names, declared_names, require_column
from .row_origins import ORIGIN as ROW_ORIGIN
from .row_origins import row_names
from .weight_column import ROW_WEIGHT, read_weights, refuse_weightless

IMAGE = "image"
ORIGIN = "origin"  # what messages call a row
NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)))


class ImageEncoder:
    """Encoder of images.

    Args:
        processor: a `transformers` image processor: resizes, rescales and normalises.
        space: the shared label space.
        column: where images are.
        augment: `"none"`, `"weak"` or `"strong"`; see `make_augmentation`.
        flip: mirror half of the training rows.
        seed: of the augmentation. What is drawn for a row depends on it, the row, the pass over the data and the
            view, and on nothing else.
    """

    modality = "image"

    def __init__(
        self,
        processor: Any,
        space: LabelSpace,
        column: str = IMAGE,
        augment: str = "weak",
        flip: bool = False,
        seed: int = 42,
    ):
        self.processing_class, self.space, self.column, self.seed = processor, space, column, seed
        resample = int(getattr(processor, "resample", None) or 2)
        size = processed_size(processor)
        self.augmentation: Compose | None = make_augmentation(augment, flip, size, resample)
        self.strong_augmentation: Compose | None = None  # of second views, where they are to be stronger
        self._make_strong = partial(make_augmentation, "strong", flip, size, resample)
        self.final_size = size if isinstance(size, tuple) and _resizing_is_needless(processor, size) else None

    @property
    def draws(self) -> bool:
        """Whether training rows are changed at random."""
        return self.augmentation is not None or self.strong_augmentation is not None

    def with_strong_views(self) -> ImageEncoder:
        """Copy of the encoder whose second views of rows are augmented strongly, whatever the first ones are."""
        encoder = copy.copy(self)
        encoder.strong_augmentation = self._make_strong()
        return encoder

    def task_name(self, task: str) -> str:
        return "image-classification" if task == "sequence-classification" else task

    @property
    def fingerprint(self) -> str:
        return fingerprint_for(self.modality, self.space, self.processing_class)

    def encode(self, dataset: Any, name: str, label_column: str | None, weight_column: str | None = None) -> Any:
        """Encoded domain: images as they are stored, with integer labels; nothing but the first is decoded.

        Args:
            dataset: map-style or streaming dataset.
            name: of the dataset, for messages.
            label_column: where labels are, or `None` for an unlabelled domain.
            weight_column: where weights of rows are, or `None` for rows without.

        Returns:
            `EncodedImages`, or a stream of its rows.

        Raises:
            ValueError: no rows, no such column, a column that holds no images, an image that is `None` or a file that
                is not there, a label outside the set, a weight that is none. Each names the dataset and, but for the
                column, the row.
        """
        require_column(dataset, self.column, name, "image_column")
        labels: LabelEncoder | None = None
        if label_column is not None:
            require_column(dataset, label_column, name)
            names = declared_names(dataset, label_column)
            labels = LabelEncoder(self.space, names, name, label_column == REVEALED, label_column)
        if not hasattr(dataset, "__len__"):
            return self._stream(dataset, name, label_column, labels, weight_column)
        if len(dataset) == 0:
            raise ValueError(f"{name} is empty: it has no rows.")
        images = _checked_images(undecoded(dataset), self.column, name)
        origins = list(dataset[ROW_ORIGIN]) if ROW_ORIGIN in column_names(dataset) else None
        rows = row_names({} if origins is None else {ROW_ORIGIN: origins}, range(len(dataset)))
        label_ids = None if labels is None else labels.encode_rows(list(dataset[str(label_column)]), rows)
        weights = None
        if weight_column is not None:
            weights = read_weights(list(dataset[weight_column]), rows, weight_column, name)
            if not any(weights):
                raise refuse_weightless(name, weight_column)
        encoded = EncodedImages(images, label_ids, name, origins, self.fingerprint, weights)
        open_image(encoded[0][IMAGE], encoded[0][ORIGIN])
        return encoded

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """Model inputs of rows: decoded, augmented and processed images.

        Args:
            rows: encoded ones.
            draws: by row: what its random numbers are drawn from, besides the seed, at the end the number of the view;
                `None` leaves it as it is.

        Returns:
            `pixel_values` (rows, channels, height, width), and whatever else the processor makes.

        Raises:
            ValueError: an image that cannot be read, or a processor that makes images of different sizes.
        """
        decoded: dict[int, Any] = {}  # both views of a row are made from one decoding
        pictures = []
        for row, draw in zip(rows, draws, strict=True):
            picture = decoded.get(id(row[IMAGE]))
            if picture is None:
                picture = decoded[id(row[IMAGE])] = open_image(row[IMAGE], row[ORIGIN])
            is_second = draw is not None and draw[-1] == 1
            augmentation = (self.strong_augmentation if is_second else None) or self.augmentation
            if draw is not None and augmentation is not None:
                picture = augmentation(picture, np.random.default_rng((self.seed, *draw)))
            pictures.append(picture)
        options: dict[str, Any] = {}
        if all((picture.height, picture.width) == self.final_size for picture in pictures):
            options["do_resize"] = False  # a tenth of a batch's time and more, for nothing
        inputs = self.processing_class(images=pictures, return_tensors=None, **options)
        return {name: self._tensor(name, arrays) for name, arrays in inputs.items()}

    def _tensor(self, name: str, values: Sequence[Any]) -> torch.Tensor:
        arrays = [np.asarray(value) for value in values]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ImageError(
                f"{type(self.processing_class).__name__} makes {name} of different sizes "
                f"({', '.join(str(shape) for shape in sorted(shapes)[:3])}), which are no batch. Give one size with "
                "`image_size`."
            )
        stacked = torch.from_numpy(np.stack(arrays))
        return stacked.float() if stacked.is_floating_point() else stacked

    def _stream(
        self,
        dataset: Any,
        name: str,
        label_column: str | None,
        labels: LabelEncoder | None,
        weight_column: str | None = None,
    ) -> Any:
        def encode(row: dict[str, Any], index: int) -> dict[str, Any]:
            origin = row.get(ROW_ORIGIN, index)
            encoded = {IMAGE: row[self.column], ORIGIN: f"{name} row {origin}"}
            if weight_column is not None:
                encoded |= {ROW_WEIGHT: read_weights([row[weight_column]], [str(origin)], weight_column, name)[0]}
            return encoded if labels is None else {**encoded, "labels": labels(row[str(label_column)], index)}

        stream = undecoded(dataset).map(encode, with_indices=True, remove_columns=column_names(dataset))
        return set_fingerprint(stream, self.fingerprint)


class EncodedImages(torch.utils.data.Dataset):
    """Dataset of images as stored, beside their labels; reading a row decodes nothing and copies no pixels.

    Not a `datasets.Dataset`, since adding labels to one would write all images anew.

    Args:
        images: a dataset with the column `image` alone, decoding off.
        labels: one a row, or `None`.
        name: of the dataset, for messages.
        origins: by row, the file and line that it was read from, where they are known.
        fingerprint: of the encoder that made it.
        weights: one a row, or `None`.
    """

    def __init__(
        self,
        images: Dataset,
        labels: Sequence[Any] | None,
        name: str,
        origins: Sequence[str] | None = None,
        fingerprint: str = "",
        weights: Sequence[float] | None = None,
    ):
        self.images, self.labels, self.name, self.origins, self.encoder_fingerprint = (
            images,
            labels,
            name,
            origins,
            fingerprint,
        )
        given = {"labels": labels, ROW_WEIGHT: weights}
        self.columns: dict[str, Sequence[Any]] = {key: x for key, x in given.items() if x is not None}

    @property
    def column_names(self) -> list[str]:
        return [IMAGE, ORIGIN, *self.columns]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """Row by number; columns of several rows by a list of numbers; a column by name."""
        if isinstance(index, str):
            if index == ORIGIN:
                return [self._origin(row) for row in range(len(self))]
            return self.images[IMAGE] if index == IMAGE else self.columns[index]
        if isinstance(index, list):
            columns = {IMAGE: list(self.images[index][IMAGE]), ORIGIN: [self._origin(row) for row in index]}
            return columns | {key: [values[row] for row in index] for key, values in self.columns.items()}
        return self._row(self.images[index], int(index))

    def to_iterable_dataset(self) -> Any:
        """Stream of the same rows."""
        return self.images.to_iterable_dataset().map(self._row, with_indices=True)

    def _row(self, stored_row: dict[str, Any], row: int) -> dict[str, Any]:
        encoded = {IMAGE: stored_row[IMAGE], ORIGIN: self._origin(row)}
        return encoded | {key: values[row] for key, values in self.columns.items()}

    def _origin(self, row: int) -> str:
        return f"{self.name} row {row if self.origins is None else self.origins[row]}"


def processed_size(processor: Any) -> tuple[int, int] | int | None:
    """Size that a processor resizes to: (height, width), the length of the shorter side, or `None` for neither."""
    if not getattr(processor, "do_resize", True):
        return None
    size = getattr(processor, "size", None) or {}
    height, width, shortest = (_size_entry(size, name) for name in ("height", "width", "shortest_edge"))
    if height and width:
        return int(height), int(width)
    return int(shortest) if shortest and not _size_entry(size, "longest_edge") else None


def _resizing_is_needless(processor: Any, size: tuple[int, int]) -> bool:
    """Whether a picture that has the size already comes out the same without being resized.

    Some processors resize and cut out more than they ask for.
    """
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized, unresized = (processor(images=[Image.fromarray(noise)], do_resize=resize) for resize in (True, False))
    return all(np.array_equal(resized[name], unresized[name]) for name in resized)


def _size_entry(size: Any, name: str) -> Any:
    return size.get(name) if hasattr(size, "get") else getattr(size, name, None)


def _checked_images(dataset: Dataset, column: str, name: str) -> Dataset:
    """Dataset of the image column alone, checked as far as that costs little."""
    feature = dataset.features[column]
    images = dataset.select_columns([column])
    images = images if column == IMAGE else images.rename_column(column, IMAGE)
    dtype = getattr(feature, "dtype", None)
    is_stored = isinstance(feature, (Image, dict)) or dtype in ("binary", "large_binary", "string", "large_string")
    stored_values, unusable = images.data.column(IMAGE), None
    if is_stored:
        order = None if images._indices is None else images._indices.column(0).to_pylist()
        unusable = first_unusable_row(stored_values, order, column)
    elif stored_values.null_count:
        missing_row = next((row for row, value in enumerate(images[IMAGE]) if value is None), None)
        unusable = None if missing_row is None else (missing_row, f"{column!r} is None. Drop or fill such rows first.")
    if unusable is not None:
        row, reason = unusable
        raise ImageError(
            f"{name} row {row_names(dataset[row : row + 1], [row])[0]}: {reason}{_text_column_hint(dataset, reason)}"
        )
    if is_stored:
        return images
    item_feature = feature
    while hasattr(item_feature, "feature"):
        item_feature = item_feature.feature
    if item_feature is not feature and getattr(item_feature, "dtype", "float32") not in NUMBERS:
        raise ImageError(
            f"{name}: {column!r} holds lists of {getattr(item_feature, 'dtype', type(item_feature).__name__)}, and a "
            "row has one image: a path, the bytes of a file, a PIL image or an array. Make one row of each, or say "
            "which column holds images with `image_column`."
        )
    if hasattr(feature, "shape") or item_feature is not feature:
        return images.with_format("numpy")
    raise ImageError(
        f"{name}: {column!r} holds {dtype or type(feature).__name__}, no images. An image is a path, the bytes of a "
        "file, a PIL image or an array; say which column holds them with `image_column`."
    )


def _text_column_hint(dataset: Dataset, reason: str) -> str:
    """Hint for a csv of texts with links to pictures."""
    text = next((name for name in ("text", "tokens") if name in dataset.column_names), None)
    if text is None or not any(word in reason for word in (" is a URL", " is base64", " is a data URI", "no file")):
        return ""
    return f" If the texts in {text!r} are meant, set `text_column={text!r}`."
