"""Embedding transfer between tokenizers: which rows are kept, and what the rows of new tokens start as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ROLES = ("pad", "unk", "cls", "sep", "bos", "eos", "mask")
NEW_TOKENS = ("subwords", "normal")


@dataclass(frozen=True)
class MovedEmbedding:
    """An embedding for another tokenizer, and how many of its rows were kept, averaged or drawn."""

    weight: torch.Tensor
    kept: int
    averaged: int
    drawn: int

    def __str__(self) -> str:
        counts = {"kept": self.kept, "mean of old sub-words": self.averaged, "drawn": self.drawn}
        return ", ".join(f"{count:,} {origin}" for origin, count in counts.items() if count)


@torch.no_grad()
def move_embedding(
    old: torch.Tensor, source: Any, target: Any, rows: int, new_tokens: str = "subwords"
) -> MovedEmbedding:
    """An embedding for another tokenizer.

    A special token keeps the row of the token with its role (`[CLS]` and `<s>`); any other that both vocabularies
    have keeps its row. A new one starts as the mean of the rows of the old sub-words that its text is made of, or,
    where it has no text and with `new_tokens="normal"`, is drawn from the normal distribution with the mean and
    variance of the old rows.

    Args:
        old: (V, d).
        source, target: the tokenizers.
        rows: of the new embedding; at least the target's vocabulary.
        new_tokens: `"subwords"` or `"normal"`.

    Returns:
        (rows, d) and the counts.
    """
    table = old.detach().double()
    mean, deviation = table.mean(0), table.std(0)
    weight = mean + deviation * torch.randn(rows, table.shape[1], dtype=torch.float64)
    kept_ids = _matching_tokens(source, target, len(table))
    vocabulary = target.get_vocab()
    new_token_ids = {token: i for token, i in vocabulary.items() if i not in kept_ids and i < rows}
    for i, j in kept_ids.items():
        weight[i] = table[j]
    averaged = 0
    if new_tokens == "subwords" and new_token_ids:
        texts = {
            i: _token_text(target, token)
            for token, i in new_token_ids.items()
            if token not in target.all_special_tokens
        }
        texts = {i: text for i, text in texts.items() if text}
        subword_ids = source(list(texts.values()), add_special_tokens=False)["input_ids"] if texts else []
        for i, ids in zip(texts, subword_ids, strict=True):
            ids = [j for j in ids if j != source.unk_token_id and j < len(table)]
            if ids:
                weight[i] = table[ids].mean(0)
                averaged += 1
    return MovedEmbedding(weight.to(old.dtype), len(kept_ids), averaged, rows - len(kept_ids) - averaged)


def _matching_tokens(source: Any, target: Any, limit: int) -> dict[int, int]:
    """Map of new ids to old ids, for tokens of the same role or of the same text at the same position in a word."""
    roles: dict[int, int] = {}
    for role in ROLES:
        target_id, source_id = getattr(target, f"{role}_token_id", None), getattr(source, f"{role}_token_id", None)
        if target_id is not None and source_id is not None:
            roles.setdefault(target_id, source_id)
    for target_role, source_role in (("cls", "bos"), ("bos", "cls"), ("sep", "eos"), ("eos", "sep")):
        target_id, source_id = (
            getattr(target, f"{target_role}_token_id", None),
            getattr(source, f"{source_role}_token_id", None),
        )
        if target_id is not None and source_id is not None:
            roles.setdefault(target_id, source_id)
    source_marker, target_marker = _word_marker(source), _word_marker(target)
    same_marker = (
        source_marker == target_marker or target.get_vocab().keys() <= source.get_vocab().keys()
    )  # a cut one may have lost its marks
    readers: tuple[Callable, Callable] = (
        (str, str) if same_marker else (_token_reader(source_marker), _token_reader(target_marker))
    )
    special = {*source.all_special_ids}
    source_ids = {readers[0](token): i for token, i in source.get_vocab().items() if i not in special}
    same_text = {
        i: source_ids[readers[1](token)] for token, i in target.get_vocab().items() if readers[1](token) in source_ids
    }
    return {i: j for i, j in {**same_text, **roles}.items() if j < limit}


def _word_marker(tokenizer: Any) -> str:
    """Prefix by which a vocabulary marks where words begin or go on."""
    vocabulary = tokenizer.get_vocab()
    for marker in ("##", "Ġ", "▁"):
        if any(token.startswith(marker) and len(token) > len(marker) for token in vocabulary):
            return marker
    return ""


def _token_reader(marker: str) -> Callable[[str], tuple[bool, str]]:
    """Function from a token to (continues a word, text), whatever the marker."""

    def read(token: str) -> tuple[bool, str]:
        continues_word = (
            token.startswith(marker) == (marker == "##") if marker else False
        )  # without marks, all are words
        return continues_word, token.removeprefix(marker)

    return read


def _token_text(tokenizer: Any, token: str) -> str:
    """The text that a token stands for."""
    if token.startswith("##"):
        return token.removeprefix("##")
    return str(tokenizer.convert_tokens_to_string([token])).replace("▁", " ").strip()
