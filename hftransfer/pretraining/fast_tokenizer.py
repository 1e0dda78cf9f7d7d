"""Fast tokenizers: the tokenizer of a model in pre-training, which says of each token to which word it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.pretrained import load_tokenizer
from ..models.processing_class import fit_processing_class


def fast_tokenizer(processing_class: Any, model: Any, name: str, options: Mapping[str, Any], words: bool) -> Any:
    """The tokenizer of a model, which says of each token to which word it belongs.

    Args:
        processing_class: the tokenizer, or the Hub id or folder of one; the checkpoint's own when absent.
        model: loaded.
        name: that it was loaded by.
        options: that it was loaded with.
        words: texts come as lists of words; byte-level tokenizers then need a leading space.

    Raises:
        ValueError: there is none, it is not the model's, or it is slow.
    """
    if processing_class is None and not name:
        raise ValueError(
            "processing_class is missing: a model that was not loaded from anywhere says of no tokenizer. Pass the "
            "tokenizer that belongs to it."
        )
    if processing_class is None or isinstance(processing_class, (str, Path)):
        trusted = bool(options.get("trust_remote_code"))
        revision = options.get("revision") if processing_class is None else None
        processing_class = load_tokenizer(str(processing_class or name), revision, words, trusted)
    tokenizer = fit_processing_class(processing_class, model, "text")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer, and whole words are found by what a fast one says of "
            "them. Load it with `AutoTokenizer.from_pretrained(...)`."
        )
    return tokenizer
