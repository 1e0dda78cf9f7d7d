"""A cut vocabulary reads its texts as before, spells what it lacks, and is a plain tokenizer."""

from __future__ import annotations

import families
import pytest
import tiny
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast, pipeline
from vocabularies import KINDS, SPECIAL, byte_pairs, ends_of_words, tokens, word_pieces

from hftransfer import cut_vocabulary, transplant
from hftransfer.models.embedding_transfer import move_embedding

TEXTS = ["the patients win", "winning the treatment"]
OTHERS = ["patient treated a winner of", "illness wintering zzz"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_texts_are_read_as_before_and_others_are_spelled(kind, tmp_path):
    whole = KINDS[kind]()
    before = whole.backend_tokenizer.to_str()
    cut = cut_vocabulary(whole, TEXTS)
    assert whole.backend_tokenizer.to_str() == before
    assert type(cut) is type(whole)
    assert len(cut) < len(whole)
    assert sorted(cut.get_vocab().values()) == list(range(len(cut)))
    assert cut.get_vocab().keys() < whole.get_vocab().keys()
    order = [whole.get_vocab()[token] for token in sorted(cut.get_vocab(), key=cut.get_vocab().get)]
    assert order == sorted(order)
    assert tokens(cut, TEXTS) == tokens(whole, TEXTS)
    for role in ("pad", "unk", "cls", "sep", "mask"):
        assert cut.convert_ids_to_tokens(getattr(cut, f"{role}_token_id")) == getattr(whole, f"{role}_token")
    spelled = tokens(cut, OTHERS)
    assert spelled != tokens(whole, OTHERS)
    assert all(cut.unk_token not in row for row in spelled)
    assert [cut.decode(i, skip_special_tokens=True) for i in cut(OTHERS)["input_ids"]] == [
        whole.decode(i, skip_special_tokens=True) for i in whole(OTHERS)["input_ids"]
    ]
    mine, theirs = (t.convert_ids_to_tokens(t("win", "the")["input_ids"]) for t in (cut, whole))
    assert mine == theirs
    cut.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == cut.get_vocab()
    assert again(TEXTS + OTHERS)["input_ids"] == cut(TEXTS + OTHERS)["input_ids"]
    padded = again(["win", "winning the treatment"], padding=True)
    assert padded["input_ids"][0][-1] == again.pad_token_id


def test_only_what_occurs_is_kept_beside_letters_and_specials():
    cut = cut_vocabulary(word_pieces(), TEXTS)
    longer = {token for token in cut.get_vocab() if len(token.removeprefix("##")) > 1 and not token.startswith("[")}
    assert longer == {"the", "patient", "win", "##ning", "treat", "##ment"}  # "##s" is a letter
    assert "[unused0]" not in cut.get_vocab()
    assert "日" in cut.get_vocab()
    assert len(cut_vocabulary(word_pieces(), TEXTS, min_count=2)) == len(cut) - 4  # "the" and "win" occur twice


def test_what_a_byte_pair_is_merged_from_stays_though_it_never_occurs():
    whole = byte_pairs()
    cut = cut_vocabulary(whole, ["treatment"])
    assert tokens(cut, ["treatment"]) == tokens(whole, ["treatment"])
    occurring = set(tokens(whole, ["treatment"])[0])
    parts = {token for token in cut.get_vocab() if len(token) > 1 and token not in SPECIAL} - occurring
    assert parts
    assert all(part in "".join(tokens(whole, ["treatment"])[0]) for part in parts)


def test_a_vocabulary_that_has_lost_its_marks_still_finds_its_rows():
    """Of words at the start of a text alone, byte pairs keep no token that begins with a space."""
    whole = byte_pairs(space=False)
    cut = cut_vocabulary(whole, ["treatment"])
    assert not any(token.startswith("Ġ") and len(token) > 1 for token in cut.get_vocab())
    table = torch.randn(len(whole), 4)
    rows = move_embedding(table, whole, cut, len(cut))
    assert rows.kept == len(cut)
    ids = whole.get_vocab()
    assert all(torch.equal(rows.weight[i], table[ids[token]]) for token, i in cut.get_vocab().items())


def test_words_that_were_added_stay_at_the_end():
    cut = cut_vocabulary(ends_of_words(), TEXTS)
    assert cut.convert_ids_to_tokens([len(cut) - 2, len(cut) - 1]) == ["CRP", "TNF"]
    assert "TNF" in tokens(cut, ["win TNF"])[0]


def test_lists_of_words_and_a_folder(tmp_path):
    word_pieces().save_pretrained(tmp_path)
    assert (
        cut_vocabulary(tmp_path, [t.split() for t in TEXTS]).get_vocab()
        == cut_vocabulary(word_pieces(), (t for t in TEXTS)).get_vocab()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_with_the_cut_vocabulary_answers_alike_and_loads_without_hftransfer(kind, tmp_path):
    """Its rows of the embedding are the teacher's."""
    whole = KINDS[kind]()
    teacher = families.build(
        "roberta" if kind != "words" else "bert", vocab_size=len(whole), pad_token_id=whole.pad_token_id
    ).eval()
    cut = cut_vocabulary(whole, TEXTS)
    made = transplant(teacher, tokenizer=cut, source_tokenizer=whole)
    assert made.model.get_input_embeddings().weight.shape[0] == len(cut)
    assert f"rows: {len(cut):,} kept" in str(made)
    kinds = ("input_ids", "attention_mask")
    with torch.no_grad():
        mine, theirs = (
            model(**{k: v for k, v in t(TEXTS, padding=True, return_tensors="pt").items() if k in kinds}).logits
            for model, t in ((made.model, cut), (teacher, whole))
        )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    made.model.save_pretrained(tmp_path)
    cut.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    said = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(tmp_path), top_k=None)
    for row, found in zip(theirs.softmax(-1), said(TEXTS), strict=True):
        names = {entry["label"]: entry["score"] for entry in found}
        torch.testing.assert_close(torch.tensor([names[n] for n in tiny.LABELS]), row, rtol=0, atol=1e-5)


class Slow:
    is_fast = False


def whole_words():
    level = Tokenizer(models.WordLevel({"<unk>": 0, "win": 1}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=level, unk_token="<unk>")


BAD = {
    "slow": (lambda: cut_vocabulary(Slow(), TEXTS), "Slow is no fast tokenizer"),
    "words only": (lambda: cut_vocabulary(whole_words(), TEXTS), "type WordLevel, which cannot spell"),
    "one string": (lambda: cut_vocabulary(word_pieces(), "the patients"), "texts must be a list of strings, not one"),
    "no list": (lambda: cut_vocabulary(word_pieces(), 3), "texts must be a list of strings, not 3"),
    "none": (lambda: cut_vocabulary(word_pieces(), []), "texts has no text in it"),
    "nothing said": (lambda: cut_vocabulary(word_pieces(), ["", " "]), "texts has no text in it"),
    "a hole": (lambda: cut_vocabulary(word_pieces(), ["win", None]), "texts row 1 must be a string like the first"),
    "mixed": (lambda: cut_vocabulary(word_pieces(), [["win"], "win"]), "texts row 1 must be a list of words"),
    "count": (lambda: cut_vocabulary(word_pieces(), TEXTS, min_count=0), "min_count=0 must be a whole number"),
    "nowhere": (lambda: cut_vocabulary("./nowhere", TEXTS), "no folder './nowhere'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, message = BAD[case]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        make()
