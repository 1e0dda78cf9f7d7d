"""Tiny fast tokenizers of the usual kinds, made in memory: each cuts "fever" into two tokens or more."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

KINDS = ("wordpiece", "byte-level", "sentencepiece", "sentencepiece without words")
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
LETTERS = sorted(set("fevercured"))


def make(kind: str):
    """A tokenizer by its kind, with a mask token."""
    if kind == "wordpiece":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = ["fe", "cu", "##ver", "##red", "##fe"]
        return BertTokenizer(vocab={token: i for i, token in enumerate([*special, *words])}, model_max_length=64)
    space = "\u0120" if kind == "byte-level" else "\u2581"
    if kind == "byte-level":
        pieces = [space, *LETTERS, "fe", "ve", "ver", "cu", "re", "red", f"{space}fe", f"{space}cu"]
        merges = [("f", "e"), ("v", "e"), ("ve", "r"), ("c", "u"), ("r", "e"), ("re", "d")]
        merges += [(space, "fe"), (space, "cu")]
        vocab = {token: i for i, token in enumerate([*SPECIAL, *pieces])}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        pieces = [(token, 0.0) for token in SPECIAL] + [(token, -8.0) for token in [space, *LETTERS]]
        pieces += [(token, -2.0) for token in ("fe", "ver", "red", f"{space}fe", f"{space}cu")]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
        split = kind == "sentencepiece"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
        tokenizer.decoder = decoders.Metaspace()
    ends = [("<s>", 2), ("</s>", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    special = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
