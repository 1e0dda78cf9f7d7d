"""Text encoder: rows tokenised once, checked early, padded when a batch is made.

The same rows may be tokenised for other models, too, such as teachers: each such *tokenization* has a number, and
columns of its own beside the model's.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DataCollatorWithPadding

from ..ignored_label import IGNORE
from ..messages import nearest, shown
from .encoder_fingerprint import fingerprint_for, set_fingerprint
from .label_masking import REVEALED
from .label_space import LabelEncoder, LabelSpace, column_names, declared_names, require_column
from .label_values import literal_list
from .row_origins import ORIGIN, row_names, visible
from .weight_column import ROW_WEIGHT, read_weights, refuse_weightless

logger = logging.getLogger(__name__)
LENGTH = "length"
ENCODED = "input_ids"
WORD_MASK = "word_mask"  # 1 on the first sub-word of each word: where a tagger's features and labels live
TOKENIZATION = "tokenization"  # columns of tokenization i begin with f"tokenization{i}_"


@dataclass(frozen=True)
class TextColumns:
    """Names of the columns with text, words and labels.

    Args:
        text: raw text.
        text_pair: a second text, encoded as a pair.
        tokens: pre-split words (used when the `text` column is absent, and always for tagging).
        label: the label.
    """

    text: str = "text"
    text_pair: str | None = None
    tokens: str = "tokens"
    label: str = "label"

    def input_column(self, dataset: Any, tagging: bool, name: str) -> str:
        """Column that the text is read from; raises `ValueError` where there is none."""
        if tagging:
            require_column(dataset, self.tokens, name, "tokens_column")
            return self.tokens
        columns = column_names(dataset)
        if self.text not in columns and self.tokens in columns:
            return self.tokens
        if self.text not in columns:
            columns = visible(columns)
            if ENCODED in columns:
                raise ValueError(
                    f"{name} holds {ENCODED!r} and no column {self.text!r}: rows that were encoded elsewhere are not "
                    "read, since their tokenizer and labels are not known. Pass the text, and say with `text_column` "
                    "which column holds it."
                )
            raise ValueError(
                f"{name} has neither a column {self.text!r} nor {self.tokens!r}; its columns are "
                f"{', '.join(map(repr, columns))}.{nearest(self.text, columns)} Rename one, or say which it is with "
                "`text_column` or `tokens_column`; for images, with `image_column`."
            )
        return self.text


def encode_text(
    dataset: Any,
    tokenizer: Any,
    space: LabelSpace,
    columns: TextColumns,
    name: str,
    label_column: str | None,
    max_length: int | None = None,
    other_tokenizers: Mapping[int, TextEncoder] | None = None,
    weight_column: str | None = None,
) -> Any:
    """Tokenised domain.

    Args:
        dataset: map-style or streaming dataset with the columns of `columns`.
        tokenizer: a fast tokenizer.
        space: the shared label space.
        columns: where text is.
        name: of the dataset, for messages.
        label_column: where labels are, or `None` for an unlabelled domain.
        max_length: in tokens; longer inputs are truncated.
        other_tokenizers: tokenise the rows, too, by number.
        weight_column: where weights of rows are, or `None` for rows without.

    Returns:
        The dataset with the tokenizer's outputs, `length`, `labels` (when `label_column` is given), `row_weight` (when
        `weight_column` is given) and, in tagging, `word_mask`; columns of other tokenizations; all other columns are
        gone.

    Raises:
        ValueError: an empty dataset, an empty or missing text, a label outside the set, words and tags of unequal
            number, another tokenization that lacks words, a weight that is none. Each names the dataset and the row.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{name} is empty: it has no rows.")
    tagging = space.task == "token-classification"
    column = columns.input_column(dataset, tagging, name)
    is_split = column == columns.tokens
    if columns.text_pair is not None:
        require_column(dataset, columns.text_pair, name, "text_pair_column")
    encoder = None
    if label_column is not None:
        require_column(dataset, label_column, name)
        names = declared_names(dataset, label_column)
        encoder = LabelEncoder(space, names, name, label_column == REVEALED, label_column)
    columns_read = [column, columns.text_pair, label_column, weight_column, ORIGIN]
    if hasattr(dataset, "__len__"):  # others are not even read; one called `labels` would give ours its type
        dataset = dataset.select_columns([name for name in dataset.column_names if name in columns_read])
    wordless_rows: list[str] = []  # rows without a word, and they are named once

    def encode(batch: Mapping[str, list], numbers: list[int]) -> dict[str, list]:
        rows = row_names(batch, numbers)
        texts = checked_texts(batch[column], rows, column, name, is_split)
        pairs = None
        if columns.text_pair:
            pairs = checked_texts(batch[columns.text_pair], rows, columns.text_pair, name, False)
        encoded, word_ids = tokenized_rows(tokenizer, texts, pairs, is_split, tagging, max_length)
        encoded[LENGTH] = [len(ids) for ids in encoded["input_ids"]]
        wordless_rows.extend(
            row for row, words in zip(rows, word_ids, strict=False) if all(word is None for word in words)
        )
        for i, other in (other_tokenizers or {}).items():
            tokenized, other_word_ids = tokenized_rows(
                other.processing_class, texts, pairs, is_split, tagging, other.max_length
            )
            if tagging:
                tokenized[WORD_MASK] = [
                    _shared_words(own_words, other_words, f"{name} row {row}", other.max_length)
                    for row, own_words, other_words in zip(rows, word_ids, other_word_ids, strict=True)
                ]
            encoded |= {f"{TOKENIZATION}{i}_{key}": values for key, values in tokenized.items()}
        if weight_column is not None:
            encoded[ROW_WEIGHT] = read_weights(batch[weight_column], rows, weight_column, name)
        if encoder is not None:
            values = encoder.encode_rows(batch[str(label_column)], rows)
            if tagging:
                for row, words, tags in zip(rows, texts, values, strict=True):
                    if tags is not None and len(words) != len(tags):
                        raise ValueError(
                            f"{name} row {row}: {len(words)} words but {len(tags)} labels; each word needs one."
                        )
                values = [
                    [IGNORE if word is None or tags is None else tags[word] for word in words]
                    for words, tags in zip(word_ids, values, strict=True)
                ]
            encoded["labels"] = values
        return encoded

    encoded = dataset.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=column_names(dataset),
        **({"desc": f"Tokenising {name}"} if hasattr(dataset, "__len__") else {}),
    )
    if weight_column is not None and hasattr(encoded, "__len__") and not any(encoded[ROW_WEIGHT]):
        raise refuse_weightless(name, weight_column)
    if wordless_rows:
        logger.warning(
            "%s row %s: the tokenizer leaves none of its words%s. Such rows cost nothing and count nothing.",
            name,
            wordless_rows[0],
            f", nor those of {len(wordless_rows) - 1} more row(s)" if len(wordless_rows) > 1 else "",
        )
    return set_fingerprint(encoded, fingerprint_for("text", space, tokenizer))


