"""From one tokenizer to another: which rows of an embedding are kept, and what new ones start as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ROLES = ("pad", "unk", "cls", "sep", "bos", "eos", "mask")
NEW_TOKENS = ("subwords", "normal")


@dataclass(frozen=True)
class MovedEmbedding:
    """Where the rows of a new embedding came from, in tokens."""

    weight: torch.Tensor
    kept: int
    averaged: int
    drawn: int

    def __str__(self) -> str:
        parts = {"kept": self.kept, "mean of old sub-words": self.averaged, "drawn": self.drawn}
        return ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)


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
    mean, spread = table.mean(0), table.std(0)
    weight = mean + spread * torch.randn(rows, table.shape[1], dtype=torch.float64)
    known = _matching_tokens(source, target, len(table))
    vocabulary = target.get_vocab()
    new = {token: i for token, i in vocabulary.items() if i not in known and i < rows}
    for i, j in known.items():
        weight[i] = table[j]
    averaged = 0
    if new_tokens == "subwords" and new:
        texts = {i: _token_text(target, token) for token, i in new.items() if token not in target.all_special_tokens}
        texts = {i: text for i, text in texts.items() if text}
        pieces = source(list(texts.values()), add_special_tokens=False)["input_ids"] if texts else []
        for i, ids in zip(texts, pieces, strict=True):
            ids = [j for j in ids if j != source.unk_token_id and j < len(table)]
            if ids:
                weight[i] = table[ids].mean(0)
                averaged += 1
    return MovedEmbedding(weight.to(old.dtype), len(known), averaged, rows - len(known) - averaged)


def _matching_tokens(source: Any, target: Any, limit: int) -> dict[int, int]:
    """New id to old id, for tokens of the same role or the same text at the same place in a word."""
    roles: dict[int, int] = {}
    for role in ROLES:
        ours, theirs = getattr(target, f"{role}_token_id", None), getattr(source, f"{role}_token_id", None)
        if ours is not None and theirs is not None:
            roles.setdefault(ours, theirs)
    for first, second in (("cls", "bos"), ("bos", "cls"), ("sep", "eos"), ("eos", "sep")):
        ours, theirs = getattr(target, f"{first}_token_id", None), getattr(source, f"{second}_token_id", None)
        if ours is not None and theirs is not None:
            roles.setdefault(ours, theirs)
    old, new = _word_marker(source), _word_marker(target)
    alike = old == new or target.get_vocab().keys() <= source.get_vocab().keys()  # a cut one may have lost its marks
    read: tuple[Callable, Callable] = (str, str) if alike else (_token_reader(old), _token_reader(new))
    special = {*source.all_special_ids}
    there = {read[0](token): i for token, i in source.get_vocab().items() if i not in special}
    found = {i: there[read[1](token)] for token, i in target.get_vocab().items() if read[1](token) in there}
    return {i: j for i, j in {**found, **roles}.items() if j < limit}


def _word_marker(tokenizer: Any) -> str:
    """How a vocabulary marks where words begin or go on."""
    vocabulary = tokenizer.get_vocab()
    for mark in ("##", "Ġ", "▁"):
        if any(token.startswith(mark) and len(token) > len(mark) for token in vocabulary):
            return mark
    return ""


def _token_reader(mark: str) -> Callable[[str], tuple[bool, str]]:
    """Token to (goes on a word, text), whatever the mark."""

    def read(token: str) -> tuple[bool, str]:
        goes_on = token.startswith(mark) == (mark == "##") if mark else False  # without marks, all are words
        return goes_on, token.removeprefix(mark)

    return read


def _token_text(tokenizer: Any, token: str) -> str:
    """What a token stands for in a text."""
    if token.startswith("##"):
        return token.removeprefix("##")
    return str(tokenizer.convert_tokens_to_string([token])).replace("▁", " ").strip()
