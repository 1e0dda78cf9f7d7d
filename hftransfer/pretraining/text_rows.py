"""Rows of text for masked language modelling: tokens with the number of each token's word, no labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..data.label_space import column_names, require_column
from ..data.row_origins import ORIGIN, row_names
from ..data.text_encoder import LENGTH, TextColumns, checked_texts
from ..data.word_masking import NO_WORD, number_words

logger = logging.getLogger(__name__)
WORDS = "words"  # column: number of each token's word, from `number_words`
ROW_COLUMNS = ("input_ids", WORDS, LENGTH)


def single_texts(dataset: Any, columns: TextColumns, name: str) -> Any:
    """Rows of one text each: the second text of a row becomes a row of its own.

    Args:
        dataset: map-style or streaming.
        columns: where text is.
        name: of the dataset, for messages.

    Returns:
        The dataset as it is where there is no second text; else one column of texts, and the rows' names.

    Raises:
        ValueError: no such column, or an empty or missing text.
    """
    if columns.text_pair is None:
        return dataset
    column, pair = columns.input_column(dataset, False, name), columns.text_pair
    require_column(dataset, pair, name, "text_pair_column")
    is_split = column == columns.tokens

    def both(batch: Mapping[str, list], numbers: list[int]) -> dict[str, list]:
        rows = row_names(batch, numbers)
        texts = checked_texts(batch[column], rows, column, name, is_split)
        seconds = checked_texts(batch[pair], rows, pair, name, False)
        return {column: [*texts, *(text.split() if is_split else text for text in seconds)], ORIGIN: [*rows, *rows]}

    return dataset.map(both, batched=True, with_indices=True, remove_columns=column_names(dataset))


def tokenize_rows(dataset: Any, tokenizer: Any, columns: TextColumns, name: str, max_length: int | None) -> Any:
    """Tokenised texts, without labels; a text longer than `max_length` is cut into several rows.

    Args:
        dataset: map-style or streaming. Of its columns, those with texts alone are read.
        tokenizer: a fast one.
        columns: where text is; one text a row, see `single_texts`.
        name: of the dataset, for messages.
        max_length: in tokens, special ones included; `None` cuts nothing.

    Returns:
        The dataset with `input_ids`, `words` and `length`. Rows without a word are left out.

    Raises:
        ValueError: no column with text, an empty or missing text, or no word in any row.
    """
    column = columns.input_column(dataset, False, name)
    is_split = column == columns.tokens
    is_counted = hasattr(dataset, "__len__")
    if is_counted:  # others are not even read
        dataset = dataset.select_columns([name for name in dataset.column_names if name in (column, ORIGIN)])

    def tokenize(batch: Mapping[str, list], numbers: list[int]) -> dict[str, list]:
        rows = row_names(batch, numbers)
        texts = checked_texts(batch[column], rows, column, name, is_split)
        return _tokenized(tokenizer, texts, is_split, max_length)

    encoded = dataset.map(
        tokenize,
        batched=True,
        with_indices=True,
        remove_columns=column_names(dataset),
        **({"desc": f"Tokenising {name}"} if is_counted else {}),
    )
    if is_counted and len(encoded) == 0:
        raise ValueError(
            f"{name}: the tokenizer leaves no word of any of its {len(dataset)} rows, so there is nothing to mask. Is "
            "the tokenizer the one that belongs to the model and to the language of the texts?"
        )
    return encoded


def _tokenized(tokenizer: Any, texts: list, is_split: bool, max_length: int | None) -> dict[str, list]:
    """Columns of texts, with as many rows a text as its length asks for."""
    encoded = tokenizer(
        texts,
        truncation=max_length is not None,
        max_length=max_length,
        return_overflowing_tokens=max_length is not None,
        is_split_into_words=is_split,
        return_token_type_ids=False,
        return_attention_mask=False,
    )
    columns: dict[str, list] = {name: [] for name in ROW_COLUMNS}
    for row, ids in enumerate(encoded["input_ids"]):
        words = number_words(encoded.tokens(row), encoded.word_ids(row), tokenizer.unk_token)
        if max(words, default=NO_WORD) == NO_WORD:
            continue
        for column, value in zip(ROW_COLUMNS, (ids, words, len(ids)), strict=True):
            columns[column].append(value)
    return columns