class TextEncoder:
    """Encoder of text.

    Args:
        tokenizer: a fast tokenizer.
        space: the shared label space.
        columns: where text is.
        max_length: in tokens.
        pad_to_multiple_of: for tensor cores and compiled models.
    """

    modality = "text"
    draws = False  # dropout is what tells two views of a text apart

    def __init__(
        self,
        tokenizer: Any,
        space: LabelSpace,
        columns: TextColumns | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ):
        self.processing_class, self.space, self.max_length = tokenizer, space, max_length
        self.other_tokenizers: dict[int, TextEncoder] = {}
        self.columns = columns or TextColumns()
        self.pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)

    def with_tokenizers(self, others: Mapping[int, TextEncoder]) -> TextEncoder:
        """Copy of the encoder that also encodes and stacks rows for other tokenizers, by number."""
        encoder = copy.copy(self)
        encoder.other_tokenizers = dict(others)
        return encoder

    def task_name(self, task: str) -> str:
        return task

    @property
    def fingerprint(self) -> str:
        return fingerprint_for(self.modality, self.space, self.processing_class)

    def encode(self, dataset: Any, name: str, label_column: str | None, weight_column: str | None = None) -> Any:
        """Tokenised domain; see `encode_text`."""
        return encode_text(
            dataset,
            self.processing_class,
            self.space,
            self.columns,
            name,
            label_column,
            self.max_length,
            self.other_tokenizers,
            weight_column,
        )

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """Model inputs, (rows, tokens), padded to the longest row, those of other tokenizations included."""
        stacked: dict[str, Any] = {}
        for i, other in self.other_tokenizers.items():
            tokenized = [tokenization_of(row, i) for row in rows]
            if all(tokenized):
                masks = [row.pop(WORD_MASK, None) for row in tokenized]
                padded = other.stack(tokenized, draws)
                if masks[0] is not None:
                    pads_left, width = other.processing_class.padding_side == "left", padded["input_ids"].shape[1]
                    padded[WORD_MASK] = torch.tensor([pad_row(mask, width, 0, pads_left) for mask in masks])
                stacked |= {f"{TOKENIZATION}{i}_{key}": values for key, values in padded.items()}
        model_rows = [
            {key: value for key, value in without_other_tokenizations(row).items() if key != LENGTH} for row in rows
        ]
        return dict(self.pad(model_rows)) | stacked


