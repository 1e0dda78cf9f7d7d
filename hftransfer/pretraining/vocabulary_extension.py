"""Vocabulary extension: frequent words of some texts become tokens of their own, for pre-training on these texts."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AddedToken, PreTrainedTokenizerFast

from ..models.pretrained import load_tokenizer
from ..objectives.base import check_count

logger = logging.getLogger(__name__)
AT_ONCE = 1000  # texts
CHECKED_TEXTS = 2000  # that the new tokenizer is tried on
MARGIN = 1e-6  # by which a new unigram is likelier than its pieces together
FILE = "tokenizer.json"
SPACE = {"BPE": "Ġ", "Unigram": "▁"}  # how a piece says that a space comes before it


@dataclass(frozen=True)
class VocabularyExtension:
    """A tokenizer with words of some texts as new tokens.

    Attributes:
        tokenizer: the new tokenizer; the old one where no word was added.
        pieces: ids of the pieces that each new token stands for, by its id.
        words: the new tokens, those that save most first.
        saving: share of the texts' tokens that the new ones save.
        min_saving: share below which nothing is added.

    Example:
        >>> extension = extend_vocabulary("runs/teacher", ["w1x w2"] * 3, min_count=2)
        >>> extension.words, round(extension.saving, 2)
        (('w1x',), 0.33)
        >>> extension.tokenizer.tokenize("w1x w1 w2x")
        ['w1x', 'w1', 'w2', '##x']
    """

    tokenizer: Any
    pieces: Mapping[int, tuple[int, ...]]
    words: tuple[str, ...]
    saving: float
    min_saving: float

    def __str__(self) -> str:
        if self.words:
            return f"{len(self.words):,} words added to the vocabulary: the texts have {self.saving:.1%} fewer tokens."
        return (
            f"No words added to the vocabulary: the texts would have {self.saving:.1%} fewer tokens, and min_saving "
            f"is {self.min_saving:.1%}."
        )

    @torch.no_grad()
    def extend_model(self, model: Any) -> Any:
        """The model with rows for the new tokens, changed in place.

        A new row of the embedding is the mean of the rows of its pieces. So is a row of an output layer that is not
        tied to the embedding, and an entry of its bias. All other weights stay as they are.

        Args:
            model: of transformers, with the vocabulary of the old tokenizer: with a head for masked words or another.

        Raises:
            ValueError: it lacks a row for one of the pieces, or its vocabulary cannot grow.

        Example:
            >>> extension = extend_vocabulary("runs/teacher", ["w1x w2"] * 3, min_count=2)
            >>> extension.extend_model(model).get_input_embeddings().weight.shape
            torch.Size([64, 32])
        """
        if not self.pieces:
            return model
        old_rows = model.get_input_embeddings().weight.shape[0]
        largest = max(max(ids) for ids in self.pieces.values())
        if largest >= old_rows:
            raise ValueError(
                f"The embedding of this {type(model).__name__} has {old_rows} rows, and the tokenizer that was "
                f"extended makes ids up to {largest}. Pass the model of that tokenizer."
            )
        if max(self.pieces) >= old_rows:
            if "mean_resizing" not in inspect.signature(model.resize_token_embeddings).parameters:
                raise ValueError(
                    f"{type(model).__name__} resizes its vocabulary in a way of its own, and new rows of it cannot be "
                    "made from old ones. Train it with the tokenizer that it has."
                )
            model.resize_token_embeddings(max(self.pieces) + 1, mean_resizing=False)
        for table in _vocabulary_tables(model):
            for new, ids in self.pieces.items():
                table[new] = table[list(ids)].double().mean(0).to(table.dtype)
        return model


def extend_vocabulary(
    tokenizer: Any,
    texts: Iterable[str],
    *,
    max_words: int = 2000,
    min_count: int = 10,
    min_saving: float = 0.02,
) -> VocabularyExtension:
    """Tokenizer with the frequent words of some texts as tokens, where that makes the texts noticeably shorter.

    New tokens are whole words that the tokenizer cuts into two pieces or more, in the order of how many tokens of the
    texts they save. Everything else is cut as before:

    - Word pieces: a new token stands for the whole word alone, never for a part of another word. Case and accents are
      read as the tokenizer reads them.
    - Byte pairs on the level of bytes: the same. A word after a space and the word at the start of a text are two
      tokens, as in the old vocabulary.
    - Unigrams: a new token stands where its pieces stood. So a longer word that begins with the same pieces begins
      with the new token.

    The new tokenizer is tried on the texts: with each new token replaced by its pieces, they are cut as before.

    Args:
        tokenizer: a fast tokenizer, its Hub id or folder. It is left as it is. That of word pieces comes back as the
            same class; others as `PreTrainedTokenizerFast`, since their own classes forget how to read whole words.
        texts: strings, without labels. Read twice: a list or a column, no generator.
        max_words: most tokens that are added.
        min_count: how often a word must occur.
        min_saving: share of the texts' tokens; if all new tokens together save less, nothing is added.

    Returns:
        The tokenizer, and what it takes to make a model fit: `extension.extend_model(model)`.

    Raises:
        TypeError: the texts are one string, or no texts.
        ValueError: a slow tokenizer, another kind of vocabulary, or no texts at all.
        FileNotFoundError: as `load_tokenizer`.

    Example:
        >>> extension = extend_vocabulary("runs/teacher", ["w1x w2", "w3"], min_count=2)
        >>> str(extension)
        'No words added to the vocabulary: the texts would have 0.0% fewer tokens, and min_saving is 2.0%.'

    Paper: Hong et al., AVocaDo: Strategy for Adapting Vocabulary to Downstream Domain, EMNLP 2021; new rows as the
    mean of their pieces: Gee et al., Fast Vocabulary Transfer for Language Model Compression, EMNLP 2022.
    """
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = load_tokenizer(os.fspath(tokenizer))
    for name, value in (("max_words", max_words), ("min_count", min_count)):
        check_count(name, value)
    if isinstance(min_saving, bool) or not isinstance(min_saving, (int, float)) or not 0 <= min_saving < 1:
        raise ValueError(f"min_saving={min_saving!r} must be a share from 0 to below 1.")
    kind = _vocabulary_kind(tokenizer)
    counts, pieces, tokens = _split_words(tokenizer, texts, kind)
    saved = {word: counts[word] * (len(pieces[word]) - 1) for word in pieces if counts[word] >= min_count}
    words = sorted(saved, key=lambda word: (-saved[word], word))[:max_words]
    saving = sum(saved[word] for word in words) / tokens
    if not words or saving < min_saving:
        return VocabularyExtension(tokenizer, {}, (), saving, min_saving)
    extended = _extended(tokenizer, kind, {word: pieces[word] for word in words})
    ids = {extended.convert_tokens_to_ids(word): pieces[word] for word in words}
    extension = VocabularyExtension(extended, ids, tuple(words), saving, min_saving)
    _check_unchanged(tokenizer, extension, texts)
    return extension


def _vocabulary_kind(tokenizer: Any) -> str:
    """`"WordPiece"`, `"BPE"` or `"Unigram"`. Raises a `ValueError` for what cannot be extended."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer, whose vocabulary could be extended. Load it with "
            "`AutoTokenizer.from_pretrained(...)`."
        )
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    model, splitter = spec["model"], json.dumps(spec["pre_tokenizer"])
    kind = str(model["type"])
    marked = bool(model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"))
    usable = {
        "WordPiece": True,
        "BPE": '"ByteLevel"' in splitter and not marked,
        "Unigram": '"Metaspace"' in splitter,
    }
    if not usable.get(kind, False):
        raise ValueError(
            f"{type(tokenizer).__name__} has a vocabulary of type {kind} that cannot be extended by whole words; this "
            "needs word pieces, byte pairs on the level of bytes, or unigrams that are cut at spaces."
        )
    return kind


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in batches. Raises a `TypeError` for what is no list of texts."""
    if isinstance(texts, str) or not isinstance(texts, Iterable) or isinstance(texts, Iterator):
        given = "one string" if isinstance(texts, str) else f"a {type(texts).__name__}"
        raise TypeError(f"texts must be a list of strings, not {given}.")
    remaining, first = iter(texts), 0
    while batch := list(islice(remaining, AT_ONCE)):
        for row, text in enumerate(batch, first):
            if not isinstance(text, str):
                raise TypeError(f"texts row {row} must be a string, not {type(text).__name__}.")
        yield batch
        first += len(batch)


def _split_words(
    tokenizer: Any, texts: Iterable[str], kind: str
) -> tuple[Counter[str], dict[str, tuple[int, ...]], int]:
    """How often words occur that are cut into pieces, the ids of their pieces, and the number of all tokens.

    Words are as the vocabulary would write them.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    total = 0
    for batch in _batches(texts):
        for encoding in tokenizer.backend_tokenizer.encode_batch(batch, add_special_tokens=False):
            total += len(encoding.ids)
            words: dict[tuple[int, int], list[int]] = {}
            start = 0  # of the last piece after a space: some unigrams take a whole text for one word
            for place, (token, piece, word) in enumerate(
                zip(encoding.ids, encoding.tokens, encoding.word_ids, strict=True)
            ):
                if kind == "Unigram" and piece.startswith(SPACE[kind]):
                    start = place
                if word is not None:
                    words.setdefault((word, start), []).append(token)
            counts.update(tuple(ids) for ids in words.values() if len(ids) > 1)
    if not total:
        raise ValueError("texts has no text in it: new words are what occurs in them.")
    pieces: dict[str, tuple[int, ...]] = {}
    by_word: Counter[str] = Counter()
    vocabulary = tokenizer.get_vocab()
    for ids, count in counts.items():
        ids = _without_signs(tokenizer, ids) if kind == "Unigram" else ids
        word = _word(tokenizer, ids, kind) if len(ids) > 1 else None
        if word is not None and word not in vocabulary:
            pieces[word] = ids
            by_word[word] += count
    return by_word, pieces, total


def _without_signs(tokenizer: Any, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Pieces of a word before the first sign: unigrams are cut at spaces alone. None if the word alone has others."""
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    letters = list(takewhile(lambda token: token.removeprefix(SPACE["Unigram"]).isalnum(), tokens[1:]))
    pieces = ids[: 1 + len(letters)]
    alone = tokenizer.backend_tokenizer.model.tokenize(tokens[0] + "".join(letters))
    return pieces if pieces == tuple(token.id for token in alone) else ()


def _word(tokenizer: Any, ids: tuple[int, ...], kind: str) -> str | None:
    """Word that pieces make, as the vocabulary would write it; `None` where it is no word of letters and digits."""
    if tokenizer.unk_token_id in ids:
        return None
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    prefix = "##" if kind == "WordPiece" else ""
    word = tokens[0] + "".join(token.removeprefix(prefix) for token in tokens[1:])
    text = word.removeprefix(SPACE[kind]) if kind in SPACE else word
    if kind == "BPE":
        text = tokenizer.backend_tokenizer.decoder.decode([text])
    is_word = text.isalnum() and not text.isdigit()
    return word if is_word and (kind != "Unigram" or word != text) else None


def _extended(tokenizer: Any, kind: str, pieces: Mapping[str, tuple[int, ...]]) -> Any:
    """Copy of a tokenizer with new words."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if kind == "WordPiece":
            copy = type(tokenizer).from_pretrained(folder)
            copy.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in pieces])
        else:
            file = Path(folder) / FILE
            spec = json.loads(file.read_text(encoding="utf-8"))
            (_add_byte_pairs if kind == "BPE" else _add_unigrams)(spec, pieces)
            file.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
            settings_file = Path(folder) / "tokenizer_config.json"
            settings = json.loads(settings_file.read_text(encoding="utf-8"))
            settings |= {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": tokenizer.model_input_names,
            }
            settings_file.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
            copy = PreTrainedTokenizerFast.from_pretrained(folder)
    copy.name_or_path = ""  # it comes from nowhere yet
    return copy


