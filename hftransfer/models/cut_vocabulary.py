"""Vocabulary trimming: a tokenizer cut down to the tokens that some texts are made of."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .pretrained import load_tokenizer

logger = logging.getLogger(__name__)

FILE = "tokenizer.json"
TYPES = ("WordPiece", "BPE", "Unigram")  # each can spell what its vocabulary lacks
AT_ONCE = 1000  # texts


def cut_vocabulary(tokenizer: Any, texts: Iterable[str | list[str]], min_count: int = 1) -> Any:
    """A smaller tokenizer of the same class: its vocabulary is what the texts need, and what other texts can be
    spelled with.

    Kept are the tokens that occur in the texts, special and added tokens, all single characters (bytes, in byte-level
    vocabularies), and what a kept token is merged from. With `min_count=1` the texts are cut into the same tokens as
    before; other texts into more and shorter ones where they have tokens that the texts lack. Tokens keep their order.

    Args:
        tokenizer: a fast tokenizer of word pieces, byte pairs or unigrams, its Hub id or folder. It is left as it is.
        texts: strings, or lists of words.
        min_count: how often a token must occur in the texts to be kept.

    Returns:
        The smaller tokenizer. For a model that fits it, see `transplant(..., tokenizer=...)`.

    Raises:
        TypeError: the texts are one string, or no texts.
        ValueError: a slow tokenizer, another kind of vocabulary, no texts at all.
        FileNotFoundError: as `load_tokenizer`.

    Example:
        >>> smaller = cut_vocabulary("sentence-transformers/all-MiniLM-L6-v2", [*news["text"], *medical["text"]])
        >>> student = transplant("runs/teacher", layers=3, tokenizer=smaller)
    """
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = load_tokenizer(os.fspath(tokenizer))
    if isinstance(min_count, bool) or not isinstance(min_count, int) or min_count < 1:
        raise ValueError(f"min_count={min_count!r} must be a whole number of at least 1.")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer, whose vocabulary could be cut. Load it with "
            "`AutoTokenizer.from_pretrained(...)`."
        )
    vocabulary_type = type(tokenizer.backend_tokenizer.model).__name__
    if vocabulary_type not in TYPES:
        raise ValueError(
            f"{type(tokenizer).__name__} has a vocabulary of type {vocabulary_type}, which cannot spell what is cut "
            "out of it; "
            f"this needs one of {', '.join(TYPES)}."
        )
    counts = _token_counts(tokenizer, texts)
    frequent_tokens = {token for token, count in counts.items() if count >= min_count}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        file = Path(folder) / FILE
        spec = json.loads(file.read_text(encoding="utf-8"))
        _cut_specification(spec, frequent_tokens | set(tokenizer.all_special_tokens))
        file.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
        smaller_tokenizer = type(tokenizer).from_pretrained(folder)
    smaller_tokenizer.name_or_path = ""  # it comes from nowhere yet
    logger.info("%s of %s tokens kept.", f"{len(smaller_tokenizer):,}", f"{len(tokenizer):,}")
    return smaller_tokenizer


def _token_counts(tokenizer: Any, texts: Iterable[str | list[str]]) -> Counter[str]:
    """Number of times that each token occurs in the texts."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        given_type = "one string" if isinstance(texts, str) else repr(texts)
        raise TypeError(f"texts must be a list of strings, not {given_type}.")
    counts: Counter[int] = Counter()
    remaining_texts, first_row = iter(texts), 0
    while batch := list(islice(remaining_texts, AT_ONCE)):
        words = not isinstance(batch[0], str)
        for row, text in enumerate(batch, first_row):
            if not (_is_word_list(text) if words else isinstance(text, str)):
                expected_type = "list of words" if words else "string"
                raise TypeError(f"texts row {row} must be a {expected_type} like the first, not {text!r:.80}.")
        encoded = tokenizer(
            batch, add_special_tokens=False, truncation=False, padding=False, is_split_into_words=words, verbose=False
        )
        for ids in encoded["input_ids"]:
            counts.update(ids)
        first_row += len(batch)
    if not counts:
        raise ValueError("texts has no text in it: the vocabulary is cut to what occurs in them.")
    return Counter({tokenizer.convert_ids_to_tokens(i): count for i, count in counts.items()})


def _is_word_list(text: Any) -> bool:
    """Whether a text is a list of words."""
    return isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text)


def _cut_specification(spec: dict[str, Any], needed_tokens: set[str]) -> None:
    """The content of `tokenizer.json`, cut in place and numbered anew in the old order."""
    model = spec["model"]
    added = [entry["content"] for entry in sorted(spec["added_tokens"], key=lambda entry: entry["id"])]
    unigram = model["type"] == "Unigram"
    old_tokens = [piece for piece, _ in model["vocab"]] if unigram else sorted(model["vocab"], key=model["vocab"].get)
    unknown = (None if model["unk_id"] is None else old_tokens[model["unk_id"]]) if unigram else model.get("unk_token")
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    kept_tokens = (
        needed_tokens | {*added, unknown} | {token for token in old_tokens if _is_letter(token, prefix, suffix)}
    )
    merges = model.get("merges", [])
    if merges:
        kept_tokens |= _merge_parts(kept_tokens, merges, prefix)
        model["merges"] = [pair for pair in merges if _merged_token(pair, prefix) in kept_tokens]
    tokens = [token for token in old_tokens if token in kept_tokens]
    if unigram:
        model["vocab"] = [[piece, score] for piece, score in model["vocab"] if piece in kept_tokens]
        model["unk_id"] = None if unknown is None else tokens.index(unknown)
    else:
        model["vocab"] = {token: i for i, token in enumerate(tokens)}
    known_tokens = set(tokens)
    ids = {token: i for i, token in enumerate([*tokens, *(token for token in added if token not in known_tokens)])}
    for entry in spec["added_tokens"]:
        entry["id"] = ids[entry["content"]]
    spec["added_tokens"].sort(key=lambda entry: entry["id"])
    if spec.get("padding"):
        spec["padding"]["pad_id"] = ids[spec["padding"]["pad_token"]]
    for processor in _processors(spec.get("post_processor")):
        for role in ("cls", "sep"):
            if role in processor:
                processor[role] = [processor[role][0], ids[processor[role][0]]]
        for template in processor.get("special_tokens", {}).values():
            template["ids"] = [ids[token] for token in template["tokens"]]


def _is_letter(token: str, prefix: str, suffix: str) -> bool:
    """Whether a token stands for one character or byte, at any position in a word."""
    characters = token.removeprefix(prefix).removesuffix(suffix)
    return len(characters) == 1 or (len(characters) == 6 and characters.startswith("<0x"))


def _merged_token(pair: list[str], prefix: str) -> str:
    """The token that a pair of tokens is merged to."""
    return pair[0] + pair[1].removeprefix(prefix)


def _merge_parts(kept_tokens: set[str], merges: list[list[str]], prefix: str) -> set[str]:
    """Tokens that the kept ones are merged from, down to the letters. With these and the merges in their old order, a
    kept token is put together as before."""
    tokens_with_parts, previous_count = set(kept_tokens), -1
    while len(tokens_with_parts) > previous_count:
        previous_count = len(tokens_with_parts)
        for pair in reversed(merges):  # parts are mostly learned before the whole
            if _merged_token(pair, prefix) in tokens_with_parts:
                tokens_with_parts.update(pair)
    return tokens_with_parts - kept_tokens


def _processors(post: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A post-processor and those inside it."""
    if post is not None:
        yield post
        for inner in post.get("processors", []):
            yield from _processors(inner)