def tokenization_of(columns: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Columns of another tokenization of a row or a batch, by the names that its model knows."""
    start = f"{TOKENIZATION}{number}_"
    return {key.removeprefix(start): value for key, value in columns.items() if key.startswith(start)}


def without_other_tokenizations(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a row or a batch that are the model's own."""
    return {key: value for key, value in columns.items() if not key.startswith(TOKENIZATION)}


def pad_row(values: list[int], width: int, fill: int, pads_left: bool) -> list[int]:
    """List padded to the width of its batch, on the side where the tokenizer pads."""
    padding = [fill] * (width - len(values))
    return padding + values if pads_left else values + padding


def tokenized_rows(
    tokenizer: Any, texts: list, pairs: list | None, is_split: bool, tagging: bool, max_length: int | None
) -> tuple[dict[str, list], list[list[int | None]]]:
    """Columns that a tokenizer makes of rows and, in tagging, the word that each first sub-word begins.

    Args:
        tokenizer: a fast one.
        texts, pairs: from `checked_texts`.
        is_split: rows are lists of words.
        tagging: add `word_mask`.
        max_length: in tokens; longer rows are cut.
    """
    encoded = tokenizer(
        texts, pairs, truncation=max_length is not None, max_length=max_length, is_split_into_words=is_split
    )
    encoded_columns: dict[str, list] = dict(encoded.items())
    word_ids = [_first_subwords(encoded.word_ids(i)) for i in range(len(texts))] if tagging else []
    if tagging:
        encoded_columns[WORD_MASK] = [[int(word is not None) for word in words] for words in word_ids]
    return encoded_columns, word_ids


def _shared_words(
    own_words: list[int | None], other_words: list[int | None], name: str, max_length: int | None
) -> list[int]:
    """Mask of another tokenization for the words that the model reads: the k-th is then the same word to both."""
    words_read = {word for word in own_words if word is not None}
    mask = [int(word in words_read) for word in other_words]
    if sum(mask) < len(words_read):
        raise ValueError(
            f"{name}: the model reads {len(words_read)} words and the teacher, cut at {max_length} tokens, only "
            f"{sum(mask)} of them. Raise max_length if the teacher has positions left, or split such rows."
        )
    return mask


def checked_texts(values: list, rows: Sequence[str], column: str, name: str, is_split: bool) -> list:
    """Texts, or lists of words, none of which is missing or empty; a list may be written as text.

    Args:
        values: texts, or lists of words where `is_split`.
        rows: their names in messages.
        column, name: of the column and the dataset, for messages.
        is_split: rows are lists of words.

    Raises:
        ValueError: a row without text; the message names it.
    """
    if is_split:
        return [_checked_words(value, row, column, name) for value, row in zip(values, rows, strict=True)]
    try:
        all_filled = all(map(str.strip, values))
    except TypeError:
        all_filled = False
    for value, row in () if all_filled else zip(values, rows, strict=True):
        if value is None:
            raise ValueError(f"{name} row {row}: {column!r} is None. Drop or fill such rows first.")
        if not isinstance(value, str):
            raise ValueError(
                f"{name} row {row}: {column!r} must be a string, not {type(value).__name__} ({shown(value)}). Write "
                "texts there, or say which column holds them."
            )
        if not value.strip():
            raise ValueError(f"{name} row {row}: {column!r} is empty. Drop or fill such rows first.")
    return values


def _checked_words(value: Any, row: str, column: str, name: str) -> list[str]:
    if value is None:
        raise ValueError(f"{name} row {row}: {column!r} is None. Drop or fill such rows first.")
    words = literal_list(value) if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)):
        raise ValueError(f"{name} row {row}: {column!r} must be a list of words, not {type(value).__name__}.")
    odd_items = [item for item in words if not isinstance(item, str)]
    if odd_items:
        raise ValueError(
            f"{name} row {row}: {column!r} must be a list of words, and {shown(odd_items[0])} is of type "
            f"{type(odd_items[0]).__name__}. Write each word as text."
        )
    if not words:
        raise ValueError(f"{name} row {row}: {column!r} is empty. Drop or fill such rows first.")
    return list(words)


def _first_subwords(word_ids: list[int | None]) -> list[int | None]:
    """Word index on the first sub-word of each word, `None` on all other positions."""
    previous: int | None = None
    first_words: list[int | None] = []
    for word in word_ids:
        first_words.append(word if word is not None and word != previous else None)
        previous = word
    return first_words
