"""What an example is made of: read off the columns once, and asked of one encoder ever after."""

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
    """Turns the rows of a domain into rows that can be drawn, and drawn rows into a batch of model inputs.

    Attributes:
        modality: which heads and which processing class go with it.
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

    def encode(self, dataset: Any, name: str, label_column: str | None) -> Any:
        """A domain whose rows `stack` takes, with `labels` where `label_column` is given."""
        ...

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """Model inputs of encoded rows, labels aside. A row's random numbers, if any, are a function of its draw."""
        ...

    def task_name(self, task: str) -> str:
        """How people call a task on such inputs."""
        ...


@dataclass(frozen=True)
class InputColumns:
    """Which columns may hold what an example is made of.

    Args:
        text: columns with text and labels.
        image: the column with images.
        text_named: the user named a text column, which then wins over an image column beside it.
    """

    text: TextColumns = field(default_factory=TextColumns)
    image: str = "image"
    text_named: bool = False

    @property
    def names(self) -> set[str]:
        """All of them."""
        text = self.text
        return {text.text, text.tokens, text.label, self.image} | ({text.text_pair} if text.text_pair else set())


def find_modality(domains: Mapping[str, Any], columns: InputColumns) -> Modality:
    """What the rows are made of, as the first domain says.

    Args:
        domains: datasets by what messages call them, a source first.
        columns: where to look.

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
        others_modalities = _possible_modalities(dataset, columns)
        if others_modalities and modality not in others_modalities:
            raise ValueError(
                f"{first_name} holds {MODALITY_NAMES[modality]} and {name} holds "
                f"{MODALITY_NAMES[others_modalities[0]]}: domains that share a model are of one kind. Their columns "
                f"are {', '.join(map(repr, visible(column_names(first_dataset))))} and "
                f"{', '.join(map(repr, visible(column_names(dataset))))}.{_shared_modality_hint(first_dataset, dataset, columns)}"
            )
    return modality


def refuse_options(modality: str, settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` for an option that says something about inputs of another kind."""
    for option_modality, options in MODALITY_OPTIONS.items():
        for option in options:
            if option_modality != modality and settings[option] not in (None, False, "none"):
                raise ValueError(
                    f"{option}={settings[option]!r} is for {MODALITY_NAMES[option_modality]}, and the source holds "
                    f"{MODALITY_NAMES[modality]}. Leave it out, or say with `image_column` or `text_column` which "
                    "column is meant."
                )


def refuse_task(modality: str, task: str | None) -> None:
    """Raises `ValueError` for a task that inputs of this kind do not have."""
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
    """The encoder of a run.

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
    """`Encoder.encode` for the masked target: only revealed labels are read."""
    return encoder.encode(dataset, name, REVEALED if REVEALED in column_names(dataset) else None)


def _shared_modality_hint(dataset: Any, other: Any, columns: InputColumns) -> str:
    """The way out where one of two domains has texts beside its images."""
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
    names = column_names(dataset)
    text = columns.text.text in names or columns.text.tokens in names
    return ["text"] * text + ["image"] * (columns.image in names)
