"""Rows of images become rows of model inputs: checked early, decoded and augmented when a batch is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image

from .augmentation import Compose, make_augmentation
from .domain_arguments import undecoded
from .encoder_fingerprint import fingerprint_for, set_fingerprint
from .image_decoding import ImageError, open_image
from .image_references import unusable_row
from .label_masking import REVEALED
from .label_space import LabelEncoder, LabelSpace, column_names, declared_names, require_column
from .row_origins import ORIGIN as ROW_ORIGIN
from .row_origins import row_names

IMAGE = "image"
ORIGIN = "origin"  # what messages call a row
NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)))


class ImageEncoder:
    """An `Encoder` of images.

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
        self.ready = size if isinstance(size, tuple) and _resizing_is_idle(processor, size) else None

    @property
    def draws(self) -> bool:
        """Whether training rows are changed at random."""
        return self.augmentation is not None

    def task_name(self, task: str) -> str:
        return "image-classification" if task == "sequence-classification" else task

    @property
    def mark(self) -> str:
        return fingerprint_for(self.modality, self.space, self.processing_class)

    def encode(self, dataset: Any, where: str, label_column: str | None) -> Any:
        """Images as they are stored, with integer labels; nothing but the first is decoded.

        Args:
            dataset: map-style or streaming dataset.
            where: how messages call it.
            label_column: where labels are, or `None` for an unlabelled domain.

        Returns:
            `EncodedImages`, or a stream of its rows.

        Raises:
            ValueError: no rows, no such column, a column that holds no images, an image that is `None` or a file that
                is not there, a label outside the set. Each names the dataset and, but for the column, the row.
        """
        require_column(dataset, self.column, where, "image_column")
        labels: LabelEncoder | None = None
        if label_column is not None:
            require_column(dataset, label_column, where)
            names = declared_names(dataset, label_column)
            labels = LabelEncoder(self.space, names, where, label_column == REVEALED, label_column)
        if not hasattr(dataset, "__len__"):
            return self._stream(dataset, where, label_column, labels)
        if len(dataset) == 0:
            raise ValueError(f"{where} is empty: it has no rows.")
        images = _stored(undecoded(dataset), self.column, where)
        values = None
        if labels is not None:
            known = {ROW_ORIGIN: dataset[ROW_ORIGIN]} if ROW_ORIGIN in column_names(dataset) else {}
            values = labels.many(list(dataset[str(label_column)]), row_names(known, range(len(dataset))))
        origins = list(dataset[ROW_ORIGIN]) if ROW_ORIGIN in column_names(dataset) else None
        encoded = EncodedImages(images, values, where, origins, self.mark)
        open_image(encoded[0][IMAGE], encoded[0][ORIGIN])
        return encoded

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """Decodes, augments and processes rows.

        Args:
            rows: encoded ones.
            draws: by row: what its random numbers are drawn from, besides the seed; `None` leaves it as it is.

        Returns:
            `pixel_values` (rows, channels, height, width), and whatever else the processor makes.

        Raises:
            ValueError: an image that cannot be read, or a processor that makes images of different sizes.
        """
        opened: dict[int, Any] = {}  # both views of a row are made from one decoding
        pictures = []
        for row, draw in zip(rows, draws, strict=True):
            picture = opened.get(id(row[IMAGE]))
            if picture is None:
                picture = opened[id(row[IMAGE])] = open_image(row[IMAGE], row[ORIGIN])
            if draw is not None and self.augmentation is not None:
                picture = self.augmentation(picture, np.random.default_rng((self.seed, *draw)))
            pictures.append(picture)
        options: dict[str, Any] = {}
        if all((picture.height, picture.width) == self.ready for picture in pictures):
            options["do_resize"] = False  # a tenth of a batch's time and more, for nothing
        made = self.processing_class(images=pictures, return_tensors=None, **options)
        return {name: self._tensor(name, values) for name, values in made.items()}

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

    def _stream(self, dataset: Any, where: str, label_column: str | None, labels: LabelEncoder | None) -> Any:
        def encode(row: dict[str, Any], index: int) -> dict[str, Any]:
            out = {IMAGE: row[self.column], ORIGIN: f"{where} row {row.get(ROW_ORIGIN, index)}"}
            return out if labels is None else {**out, "labels": labels(row[str(label_column)], index)}

        stream = undecoded(dataset).map(encode, with_indices=True, remove_columns=column_names(dataset))
        return set_fingerprint(stream, self.mark)


