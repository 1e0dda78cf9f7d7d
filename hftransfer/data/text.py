"""Rows of text become rows of model inputs: tokenised once, checked early, padded when a batch is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import DataCollatorWithPadding

from ..messages import nearest
from .labels import IGNORE, LabelEncoder, LabelSpace, column_names, declared_names, require_column
from .masking import REVEALED

LENGTH = "length"
WORD_MASK = "word_mask"  # 1 on the first sub-word of each word: where a tagger's features and labels live


@dataclass(frozen=True)
class TextColumns:
    """Which columns hold what.

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

    def input_column(self, dataset: Any, tagging: bool, where: str) -> str:
        """The column the text is read from; raises when there is none."""
        if tagging:
            require_column(dataset, self.tokens, where, "tokens_column")
            return self.tokens
        columns = column_names(dataset)
        if self.text not in columns and self.tokens in columns:
            return self.tokens
        if self.text not in columns:
            raise ValueError(
                f"{where} has neither a column {self.text!r} nor {self.tokens!r}; its columns are "
                f"{', '.join(map(repr, columns))}.{nearest(self.text, columns)} Rename one, or say which it is with "
                "`text_column` or `tokens_column`; for images, with `image_column`."
            )
        return self.text


def encode_text(
    dataset: Any,
    tokenizer: Any,
    space: LabelSpace,
    columns: TextColumns,
    where: str,
    label_column: str | None,
    max_length: int | None = None,
) -> Any:
    """Tokenises a domain.

    Args:
        dataset: map-style or streaming dataset with the columns of `columns`.
        tokenizer: a fast tokenizer.
        space: the shared label space.
        columns: where text is.
        where: how messages call this dataset.
        label_column: where labels are, or `None` for an unlabelled domain.
        max_length: in tokens; longer inputs are truncated.

    Returns:
        The dataset with the tokenizer's outputs, `length`, `labels` (when `label_column` is given) and, in tagging,
        `word_mask`; all other columns are gone.

    Raises:
        ValueError: an empty dataset, an empty or missing text, a label outside the set, words and tags of unequal
            number. Each names the dataset and the row.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{where} is empty: it has no rows.")
    tagging = space.task == "token-classification"
    column = columns.input_column(dataset, tagging, where)
    split = column == columns.tokens
    if columns.text_pair is not None:
        require_column(dataset, columns.text_pair, where, "text_pair_column")
    encoder = None
    if label_column is not None:
        require_column(dataset, label_column, where)
        names = declared_names(dataset, label_column)
        encoder = LabelEncoder(space, names, where, optional=label_column == REVEALED)

    def encode(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        texts = batch[column]
        pairs = batch[columns.text_pair] if columns.text_pair else None
        for row, value in zip(rows, texts, strict=True):
            _check_text(value, row, column, where, split)
        for row, value in zip(rows, pairs or [], strict=False):
            _check_text(value, row, str(columns.text_pair), where, False)
        encoded = tokenizer(
            texts, pairs, truncation=max_length is not None, max_length=max_length, is_split_into_words=split
        )
        out: dict[str, list] = dict(encoded.items())
        out[LENGTH] = [len(ids) for ids in out["input_ids"]]
        word_ids = [_first_subwords(encoded.word_ids(i)) for i in range(len(texts))] if tagging else []
        if tagging:
            out[WORD_MASK] = [[int(w is not None) for w in words] for words in word_ids]
        if encoder is not None:
            values = [encoder(v, row) for v, row in zip(batch[str(label_column)], rows, strict=True)]
            if tagging:
                for row, words, tags in zip(rows, texts, values, strict=True):
                    if tags is not None and len(words) != len(tags):
                        raise ValueError(
                            f"{where} row {row}: {len(words)} words but {len(tags)} labels; each word needs one."
                        )
                values = [
                    [IGNORE if w is None or tags is None else tags[w] for w in words]
                    for words, tags in zip(word_ids, values, strict=True)
                ]
            out["labels"] = values
        return out

    return dataset.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=column_names(dataset),
        **({"desc": f"Tokenising {where}"} if hasattr(dataset, "__len__") else {}),
    )


class TextEncoder:
    """An `Encoder` of text.

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
        self.columns = columns or TextColumns()
        self.pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)

    def task_name(self, task: str) -> str:
        return task

    def is_encoded(self, columns: Sequence[str]) -> bool:
        return "input_ids" in columns

    def encode(self, dataset: Any, where: str, label_column: str | None) -> Any:
        """See `encode_text`."""
        return encode_text(
            dataset, self.processing_class, self.space, self.columns, where, label_column, self.max_length
        )

    def stack(self, rows: Sequence[Mapping[str, Any]], draws: Sequence[tuple[int, ...] | None]) -> dict[str, Any]:
        """(rows, tokens) inputs, padded to the longest row."""
        return dict(self.pad([{k: v for k, v in row.items() if k != LENGTH} for row in rows]))


def _check_text(value: Any, row: int, column: str, where: str, split: bool) -> None:
    if value is None:
        raise ValueError(f"{where} row {row}: {column!r} is None. Drop or fill such rows first.")
    if split:
        if isinstance(value, str) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{where} row {row}: {column!r} must be a list of words, not {type(value).__name__}.")
    elif not isinstance(value, str):
        raise ValueError(f"{where} row {row}: {column!r} must be a string, not {type(value).__name__}.")
    if not value or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{where} row {row}: {column!r} is empty. Drop or fill such rows first.")


def _first_subwords(word_ids: list[int | None]) -> list[int | None]:
    """The word index on the first sub-word of each word, `None` on all other positions."""
    previous: int | None = None
    out: list[int | None] = []
    for word in word_ids:
        out.append(word if word is not None and word != previous else None)
        previous = word
    return out