def _add_byte_pairs(spec: dict[str, Any], pieces: Mapping[str, tuple[int, ...]]) -> None:
    """New words in the content of `tokenizer.json`: found whole, before pairs are merged."""
    model = spec["model"]
    if not model["ignore_merges"]:
        _note_unmade_tokens(spec)
    following = 1 + max([*model["vocab"].values(), *(entry["id"] for entry in spec["added_tokens"])])
    model["vocab"] |= {word: following + i for i, word in enumerate(pieces)}
    model["ignore_merges"] = True


def _note_unmade_tokens(spec: Mapping[str, Any]) -> None:
    """Warning of tokens that no merges make: until now never used, from now on those of the text that they spell."""
    added = {entry["content"] for entry in spec["added_tokens"]}
    merging = Tokenizer.from_str(json.dumps(spec)).model
    unmade = [token for token in spec["model"]["vocab"] if token not in added and len(merging.tokenize(token)) != 1]
    if unmade:
        logger.warning(
            "The vocabulary has %s token(s) that its merges never make, such as %r. Where one of them is a whole word "
            "of a text, the extended tokenizer reads it as that token.",
            len(unmade),
            unmade[0],
        )


def _add_unigrams(spec: dict[str, Any], pieces: Mapping[str, tuple[int, ...]]) -> None:
    """New words in the content of `tokenizer.json`: a little likelier than their pieces together.

    The id of a unigram is its place. Added tokens behind the last one get a place, too; texts never reach it, since
    added tokens are cut out before.
    """
    vocabulary = spec["model"]["vocab"]
    behind = sorted((e["id"], e["content"]) for e in spec["added_tokens"] if e["id"] >= len(vocabulary))
    if [number for number, _ in behind] != [*range(len(vocabulary), len(vocabulary) + len(behind))]:
        raise ValueError("The tokenizer's added tokens do not follow its vocabulary without a gap.")
    scores = [score for _, score in vocabulary]
    lowest = min(scores) - 10
    vocabulary += [[content, lowest] for _, content in behind]
    vocabulary += [[word, sum(scores[i] for i in ids) + MARGIN] for word, ids in pieces.items()]