class EncodedImages(torch.utils.data.Dataset):
    """Images as stored, beside their labels; reading a row decodes nothing and copies no pixels.

    Not a `datasets.Dataset`, since adding labels to one would write all images anew.

    Args:
        images: a dataset with the column `image` alone, decoding off.
        labels: one a row, or `None`.
        where: how messages call it.
        origins: by row, the file and line that it was read from, where they are known.
        mark: of the encoder that made it.
    """

    def __init__(
        self,
        images: Dataset,
        labels: Sequence[Any] | None,
        where: str,
        origins: Sequence[str] | None = None,
        mark: str = "",
    ):
        self.images, self.labels, self.where, self.origins, self.encoder_fingerprint = images, labels, where, origins, mark

    @property
    def column_names(self) -> list[str]:
        return [IMAGE, ORIGIN, *(["labels"] if self.labels is not None else [])]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """A row by number; columns of several rows by a list of numbers; a column by name."""
        if isinstance(index, str):
            columns = {IMAGE: self.images[IMAGE], "labels": self.labels}
            return columns[index] if index != ORIGIN else [self._origin(row) for row in range(len(self))]
        if isinstance(index, list):
            columns = {IMAGE: list(self.images[index][IMAGE]), ORIGIN: [self._origin(row) for row in index]}
            return columns if self.labels is None else {**columns, "labels": [self.labels[row] for row in index]}
        return self._row(self.images[index], int(index))

    def to_iterable_dataset(self) -> Any:
        """The same rows as a stream."""
        return self.images.to_iterable_dataset().map(self._row, with_indices=True)

    def _row(self, stored: dict[str, Any], row: int) -> dict[str, Any]:
        out = {IMAGE: stored[IMAGE], ORIGIN: self._origin(row)}
        return out if self.labels is None else {**out, "labels": self.labels[row]}

    def _origin(self, row: int) -> str:
        return f"{self.where} row {row if self.origins is None else self.origins[row]}"


def processed_size(processor: Any) -> tuple[int, int] | int | None:
    """What a processor resizes to: (height, width), the length of the shorter side, or `None` when it does neither."""
    if not getattr(processor, "do_resize", True):
        return None
    size = getattr(processor, "size", None) or {}
    height, width, shortest = (_entry(size, name) for name in ("height", "width", "shortest_edge"))
    if height and width:
        return int(height), int(width)
    return int(shortest) if shortest and not _entry(size, "longest_edge") else None


def _resizing_is_idle(processor: Any, size: tuple[int, int]) -> bool:
    """Whether a picture that has the size already comes out the same without being resized (some processors resize
    and cut out more than they ask for)."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with_it, without = (processor(images=[Image.fromarray(noise)], do_resize=on) for on in (True, False))
    return all(np.array_equal(with_it[name], without[name]) for name in with_it)


def _entry(size: Any, name: str) -> Any:
    return size.get(name) if hasattr(size, "get") else getattr(size, name, None)


def _stored(dataset: Dataset, column: str, where: str) -> Dataset:
    """The image column alone, checked as far as that costs little."""
    feature = dataset.features[column]
    images = dataset.select_columns([column])
    images = images if column == IMAGE else images.rename_column(column, IMAGE)
    kind = getattr(feature, "dtype", None)
    stored = isinstance(feature, (Image, dict)) or kind in ("binary", "large_binary", "string", "large_string")
    table, wrong = images.data.column(IMAGE), None
    if stored:
        order = None if images._indices is None else images._indices.column(0).to_pylist()
        wrong = unusable_row(table, order, column)
    elif table.null_count:
        nothing = next((row for row, value in enumerate(images[IMAGE]) if value is None), None)
        wrong = None if nothing is None else (nothing, f"{column!r} is None. Drop or fill such rows first.")
    if wrong is not None:
        row, reason = wrong
        raise ImageError(
            f"{where} row {row_names(dataset[row : row + 1], [row])[0]}: {reason}{_beside(dataset, reason)}"
        )
    if stored:
        return images
    inner = feature
    while hasattr(inner, "feature"):
        inner = inner.feature
    if inner is not feature and getattr(inner, "dtype", "float32") not in NUMBERS:
        raise ImageError(
            f"{where}: {column!r} holds lists of {getattr(inner, 'dtype', type(inner).__name__)}, and a row has one "
            "image: a path, the bytes of a file, a PIL image or an array. Make one row of each, or say which column "
            "holds images with `image_column`."
        )
    if hasattr(feature, "shape") or inner is not feature:
        return images.with_format("numpy")
    raise ImageError(
        f"{where}: {column!r} holds {kind or type(feature).__name__}, no images. An image is a path, the bytes of a "
        "file, a PIL image or an array; say which column holds them with `image_column`."
    )


def _beside(dataset: Dataset, reason: str) -> str:
    """Another way out for a csv of texts with links to pictures."""
    text = next((name for name in ("text", "tokens") if name in dataset.column_names), None)
    if text is None or not any(word in reason for word in (" is a URL", " is base64", " is a data URI", "no file")):
        return ""
    return f" If the texts in {text!r} are meant, set `text_column={text!r}`."
