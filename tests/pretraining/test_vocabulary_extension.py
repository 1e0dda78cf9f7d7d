"""An extended vocabulary reads its new words as one token and all else as before, with a model that fits."""

from __future__ import annotations

import logging

import pytest
import tiny
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    MobileBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)
from vocabularies import KINDS, ROLES, byte_pairs, ends_of_words, unigrams, word_pieces

from hftransfer import extend_vocabulary
from hftransfer.pretraining import vocabulary_extension

TEXTS = ["the patientess of wintering", "wintering the patientess", "patientess, Patientess!"] * 6
OTHERS = ["patient winters", "xpatientess", "a patient wint", "winter to patients", "patient's", "12 treated"]
WORDS = {
    "words": {"patientess", "wintering"},
    "bytes": {"Ġpatientess", "Ġwintering"},
    "unigrams": {"▁patientess", "▁wintering", "▁the"},
}
SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
}
SMALL_DISTIL = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
MODELS = {
    "tied": lambda rows: BertConfig(vocab_size=rows, **SIZE),
    "bias of its own": lambda rows: RobertaConfig(vocab_size=rows, **SIZE),
    "untied": lambda rows: MPNetConfig(vocab_size=rows, tie_word_embeddings=False, **SIZE),
    "narrow embeddings": lambda rows: AlbertConfig(vocab_size=rows, embedding_size=8, **SIZE),
    "projector": lambda rows: DistilBertConfig(vocab_size=rows, **SMALL_DISTIL),
    "more rows than tokens": lambda rows: BertConfig(vocab_size=rows + 64, **SIZE),
}


@pytest.mark.parametrize("kind", WORDS)
def test_new_words_are_one_token_and_all_else_is_cut_as_before(kind, tmp_path):
    old = KINDS[kind]()
    before = old.backend_tokenizer.to_str()
    extension = extend_vocabulary(old, TEXTS, min_count=7)
    new = extension.tokenizer
    assert old.backend_tokenizer.to_str() == before
    assert set(extension.words) == WORDS[kind]
    assert all(
        old.get_vocab()[token] == number for token, number in new.get_vocab().items() if token in old.get_vocab()
    )
    assert sorted(extension.pieces) == [len(old) + i for i in range(len(WORDS[kind]))]
    assert new(OTHERS)["input_ids"] == old(OTHERS)["input_ids"]
    for before, after in zip(old(TEXTS)["input_ids"], new(TEXTS)["input_ids"], strict=True):
        assert [piece for token in after for piece in extension.pieces.get(token, (token,))] == before
    assert [new.decode(ids, skip_special_tokens=True) for ids in new(TEXTS)["input_ids"]] == [
        old.decode(ids, skip_special_tokens=True) for ids in old(TEXTS)["input_ids"]
    ]
    spared = sum(map(len, old(TEXTS)["input_ids"])) - sum(map(len, new(TEXTS)["input_ids"]))
    whole = sum(map(len, old(TEXTS, add_special_tokens=False)["input_ids"]))
    assert spared / whole == pytest.approx(extension.saving)
    new.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS + OTHERS)["input_ids"] == new(TEXTS + OTHERS)["input_ids"]
    assert (again.special_tokens_map, again.padding_side) == (old.special_tokens_map, old.padding_side)
    assert again.model_input_names == old.model_input_names
    assert again.model_max_length == old.model_max_length


def test_a_longer_word_is_no_new_word_but_with_unigrams():
    """There it begins with the same pieces, and so with the token that stands for them."""
    for make in (word_pieces, byte_pairs):
        old = make()
        new = extend_vocabulary(old, TEXTS, min_count=7).tokenizer
        assert new.tokenize("a patientessx winterings") == old.tokenize("a patientessx winterings")
    old = unigrams()
    extension = extend_vocabulary(old, TEXTS, min_count=7)
    assert extension.tokenizer.tokenize("a patientessx")[-2:] == ["▁patientess", "x"]
    ids = extension.tokenizer("a patientessx")["input_ids"]
    assert [p for token in ids for p in extension.pieces.get(token, (token,))] == old("a patientessx")["input_ids"]


def test_added_tokens_behind_unigrams_keep_their_ids():
    old = unigrams()
    old.add_tokens(["<here>", "<there>"])
    extension = extend_vocabulary(old, TEXTS, min_count=7)
    assert extension.tokenizer.tokenize("win <there>patientess")[-2:] == ["<there>", "▁patientess"]
    assert extension.tokenizer.convert_tokens_to_ids("<there>") == len(old) - 1
    assert min(extension.pieces) == len(old)


def test_words_that_save_most_come_first_and_no_more_than_asked():
    extension = extend_vocabulary(word_pieces(), TEXTS, max_words=1, min_count=1)
    assert extension.words == ("patientess",)  # 24 times three tokens saved; wintering 12 times six
    assert extend_vocabulary(word_pieces(), TEXTS, min_count=13).words == ("patientess",)
    assert str(extension).startswith("1 words added") or "words added to the vocabulary" in str(extension)


def test_nothing_is_added_that_saves_too_little():
    old = word_pieces()
    for settings in ({"min_count": 100}, {"min_saving": 0.9}):
        extension = extend_vocabulary(old, TEXTS, **settings)
        assert extension.tokenizer is old
        assert extension.words == ()
        assert "No words added" in str(extension)
        model = tiny.bert()
        assert extension.extend_model(model) is model
    assert not extend_vocabulary(old, ["12 345 [UNK] a-b-c"] * 30).words  # numbers and signs are no words