def _check_unchanged(tokenizer: Any, extension: VocabularyExtension, texts: Iterable[str]) -> None:
    """Check, on some of the texts, that new tokens stand where their pieces stood. Raises a `ValueError`."""
    row = 0
    for batch in _batches(texts):
        old, new = (t(batch, add_special_tokens=False)["input_ids"] for t in (tokenizer, extension.tokenizer))
        for before, after in zip(old, new, strict=True):
            if [piece for token in after for piece in extension.pieces.get(token, (token,))] != before:
                raise ValueError(
                    f"texts row {row}: with new words, {type(tokenizer).__name__} cuts other parts of the text in "
                    "another way. Its vocabulary is of a kind that cannot be extended; leave it as it is."
                )
            row += 1
        if row >= CHECKED_TEXTS:
            return


def _vocabulary_tables(model: Any) -> Iterator[torch.Tensor]:
    """Weights of a model with one row, or one entry, for each token: each once, those that are tied as well."""
    rows = model.get_input_embeddings().weight.shape[0]
    output = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight, getattr(output, "weight", None)]
    if output is not None:
        tables += [p for name, p in model.named_parameters() if name.endswith("bias") and p.shape == (rows,)]
        tables.append(getattr(output, "bias", None))
    seen: set[int] = set()
    for table in tables:
        if table is not None and table.shape[0] == rows and table.data_ptr() not in seen:
            seen.add(table.data_ptr())
            yield table
