"""Encoders of inputs: the interface that text and images share, and the choice between them by the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from datasets import Image

from .image_decoding import require_pillow
from .image_encoder import ImageEncoder
from .label_masking import REVEALED
from .label_space import LabelSpace, column_names
from .row_origins import visible
from .text_encoder import TextColumns, TextEncoder

Modality = Literal["text", "image"]
MODALITY_NAMES = {"text": "text", "image": "images"}
# What is said about inputs of one kind only; another kind refuses it.
MODALITY_OPTIONS: dict[str, tuple[str, ...]] = {
    "text": ("max_length",),
    "image": ("augment", "augment_flip", "image_size"),
}


class Encoder(Protocol):
    """Interface of encoders: rows of a domain to encoded rows, and encoded rows to a batch of model inputs.

    Attributes:
        modality: kind of input, which decides on heads and processing classes.
        processing_class: the tokenizer or image processor, which is saved beside the model.
        fingerprint: what data sets from `encode` carry, so that they are known again.
        draws: whether `stack` makes use of `draws`.
    """

    modality: str
    processing_class: Any

    @property
    def draws(self) -> bool: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, dataset: Any, name: str, label_column: str | None, weight_column: str | None = None) -> Any:
        """Encoded domain, whose rows `stack` takes, with `labels` and `row_weight` where their columns are given."""
        ...

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """Model inputs of encoded rows, labels aside. A row's random numbers, if any, are a function of its draw."""
        ...

    def task_name(self, task: str) -> str:
        """Usual name of a task on such inputs."""
        ...


@dataclass(frozen=True)
class InputColumns:
    """Columns that may hold the inputs: text, words, images.

    Args:
        text: columns with text and labels.
        image: the column with images.
        text_named: the user named a text column, which then wins over an image column beside it.
        weight: the column with weights of source rows; `None` for none.
    """

    text: TextColumns = field(default_factory=TextColumns)
    image: str = "image"
    text_named: bool = False
    weight: str | None = None

    @property
    def names(self) -> set[str]:
        """Names of all columns that may be read."""
        return self.input_names | ({self.weight} if self.weight else set())

    @property
    def input_names(self) -> set[str]:
        """Names of all columns that may hold inputs or labels."""
        text = self.text
        return {text.text, text.tokens, text.label, self.image} | ({text.text_pair} if text.text_pair else set())


def find_modality(domains: Mapping[str, Any], columns: InputColumns) -> Modality:
    """Modality of the inputs, text or images, as the first domain has it.

    Args:
        domains: datasets by their names in messages, a source first.
        columns: names of the columns that may hold inputs.

    Raises:
        ValueError: domains of different kinds, or images in a column of another name.
        ImportError: images without Pillow.
    """
    (first_name, first_dataset), *others = domains.items()
    modalities = _possible_modalities(first_dataset, columns)
    if not modalities:
        image_columns = [
            name for name, modality in (first_dataset.features or {}).items() if isinstance(modality, Image)
        ]
        if image_columns:
            raise ValueError(
                f"{first_name} has no column {columns.image!r}, but images in {image_columns[0]!r}: say so with "
                f"`image_column={image_columns[0]!r}`."
            )
        return "text"  # whose encoder says what is missing
    modality: Modality = (
        "image" if modalities[-1] == "image" and not (columns.text_named and "text" in modalities) else "text"
    )
    if modality == "image":
        require_pillow()
    for name, dataset in others:
        other_modalities = _possible_modalities(dataset, columns)
        if other_modalities and modality not in other_modalities:
            first_columns, other_columns = (
                ", ".join(map(repr, visible(column_names(domain)))) for domain in (first_dataset, dataset)
            )
            raise ValueError(
                f"{first_name} holds {MODALITY_NAMES[modality]} and {name} holds "
                f"{MODALITY_NAMES[other_modalities[0]]}: domains that share a model are of one kind. Their columns "
                f"are {first_columns} and {other_columns}.{_shared_modality_hint(first_dataset, dataset, columns)}"
            )
    return modality


def refuse_options(modality: str, settings: Mapping[str, Any]) -> None:
    """Check for options of another modality; raises `ValueError`."""
    for option_modality, options in MODALITY_OPTIONS.items():
        for option in options:
            if option_modality != modality and settings[option] not in (None, False, "none"):
                raise ValueError(
                    f"{option}={settings[option]!r} is for {MODALITY_NAMES[option_modality]}, and the source holds "
                    f"{MODALITY_NAMES[modality]}. Leave it out, or say with `image_column` or `text_column` which "
                    "column is meant."
                )


def refuse_task(modality: str, task: str | None) -> None:
    """Check for a task that the modality does not have; raises `ValueError`."""
    if modality == "image" and task == "token-classification":
        raise ValueError("token-classification labels words, and the source holds images: give one label a row.")


def make_encoder(
    modality: str,
    processing_class: Any,
    space: LabelSpace,
    columns: InputColumns,
    max_length: int | None = None,
    augment: str | None = None,
    augment_flip: bool = False,
    seed: int = 42,
) -> Encoder:
    """Encoder of a run, for text or for images.

    Args:
        modality: from `find_modality`.
        processing_class: the tokenizer or image processor.
        space: the shared label space.
        columns: where inputs and labels are.
        max_length: of text, in tokens.
        augment, augment_flip, seed: of images; weak, without a flip, when absent.

    Raises:
        ValueError: a task that such inputs do not have.
    """
    if modality == "text":
        return TextEncoder(processing_class, space, columns.text, max_length)
    refuse_task(modality, space.task)
    return ImageEncoder(processing_class, space, columns.image, augment or "weak", augment_flip, seed)


def encode_target(encoder: Encoder, dataset: Any, name: str) -> Any:
    """Encoded target domain, of whose labels only revealed ones are read."""
    return encoder.encode(dataset, name, REVEALED if REVEALED in column_names(dataset) else None)


def _shared_modality_hint(dataset: Any, other: Any, columns: InputColumns) -> str:
    """Hint for two domains of which one has texts beside its images."""
    shared = [
        modality
        for modality in _possible_modalities(dataset, columns)
        if modality in _possible_modalities(other, columns)
    ]
    if "text" in shared:
        column = columns.text.text if columns.text.text in column_names(dataset) else columns.text.tokens
        return f" Both have texts: if those are meant, set `text_column={column!r}`."
    if "image" in shared:
        return " Both have images: if those are meant, leave `text_column` out."
    return ""


def _possible_modalities(dataset: Any, columns: InputColumns) -> list[str]:
    """Modalities that the columns of a dataset allow."""
    names = column_names(dataset)
    text = columns.text.text in names or columns.text.tokens in names
    return ["text"] * text + ["image"] * (columns.image in names)