@pytest.mark.parametrize("name", MODELS)
def test_new_rows_are_the_mean_of_their_pieces(name, tmp_path):
    """Of the embedding, of an output layer and of its bias: the logit of a word is the mean of its pieces' logits."""
    old = word_pieces()
    extension = extend_vocabulary(old, TEXTS, min_count=7)
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(MODELS[name](len(old))).eval()
    for parameter in model.parameters():
        parameter.data.normal_()
    model.tie_weights()
    ids = old(["the patient win"], return_tensors="pt")["input_ids"]
    embedding = model.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        before = model(input_ids=ids).logits
        assert extension.extend_model(model) is model
        after = model(input_ids=ids).logits
    rows = model.get_input_embeddings().weight.detach()
    assert len(rows) == model.config.vocab_size == max(len(embedding), len(extension.tokenizer))
    untouched = [i for i in range(len(embedding)) if i not in extension.pieces]
    assert torch.equal(rows[untouched], embedding[untouched])
    assert torch.equal(after[..., untouched], before[..., untouched])
    for new, pieces in extension.pieces.items():
        torch.testing.assert_close(rows[new], rows[list(pieces)].double().mean(0).float())
        torch.testing.assert_close(after[..., new], before[..., list(pieces)].mean(-1), rtol=1e-5, atol=1e-5)
    if name != "untied":
        model.save_pretrained(tmp_path)
        with torch.no_grad():
            again = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()(input_ids=ids).logits
        torch.testing.assert_close(again, after, rtol=0, atol=1e-6)


def test_a_classifier_is_extended_too():
    extension = extend_vocabulary(tiny.tokenizer(), ["w1x w2"] * 9, min_count=9)
    model = tiny.bert(vocab_size=len(tiny.tokenizer())).eval()
    extension.extend_model(model)
    assert model.get_input_embeddings().weight.shape[0] == len(extension.tokenizer)
    assert model(**extension.tokenizer(["w1x w2"], return_tensors="pt")).logits.isfinite().all()


def test_tokens_that_merges_never_make_are_named(caplog):
    old = byte_pairs()
    spec = old.backend_tokenizer.to_str()
    hidden = spec.replace('"vocab":{', f'"vocab":{{"Ġzzz":{len(old)},', 1)
    old = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(hidden), **ROLES)
    with caplog.at_level(logging.WARNING):
        extend_vocabulary(old, TEXTS, min_count=7)
    assert "1 token(s) that its merges never make, such as 'Ġzzz'" in caplog.text
    caplog.clear()
    extend_vocabulary(byte_pairs(), TEXTS, min_count=7)
    assert not caplog.text


def test_a_vocabulary_that_would_cut_other_text_anew_is_refused(monkeypatch):
    """A tokenizer whose new words are found within others, as plain added tokens would be."""

    def careless(tokenizer, kind, pieces):
        copy = tiny.tokenizer()
        copy.add_tokens(list(pieces))
        return copy

    monkeypatch.setattr(vocabulary_extension, "_extended", careless)
    with pytest.raises(ValueError, match="texts row 2: with new words, BertTokenizer cuts other parts"):
        extend_vocabulary(tiny.tokenizer(), ["w1x w2", "w1x w2", "w1xx w2"] * 2, min_count=4, min_saving=0)


class Slow:
    is_fast = False


def plain_pairs():
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))


def another_model():
    extension = extend_vocabulary(word_pieces(), TEXTS, min_count=7)
    return extension.extend_model(AutoModelForSequenceClassification.from_config(BertConfig(vocab_size=9, **SIZE)))


def a_model_of_its_own_kind():
    extension = extend_vocabulary(word_pieces(), TEXTS, min_count=7)
    config = MobileBertConfig(vocab_size=len(word_pieces()), embedding_size=16, intra_bottleneck_size=16, **SIZE)
    return extension.extend_model(AutoModelForMaskedLM.from_config(config))


BAD = {
    "slow": (lambda: extend_vocabulary(Slow(), TEXTS), "Slow is no fast tokenizer"),
    "marked ends": (lambda: extend_vocabulary(ends_of_words(), TEXTS), "type BPE that cannot be extended"),
    "no bytes": (lambda: extend_vocabulary(plain_pairs(), TEXTS), "type BPE that cannot be extended"),
    "one string": (lambda: extend_vocabulary(word_pieces(), "the patients"), "must be a list of strings, not one"),
    "a generator": (lambda: extend_vocabulary(word_pieces(), iter(TEXTS)), "not a list_iterator"),
    "a hole": (lambda: extend_vocabulary(word_pieces(), ["win", None]), "texts row 1 must be a string, not NoneType"),
    "none": (lambda: extend_vocabulary(word_pieces(), []), "texts has no text in it"),
    "words": (lambda: extend_vocabulary(word_pieces(), TEXTS, max_words=0), "max_words=0"),
    "count": (lambda: extend_vocabulary(word_pieces(), TEXTS, min_count=0), "min_count=0"),
    "saving": (lambda: extend_vocabulary(word_pieces(), TEXTS, min_saving=1), "min_saving=1 must be a share"),
    "nowhere": (lambda: extend_vocabulary("./nowhere", TEXTS), "no folder './nowhere'"),
    "another model": (another_model, "has 9 rows, and the tokenizer"),
    "resized otherwise": (a_model_of_its_own_kind, "resizes its vocabulary in a way of its own"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, message = BAD[case]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        make()
