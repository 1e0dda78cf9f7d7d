"""Checks of a tokenizer: it has a vocabulary, it pads, and the model has an embedding for every token it makes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..messages import shown

logger = logging.getLogger(__name__)
WHOLE = "tokenizer.json"  # holds all that a fast tokenizer is made of
REMEDY = (
    "Copy the tokenizer that the model was trained with into it, or pass one as processing_class; in the recipe, "
    "--processor with the Hub id or folder of one."
)
ADDED_BY_ITSELF = ("pad", "unk", "cls", "sep", "bos", "eos")


def check_vocabulary(tokenizer: Any, name: str, folder: str | None) -> None:
    """Check that a tokenizer was loaded from files; without them, transformers makes one of five words.

    Args:
        tokenizer: as loaded.
        name: how messages call where it is from.
        folder: where its files should be; `None` when they came from the Hub.

    Raises:
        FileNotFoundError: there are no files of a vocabulary.
    """
    file_names = getattr(tokenizer, "vocab_files_names", None) or {}
    if folder is not None and file_names and not (Path(folder) / WHOLE).is_file():
        files = [file for key, file in file_names.items() if key != "tokenizer_file" and isinstance(file, str)]
        existing_files = [file for file in files if (Path(folder) / file).is_file()]
        merges = file_names.get("merges_file")
        if not existing_files or (isinstance(merges, str) and merges in files and merges not in existing_files):
            raise missing_tokenizer_error(name, type(tokenizer).__name__, files, existing_files)
    special = {*tokenizer.all_special_tokens, *tokenizer.added_tokens_encoder}
    if len(tokenizer) < 500 and sum(token not in special for token in tokenizer.get_vocab()) <= 1:
        raise missing_tokenizer_error(
            name, type(tokenizer).__name__, [f for f in file_names.values() if isinstance(f, str)], []
        )


def missing_tokenizer_error(
    name: str, tokenizer_class: str, files: list[str], existing_files: list[str]
) -> FileNotFoundError:
    """Error of a folder without a tokenizer.

    Args:
        name: of the folder.
        tokenizer_class: which tokenizer was wanted.
        files: what such a tokenizer is made of, beside `tokenizer.json`.
        existing_files: those of them that the folder has.
    """
    missing_files = ", ".join(dict.fromkeys([WHOLE, *(file for file in files if file not in existing_files)]))
    return FileNotFoundError(
        f"{name!r} has no vocabulary for a tokenizer ({tokenizer_class} looks for {missing_files}). {REMEDY}"
    )


def check_tokenizer(tokenizer: Any, model: PreTrainedModel) -> None:
    """Check that batches can be padded, and that the model has a row of its embedding for every token.

    A tokenizer without a pad token borrows its end-of-sequence token, and the model's config is told.

    Raises:
        ValueError: there is no token to pad with, or ids reach beyond the embedding.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "The tokenizer has neither a pad token nor an end-of-sequence token, so batches cannot be padded. "
                'Set one: `tokenizer.add_special_tokens({"pad_token": "[PAD]"})` and '
                "`model.resize_token_embeddings(len(tokenizer))`."
            )
        tokenizer.pad_token = tokenizer.eos_token
        logger.info("The tokenizer has no pad token; padding with %r.", tokenizer.eos_token)
    _check_ids(tokenizer, model)
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _check_ids(tokenizer: Any, model: Any) -> None:
    """Check that the embedding has a row for every id that a text can give. Raises a `ValueError`."""
    rows = _embedding_rows(model)
    if rows is None:
        return
    vocabulary = tokenizer.get_vocab()
    added_ids = {getattr(tokenizer, f"{token_kind}_token", None) for token_kind in ADDED_BY_ITSELF}
    # Some models come with tokens for pictures beyond their embedding, which no text holds.
    rare = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} - added_ids
    unembedded = {token: number for token, number in vocabulary.items() if number >= rows}
    examples = {token: number for token, number in unembedded.items() if token not in rare}
    if examples:
        token = max(examples, key=lambda word: examples[word])
        raise ValueError(
            f"The tokenizer makes ids up to {examples[token]} ({shown(token)}), and the embedding of this "
            f"{type(model).__name__} has {rows} rows: {len(examples)} of the {len(tokenizer)} tokens have none. Pass "
            "the "
            "model's own tokenizer as processing_class (in the recipe, --processor), or, if tokens were added, "
            "`model.resize_token_embeddings(len(tokenizer))`; from scratch, leave vocab_size out."
        )
    padding = getattr(model.config, "pad_token_id", None)
    if isinstance(padding, int) and not 0 <= padding < rows:
        raise ValueError(
            f"The config of this {type(model).__name__} says pad_token_id={padding}, and its embedding has {rows} "
            f"rows. Set model.config.pad_token_id to the tokenizer's, {tokenizer.pad_token_id}."
        )
    doubts = []
    if len(vocabulary) < rows / 2:
        doubts.append(f"has {len(vocabulary)} tokens where the model's embedding has {rows} rows")
    if isinstance(padding, int) and padding != tokenizer.pad_token_id:
        doubts.append(f"pads with id {tokenizer.pad_token_id} where the model's config says {padding}")
    if doubts:
        logger.warning("The tokenizer %s: is it the model's own?", " and ".join(doubts))


def _embedding_rows(model: Any) -> int | None:
    """Number of ids that a model takes; `None` where it has no table of them (CANINE hashes its characters)."""
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    weight = getattr(table, "weight", None)
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 else None
