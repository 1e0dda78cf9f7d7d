"""Structure transfer: what is said to be taken over is, the rest is new, and the result is a plain model."""

from __future__ import annotations

import copy

import families
import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BeitConfig,
    BeitForImageClassification,
    BertModel,
    BertTokenizer,
    DeiTConfig,
    DeiTForImageClassification,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from hftransfer.models.embedding_transfer import move_embedding
from hftransfer.models.model_structure import layer_stack as stack_of
from hftransfer.models.transplant import transplant

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
NAMES = {"id2label": dict(enumerate(tiny.LABELS)), "label2id": {n: i for i, n in enumerate(tiny.LABELS)}}


def logits(model, batch):
    with torch.no_grad():
        return model.eval()(**batch).logits


def text(*texts, tokenizer=None):
    return dict((tokenizer or families.tokenizer())(list(texts), padding=True, return_tensors="pt"))


def vit(cls=ViTForImageClassification, config=ViTConfig, **settings):
    torch.manual_seed(0)
    return cls(config(**SMALL | {"image_size": 16, "patch_size": 4} | NAMES | settings)).eval()


def resnet(**settings):
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [2, 2], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes | NAMES | settings)).eval()


def tokenizer_of(words, special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")):
    return BertTokenizer(vocab={token: i for i, token in enumerate([*special, *words])}, model_max_length=64)


# ---- layers


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert", "electra", "deberta-v2"])
@pytest.mark.parametrize(
    ("wanted", "pick", "picks"),
    [(2, "even", [0, 2]), (2, "first", [0, 1]), (1, "last", [3]), ([3, 1], "even", [3, 1])],
)
def test_fewer_layers_are_those_of_the_source(family, wanted, pick, picks, tmp_path):
    """The logits are those of the source with its other layers taken out by hand."""
    depth = {"n_layers" if family == "distilbert" else "num_hidden_layers": 4}
    source = families.build(family, **depth).eval()
    before = {n: p.clone() for n, p in source.named_parameters()}
    made = transplant(source, layers=wanted, pick=pick)
    by_hand = copy.deepcopy(source)
    name, stack = stack_of(by_hand)
    parent, _, child = name.rpartition(".")
    setattr(by_hand.get_submodule(parent), child, nn.ModuleList([stack[i] for i in picks]))
    by_hand.config = made.model.config
    for module in by_hand.modules():
        if hasattr(module, "config"):
            module.config = made.model.config
    batch = families.batch()
    if family == "modernbert" and picks[0]:  # its first layer has no norm before attention
        assert f"Weights that were left out: model.layers.{picks[0]}.attn_norm.weight." in made.notes
        return
    assert torch.equal(logits(made.model, batch), logits(by_hand, batch))
    assert all(t.taken == t.size for t in made.tensors)
    assert made.fresh == made.model.fresh_weights == ()
    assert sum(t.size for t in made.tensors) == sum(p.numel() for p in made.model.parameters())
    assert all(torch.equal(p, before[n]) for n, p in source.named_parameters())

    made.model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_hidden_layers == len(picks)
    assert torch.equal(logits(again, batch), logits(made.model, batch))


def test_a_folder_of_a_bare_backbone_becomes_a_half_deep_student_in_one_call(tmp_path):
    BertModel(tiny.bert(num_hidden_layers=4).config).save_pretrained(tmp_path)
    made = transplant(tmp_path, layers=2, labels=["no", "yes"])
    assert made.model.config.id2label == {0: "no", 1: "yes"}
    assert made.fresh == made.model.fresh_weights == ("classifier.weight", "classifier.bias")
    shown = str(made)
    assert "bert.encoder.layer.1" in shown
    assert "all, from layer 2" in shown
    assert "nothing: no label has the name of an old one" in shown or "nothing: new in the source too" in shown
    kept = sum(p.numel() for n, p in made.model.named_parameters() if not n.startswith("classifier"))
    whole = sum(p.numel() for p in made.model.parameters())
    assert f"{kept:,} of {whole:,} parameters were taken over" in shown
    assert made.model.config.name_or_path == str(tmp_path)  # its tokenizer still fits


# ---- heads


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert"])
def test_classes_keep_their_rows_by_name(family):
    source = families.build(family).eval()
    made = transplant(source, labels=["flat", "sideways", "down"])
    old, new = logits(source, families.batch()), logits(made.model, families.batch())
    assert torch.allclose(new[:, 0], old[:, tiny.LABELS.index("flat")], atol=1e-7)
    assert torch.allclose(new[:, 2], old[:, tiny.LABELS.index("down")], atol=1e-7)
    assert "rows of flat, down" in str(made)
    assert "Labels that were left out: up." in made.notes
    assert made.fresh == ()


def test_a_vision_head_too_and_a_new_row_is_drawn_anew():
    source = vit()
    drawn = []
    for seed in range(2):
        torch.manual_seed(seed)
        made = transplant(source, labels=["up", "new"])
        assert torch.equal(made.model.classifier.weight[0], source.classifier.weight[tiny.LABELS.index("up")])
        drawn.append(made.model.classifier.weight[1].clone())
    assert not torch.equal(*drawn)


# ---- vocabulary


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert"])
def test_a_text_of_shared_words_means_the_same_under_the_new_vocabulary(family):
    source = families.build(family).eval()
    old = families.tokenizer()
    new = tokenizer_of([*reversed(tiny.LABELS), "other", *reversed(tiny.WORDS), "##x"])
    new.model_input_names = old.model_input_names
    made = transplant(source, tokenizer=new, source_tokenizer=old)
    assert made.model.config.vocab_size == len(new)
    sentence = "w3 w17 up w5x"
    assert torch.allclose(
        logits(made.model, text(sentence, tokenizer=new)), logits(source, text(sentence, tokenizer=old)), atol=1e-6
    )
    assert made.model.config.name_or_path == ""  # the old tokenizer does not fit any more
    assert f"{len(new) - 1} kept" in str(made)


def test_new_words_start_as_the_mean_of_their_old_sub_words_or_are_drawn():
    old, new = tiny.tokenizer(), tokenizer_of(["w1", "w1x", "w2xy", "日"])
    ids, table = old.get_vocab(), torch.randn(64, 8, dtype=torch.float64)
    rows = move_embedding(table, old, new, len(new) + 2)
    at = new.get_vocab()
    x = table.numpy()
    np.testing.assert_array_equal(rows.weight[at["w1"]], x[ids["w1"]])
    np.testing.assert_allclose(rows.weight[at["w1x"]], (x[ids["w1"]] + x[ids["##x"]]) / 2)
    np.testing.assert_allclose(rows.weight[at["w2xy"]], (x[ids["w2"]] + x[ids["##x"]] + x[ids["##y"]]) / 3)
    assert (rows.kept, rows.averaged, rows.drawn) == (6, 2, 3)  # 日 is unknown to the old one; two rows have no token
    assert str(rows) == "6 kept, 2 mean of old sub-words, 3 drawn"
    torch.manual_seed(0)
    drawn = move_embedding(table, old, new, 4000, "normal")
    assert (drawn.kept, drawn.averaged) == (6, 0)
    np.testing.assert_allclose(drawn.weight[9:].mean(0), x.mean(0), atol=0.1)
    np.testing.assert_allclose(drawn.weight[9:].std(0), x.std(0, ddof=1), rtol=0.1)


def test_special_tokens_keep_their_role_whatever_they_are_called():
    old = tiny.tokenizer()
    new = tokenizer_of(["w1"], ("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    new.add_special_tokens(
        {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    )
    table = torch.randn(64, 4)
    rows = move_embedding(table, old, new, len(new))
    for role in ("pad", "unk", "cls", "sep", "mask"):
        i, j = getattr(new, f"{role}_token_id"), getattr(old, f"{role}_token_id")
        assert torch.equal(rows.weight[i], table[j])


def test_words_are_matched_between_marks_of_word_pieces_and_of_byte_pairs():
    """`Ġword` begins a word, as `word` does in word pieces; a bare `ing` goes on one, as `##ing` does."""
    from hftransfer.models.embedding_transfer import _token_reader

    assert _token_reader("Ġ")("Ġword") == _token_reader("##")("word") == _token_reader("▁")("▁word") == (False, "word")
    assert _token_reader("Ġ")("ing") == _token_reader("##")("##ing") == (True, "ing")


def test_a_byte_pair_vocabulary_takes_the_rows_of_word_pieces():
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer, pairs.decoder = bytes_, decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=bytes_.alphabet())
    pairs.train_from_iterator(["up down flat upup upup"] * 20, trainer)
    new = PreTrainedTokenizerFast(
        tokenizer_object=pairs, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    old, table = tiny.tokenizer(), torch.randn(64, 4)
    ids, at, rows = old.get_vocab(), new.get_vocab(), move_embedding(table, old, new, len(new))
    for mine, theirs in (("Ġup", "up"), ("Ġflat", "flat"), ("x", "##x"), ("<s>", "[CLS]"), ("<pad>", "[PAD]")):
        assert torch.equal(rows.weight[at[mine]], table[ids[theirs]])
    assert rows.kept + rows.averaged + rows.drawn == len(new)


# ---- positions


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert"])
def test_longer_positions_change_no_short_text_and_take_long_ones(family):
    source = families.build(family).eval()
    made = transplant(source, max_positions=100)
    batch = families.batch()
    assert torch.equal(logits(made.model, batch), logits(source, batch))
    long = {"input_ids": torch.randint(5, 50, (1, 100)), "attention_mask": torch.ones(1, 100, dtype=torch.long)}
    assert logits(made.model, long).isfinite().all()
    tables = [(n, p) for n, p in made.model.named_parameters() if n.endswith("position_embeddings.weight")]
    for name, table in tables:
        old = dict(source.named_parameters())[name]
        offset = len(table) - 100
        assert torch.equal(table[: len(old)], old)
        assert torch.equal(table[len(old) :], old[offset : offset + len(table) - len(old)])
        assert "positions, then over again" in str(made)
    assert tables or "there is no table to take over" in made.notes[0]
    shorter = transplant(source, max_positions=10).model
    assert torch.equal(logits(shorter, batch), logits(source, batch))


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@pytest.mark.parametrize(
    ("cls", "config", "first"),
    [(ViTForImageClassification, ViTConfig, 1), (DeiTForImageClassification, DeiTConfig, 2)],
)
def test_positions_are_interpolated_over_the_grid(cls, config, first):
    """By cubic convolution with a = -0.75, as in float64 NumPy; class tokens stay as they are."""
    source = vit(cls, config)
    table = next(p for n, p in source.named_parameters() if n.endswith("position_embeddings"))
    with torch.no_grad():
        table.normal_()
    made = transplant(source, image_size=32)
    new = next(p for n, p in made.model.named_parameters() if n.endswith("position_embeddings")).detach()
    assert new.shape == (1, first + 64, 16)
    assert torch.equal(new[0, :first], table[0, :first])
    weights = np.zeros((8, 4))
    for i in range(8):
        place = (i + 0.5) / 2 - 0.5
        for k in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            weights[i, np.clip(k, 0, 3)] += cubic(abs(place - k))
    grid = table[0, first:].detach().double().numpy().reshape(4, 4, 16)
    expected = np.einsum("ik,jl,kld->ijd", weights, weights, grid)
    np.testing.assert_allclose(new[0, first:].reshape(8, 8, 16), expected, atol=1e-5)
    assert logits(made.model, {"pixel_values": torch.randn(1, 3, 32, 32)}).shape == (1, 3)
    assert "interpolated over the grid" in str(made)


# ---- images


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("channels", [1, 6])
def test_other_channels_respond_alike_to_equal_ones(make, channels, tmp_path):
    source = make()
    made = transplant(source, num_channels=channels)
    grey = torch.randn(2, 1, 16, 16)
    old = logits(source, {"pixel_values": grey.expand(-1, 3, -1, -1)})
    torch.testing.assert_close(
        logits(made.model, {"pixel_values": grey.expand(-1, channels, -1, -1)}), old, rtol=0, atol=1e-5
    )
    made.model.save_pretrained(tmp_path)
    assert type(source).from_pretrained(tmp_path).config.num_channels == channels


def test_a_resnet_with_fewer_blocks_a_stage_keeps_those_it_has():
    source = resnet()
    made = transplant(source, config={"depths": [1, 2]})
    mine, theirs = made.model.state_dict(), source.state_dict()
    assert set(mine) < set(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)  # running statistics, too


@pytest.mark.parametrize("family", ["vit", "deit", "beit", "dinov2", "clip", "siglip"])
def test_vision_encoders_lose_layers_and_gain_pixels(family, tmp_path):
    """What was taken over is the source's, number for number; the result loads like any other."""
    source = families.build_vision(family).eval()
    made = transplant(source, layers=2, image_size=2 * families.SIDE, labels=["up", "down"])
    name, stack = stack_of(made.model)
    assert len(stack) == 2
    for i, j in enumerate((0, 1)):
        theirs = dict(source.get_submodule(f"{name}.{j}").named_parameters())
        assert all(torch.equal(p, theirs[n]) for n, p in stack[i].named_parameters())
    assert made.fresh == ()
    pixels = {"pixel_values": torch.randn(2, 3, 2 * families.SIDE, 2 * families.SIDE)}
    made.model.save_pretrained(tmp_path)
    again = type(source).from_pretrained(tmp_path)
    assert torch.equal(logits(again, pixels), logits(made.model, pixels))
    assert logits(again, pixels).shape == (2, 2)


# ---- by choice


def test_only_the_parts_that_are_asked_for_come_over():
    source = families.build("bert", num_hidden_layers=2)
    torch.manual_seed(1)
    made = transplant(source, take=["embeddings", "head"])
    for t in made.tensors:
        inside = t.name.startswith(("bert.embeddings.", "classifier."))
        assert t.taken == (t.size if inside else 0)
        assert torch.equal(made.model.get_parameter(t.name), source.get_parameter(t.name)) or not inside
    assert "not asked for" in str(made)
    dense = "bert.encoder.layer.0.output.dense.weight"
    assert dense in made.fresh
    assert not torch.equal(made.model.get_parameter(dense), source.get_parameter(dense))


def test_what_no_longer_fits_starts_anew_and_is_listed():
    source = families.build("bert")
    made = transplant(source, config={"intermediate_size": 24})
    assert {name for name in made.fresh if ".0." in name} == {
        "bert.encoder.layer.0.intermediate.dense.weight",
        "bert.encoder.layer.0.intermediate.dense.bias",
        "bert.encoder.layer.0.output.dense.weight",
    }
    assert "48 x 32 does not fit 24 x 32" in str(made)
    shares = {row["share"] for row in made.rows()}
    assert {"0 %", "100 %"} <= shares


# ---- bad input


def windowed():
    return vit(BeitForImageClassification, BeitConfig, use_relative_position_bias=True)


def adapter_folder(path):
    get_peft_model(tiny.bert(), LoraConfig(target_modules=["query"])).save_pretrained(path)
    return path


BAD = {
    "pick": (lambda t: transplant(tiny.bert(), layers=1, pick="evn"), "one of even, first, last. Did you mean"),
    "too many": (lambda t: transplant(tiny.bert(), layers=3), "layers=3: BertForSequenceClassification has 2 layers"),
    "none": (lambda t: transplant(tiny.bert(), layers=0), "keep between 1 and 2"),
    "which": (lambda t: transplant(tiny.bert(), layers=[0, 5]), "has layers 0 to 1"),
    "shared": (lambda t: transplant(families.build("albert"), layers=1), "no plain stack of layers to choose from"),
    "stages": (lambda t: transplant(resnet(), layers=1), "no plain stack of layers to choose from"),
    "windowed stages": (lambda t: transplant(families.build_vision("swin"), layers=1), "holds 3 stages or shared"),
    "widening stages": (lambda t: transplant(families.build_vision("convnext"), layers=1), "holds 4 stages or shared"),
    "config": (lambda t: transplant(tiny.bert(), {"hiden_act": "relu"}), "no 'hiden_act'. Did you mean 'hidden_act'"),
    "labels in config": (lambda t: transplant(tiny.bert(), {"num_labels": 2}), "belongs to `labels`"),
    "labels": (lambda t: transplant(tiny.bert(), labels=["a", "a"]), "labels must be names, each once"),
    "part": (lambda t: transplant(tiny.bert(), take=["heads"]), "no part 'heads'; there is .*Did you mean 'head'"),
    "new tokens": (lambda t: transplant(tiny.bert(), new_tokens="zeros"), "must be one of subwords, normal"),
    "text for images": (lambda t: transplant(vit(), tokenizer=tiny.tokenizer()), "reads no text"),
    "old tokenizer": (lambda t: transplant(tiny.bert(), tokenizer=tiny.tokenizer()), "source_tokenizer is missing"),
    "patches": (lambda t: transplant(vit(), image_size=18), "no multiple of the patch size 4"),
    "any size": (lambda t: transplant(resnet(), image_size=32), "takes images of any size"),
    "windows": (lambda t: transplant(windowed(), image_size=32), "tables of relative positions"),
    "positions": (lambda t: transplant(vit(), max_positions=64), "cannot have as many positions"),
    "channels": (lambda t: transplant(tiny.bert(), num_channels=1), "cannot have as many channels"),
    "bare": (lambda t: transplant(BertModel(tiny.bert().config), labels=["a", "b"]), "has no head for labels"),
    "adapter": (lambda t: transplant(adapter_folder(t / "adapter")), "is an adapter over a model; merge it first"),
    "a number": (lambda t: transplant(3), "source must be a model, a Hub id or a folder, not int"),
    "nowhere": (lambda t: transplant(t / "nowhere"), "no folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(tmp_path, case):
    make, message = BAD[case]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        make(tmp_path)
