"""Tokenizers of every kind of vocabulary, trained in memory on a few texts."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

CORPUS = ["the patient was treated", "treatment of patients", "a treat for the winner", "winning winners win"] * 5
CORPUS += ["ill"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ROLES = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}


def word_pieces() -> BertTokenizer:
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "patient", "##s", "treat", "##ment"]
    words += ["win", "##ning", "##ner", "##ners", "treated", "was", "of", "for", "日", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrtuvwxyz"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def byte_pairs(space: bool = True):
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=space), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet)
    pairs.train_from_iterator(CORPUS, trainer)
    ends = [("</s>", pairs.token_to_id("</s>")), ("<s>", pairs.token_to_id("<s>"))]
    pairs.post_processor = processors.Sequence([processors.ByteLevel(), processors.RobertaProcessing(*ends)])
    return PreTrainedTokenizerFast(tokenizer_object=pairs, **ROLES)


def ends_of_words():
    """Byte pairs that mark where words end, and words that were added to the vocabulary."""
    pairs = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=SPECIAL, end_of_word_suffix="</w>")
    pairs.train_from_iterator([*CORPUS, "z y x w v u z zz"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=pairs, **ROLES)
    made.add_tokens(["CRP", "TNF"])
    return made


def unigrams():
    grams = Tokenizer(models.Unigram())
    grams.normalizer, grams.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    grams.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=SPECIAL, unk_token="<unk>")
    grams.train_from_iterator([*CORPUS, "z"], trainer)
    template = [(token, grams.token_to_id(token)) for token in ("<s>", "</s>")]
    grams.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", special_tokens=template)
    return PreTrainedTokenizerFast(tokenizer_object=grams, **ROLES)


KINDS = {"words": word_pieces, "bytes": byte_pairs, "ends": ends_of_words, "unigrams": unigrams}


def tokens(tokenizer, texts):
    return [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(texts)["input_ids"]]
