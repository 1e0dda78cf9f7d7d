"""Frozen features are those of a plain loop over single rows, in the order of the rows, whatever the batches."""

from __future__ import annotations

import families
import numpy as np
import pictures
import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from frozen import hidden_states
from transformers import CLIPConfig, CLIPModel, GPT2Config, GPT2Model, T5Config, T5Model

from hftransfer import embed
from hftransfer.data.row_origins import ORIGIN

TEXTS = list(tiny.domain(37)["text"])


def frozen(rows, model, processor=None, batch_size=5, **settings):
    processor = processor or tiny.tokenizer()
    return embed(rows, model, processing_class=processor, cache_dir=False, batch_size=batch_size, **settings)


def pooled(states: list[np.ndarray], pooling: str) -> np.ndarray:
    take = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "cls": lambda x: x[0], "last": lambda x: x[-1]}
    return np.stack([take[pooling](state) for state in states])


@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "last"])
def test_pooling_is_that_of_a_plain_loop(pooling):
    model = tiny.bert()
    made = frozen(TEXTS, model, pooling=pooling).features
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, pooled(hidden_states(model, TEXTS), pooling), atol=1e-5)


def test_layers_and_poolings_stand_side_by_side():
    model = tiny.bert()
    made = frozen(TEXTS, model, pooling=["mean", "cls"], layer=[0, -2, -1])
    assert made.features.shape == (37, 6 * 32)
    for layer in (0, -2, -1):
        for pooling in ("mean", "cls"):
            expected = pooled(hidden_states(model, TEXTS, layer), pooling)
            np.testing.assert_allclose(made[f"{layer}/{pooling}"], expected, atol=1e-5)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_padding_changes_nothing_in_any_family(family):
    model = families.build(family)
    together = frozen(TEXTS, model, families.tokenizer(), pooling=["mean", "last"]).features
    alone = np.concatenate(
        [frozen([text], model, families.tokenizer(), pooling=["mean", "last"]).features for text in TEXTS[:6]]
    )
    np.testing.assert_allclose(together[:6], alone, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3
    assert model.training  # as it was


def test_a_decoder_without_a_pad_token_is_padded_on_the_right():
    """Its positions count from the first token; neither the model nor the tokenizer is changed."""
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64)).eval()
    tokenizer = tiny.tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.padding_side, tokenizer.pad_token, tokenizer.eos_token = "left", None, "[SEP]"
    made = frozen(TEXTS, model, tokenizer, pooling="last").features
    plain = families.tokenizer()
    with torch.no_grad():
        expected = [model(**plain([text], return_tensors="pt")).last_hidden_state[0, -1].numpy() for text in TEXTS]
    np.testing.assert_allclose(made, np.stack(expected), atol=1e-5)
    assert (tokenizer.padding_side, tokenizer.pad_token, model.config.pad_token_id) == ("left", None, None)


def test_of_an_encoder_and_a_decoder_the_encoder_is_read():
    torch.manual_seed(0)
    model = T5Model(T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)).eval()
    made = frozen(TEXTS[:6], model, families.tokenizer()).features
    batches = [families.tokenizer()([text], return_tensors="pt") for text in TEXTS[:6]]
    with torch.no_grad():
        expected = [model.encoder(**batch).last_hidden_state[0].mean(0).numpy() for batch in batches]
    np.testing.assert_allclose(made, np.stack(expected), atol=1e-5)


def test_of_two_towers_the_one_for_the_rows_is_read():
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(**families.TOWERS)).eval()
    texts = frozen(TEXTS[:4], model, families.tokenizer()).features
    processor, data = pictures.processor(families.SIDE), pictures.pictures(3)
    images = frozen(data, model, processor).features
    with torch.no_grad():
        batch = families.tokenizer()([TEXTS[0]], return_tensors="pt")
        first_text = model.text_model(**batch).last_hidden_state[0].mean(0)
        pixels = processor(images=[data["image"][0]], return_tensors="pt")
        first_image = model.vision_model(**pixels).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(texts[0], first_text, atol=1e-5)
    np.testing.assert_allclose(images[0], first_image, atol=1e-5)


@pytest.mark.parametrize("family", families.VISION)
def test_images_of_any_family(family):
    model = families.build_vision(family).eval()
    data, processor = pictures.pictures(6), pictures.processor(families.SIDE)
    made = frozen(data, model, processor, 6, pooling="mean").features  # MobileNets are sensitive to how sums are split
    batch = processor(images=list(data["image"]), return_tensors="pt")
    backbone = model.vision_model if family in ("clip", "siglip") else model.base_model
    with torch.no_grad():
        hidden = backbone(**batch).last_hidden_state
    expected = hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)
    np.testing.assert_allclose(made, expected, atol=2e-5 * max(1, np.abs(expected.numpy()).max()))


@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_the_head_stands_beside_others(name):
    """In one pass, each as by itself."""
    model, rows, processor = {
        "bert": (tiny.bert(), TEXTS, tiny.tokenizer()),
        "resnet": (pictures.resnet(), pictures.pictures(6), pictures.processor()),
    }[name]
    both = frozen(rows, model, processor, pooling=["head", "mean", "pooler"])
    for pooling in ("head", "mean", "pooler"):
        alone = frozen(rows, model, processor, pooling=pooling).features
        np.testing.assert_allclose(both[f"-1/{pooling}"], alone, atol=1e-6)


def test_settings_may_be_numpys():
    model = tiny.bert()
    made = frozen(TEXTS, model, layer=np.arange(1, 3), max_length=np.int64(8), batch_size=np.int64(4))
    assert list(made.columns) == ["1/mean", "2/mean"]
    np.testing.assert_array_equal(
        made.features, frozen(TEXTS, model, batch_size=4, layer=[1, 2], max_length=8).features
    )


def test_a_folder_and_a_processor_may_be_paths(tmp_path):
    tiny.bert().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "tokenizer")
    made = embed(TEXTS, tmp_path / "model", processing_class=tmp_path / "tokenizer", cache_dir=False)
    np.testing.assert_allclose(made.features, frozen(TEXTS, tiny.bert()).features, atol=1e-6)
    with pytest.raises(ValueError, match="revision='v2' is of models on the Hub, and .* is a folder: leave it out"):
        embed(TEXTS, tmp_path / "model", revision="v2", cache_dir=False)


@pytest.mark.parametrize("family", families.VISION)
def test_the_head_reads_what_it_is_said_to_read(family):
    """The final layer, applied to the features, gives the logits."""
    model = families.build_vision(family).eval()
    data, processor = pictures.pictures(6), pictures.processor(families.SIDE)
    made = torch.tensor(np.array(frozen(data, model, processor, pooling="head").features))
    final = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        logits = model(**processor(images=list(data["image"]), return_tensors="pt")).logits
        torch.testing.assert_close(final(made), logits, atol=1e-4, rtol=1e-4)


def test_words_are_those_of_the_first_subwords():
    data = tiny.tagged(19)
    model = tiny.bert(tagging=True)
    made = frozen(data, model, pooling="token")
    states = hidden_states(model, list(data["tokens"]))
    expected, labels = [], []
    for row, words in enumerate(data["tokens"]):
        encoded = tiny.tokenizer()([words], is_split_into_words=True)
        firsts = [encoded.word_ids(0).index(word) for word in range(len(words))]
        expected += [states[row][first] for first in firsts]
        labels += [(row, word) for word in range(len(words))]
    np.testing.assert_allclose(made.features, np.stack(expected), atol=1e-5)
    assert list(zip(made.rows, made.words, strict=True)) == labels


def test_words_beyond_the_length_are_left_out_and_said():
    made = frozen([["w1", "w2x", "w3"], ["w4"]], tiny.bert(), pooling="token", max_length=4)
    assert list(zip(made.rows, made.words, strict=True)) == [(0, 0), (0, 1), (1, 0)]


def test_equal_rows_of_words_are_equal():
    rows = [["w1", "w2"], ["w3"], ["w1", "w2"], ["w3"]]
    made = frozen(rows, tiny.bert(), pooling="token")
    assert made.rows.tolist() == [0, 0, 1, 2, 2, 3]
    np.testing.assert_array_equal(made.features[:3], made.features[3:])


def test_rows_of_like_length_share_a_batch():
    """Padding on lengths of real texts (log-normal, as of the news and reviews): a tenth at most."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(2.5, 0.6, 1024), 1, 60).astype(int)
    texts = [" ".join(draw.choice(tiny.WORDS, n)) for n in lengths]
    made = embed(texts, tiny.bert(num_hidden_layers=1), processing_class=tiny.tokenizer(), cache_dir=False)
    assert made.statistics.tokens == lengths.sum() + 2 * len(texts)
    assert 0 < made.statistics.padding <= 0.1


def test_every_form_of_the_same_rows_gives_the_same():
    import pandas as pd

    model, texts = tiny.bert(), TEXTS[:5]
    expected = frozen(texts, model).features
    data = Dataset.from_dict({"text": texts, "other": range(5)})
    forms = [
        data,
        data["text"],
        data.to_iterable_dataset(),
        data.with_format("numpy"),
        pd.DataFrame({"text": texts}),
        pd.Series(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        {"text": texts},
        [{"text": text} for text in texts],
        tuple(texts),
    ]
    for form in forms:
        np.testing.assert_array_equal(frozen(form, model).features, expected)
    renamed = data.rename_column("text", "sentence")
    np.testing.assert_array_equal(frozen(renamed, model).features, expected)  # the only column of text
    np.testing.assert_array_equal(frozen(renamed, model, column="sentence").features, expected)


def test_images_in_every_form(tmp_path):
    model, processor = pictures.resnet(), pictures.processor()
    data = pictures.pictures(3)
    images = list(data["image"])
    expected = frozen(data, model, processor).features
    paths = []
    for number, image in enumerate(images):
        paths.append(str(tmp_path / f"{number}.png"))
        image.save(paths[-1])
    forms = [images, paths, [open(path, "rb").read() for path in paths], [np.asarray(image) for image in images]]
    forms += [data.to_iterable_dataset(), Dataset.from_dict({"image": paths}), np.stack(forms[-1])]
    for form in forms:
        np.testing.assert_allclose(frozen(form, model, processor).features, expected, atol=1e-6)


REFUSED = {
    "one text": (lambda: frozen("w1", tiny.bert()), TypeError, "pass a list"),
    "no rows": (lambda: frozen([], tiny.bert()), ValueError, "rows is empty"),
    "an empty text": (lambda: frozen(["w1", " "], tiny.bert()), ValueError, "rows row 1: .* is empty"),
    "an unknown pooling": (lambda: frozen(["w1"], tiny.bert(), pooling="men"), ValueError, "Did you mean 'mean'"),
    "a layer too deep": (lambda: frozen(["w1"], tiny.bert(), layer=7), ValueError, "has 2 layers"),
    "a layer of the head": (lambda: frozen(["w1"], tiny.bert(), pooling="head", layer=1), ValueError, "leave `layer`"),
    "words of texts": (lambda: frozen(["w1"], tiny.bert(), pooling="token"), ValueError, "pass lists of words"),
    "a first patch of a map": (
        lambda: frozen(pictures.pictures(2), pictures.resnet(), pictures.processor(), pooling="cls"),
        ValueError,
        "feature maps",
    ),
    "no pooling": (
        lambda: frozen(["w1"], tiny.bert(), pooling=None),
        TypeError,
        "pooling=None must be one or several",
    ),
    "half a layer": (lambda: frozen(["w1"], tiny.bert(), layer=0.5), TypeError, "layer=0.5 must be an integer"),
    "a switch for a number": (lambda: frozen(["w1"], tiny.bert(), max_length=True), ValueError, "a whole number"),
    "a device that is none": (lambda: embed(["w1"], "runs", device="gpu"), ValueError, "device='gpu' is none"),
    "a device that is not here": (lambda: embed(["w1"], "runs", device="xla"), ValueError, "is not on this machine"),
    "a processor of images": (
        lambda: frozen(["w1"], tiny.bert(), pictures.processor()),
        TypeError,
        "the data is text: pass the tokenizer",
    ),
    "numbers for text": (lambda: frozen([1, 2], tiny.bert()), ValueError, r"rows row 0: .* not int \(1\)"),
    "numbers in a column": (
        lambda: frozen({"a": ["w1"], "b": [1]}, tiny.bert(), column="b"),
        ValueError,
        "rows row 0: 'b' must be a string, not int",
    ),
    "rows of cells": (lambda: frozen(np.array([["w1"]]), tiny.bert()), ValueError, "row 0: .* not ndarray"),
    "no words": (lambda: frozen([[], ["w1"]], tiny.bert()), ValueError, "rows row 0: .* is empty"),
    "a word that is none": (lambda: frozen([["w1", None]], tiny.bert()), ValueError, "None is of type NoneType"),
    "pictures for text": (
        lambda: embed([np.zeros((8, 8, 3), np.uint8)], tiny.bert(), cache_dir=False),
        ValueError,
        "rows hold images, and text is read here",
    ),
    "words for images": (
        lambda: embed([["w1"]], pictures.resnet(), cache_dir=False),
        ValueError,
        "rows hold lists of words, and images are read here",
    ),
    "a row of a stream without the column": (
        lambda: frozen(IterableDataset.from_generator(lambda: iter([{"text": "w1"}, {"txt": "w2"}])), tiny.bert()),
        ValueError,
        "rows row 1 has no column 'text'",
    ),
    "no such column of a file": (
        lambda: frozen(Dataset.from_dict({"text": ["w1"], ORIGIN: [0]}), tiny.bert(), column="txt"),
        ValueError,
        "rows has no column 'txt'; its columns are 'text'. Did you mean 'text'",
    ),
    "columns by a wrong name": (
        lambda: frozen(["w1"], tiny.bert(), pooling=["mean", "cls"])["mean"],
        KeyError,
        "no columns 'mean'; there are -1/mean, -1/cls",
    ),
    "images for text": (
        lambda: frozen(pictures.pictures(2), tiny.bert(), column="image"),
        ValueError,
        "text is read here",
    ),
    "no such column": (
        lambda: frozen(tiny.domain(3), tiny.bert(), column="txt"),
        ValueError,
        "no column 'txt'.*Did you mean 'text'",
    ),
    "columns that do not say": (
        lambda: frozen(Dataset.from_dict({"a": ["w1"], "b": ["w2"]}), tiny.bert()),
        ValueError,
        "name it with `column`",
    ),
    "too long": (lambda: frozen(["w1"], tiny.bert(), max_length=65), ValueError, "only 64 positions"),
    "no batch": (lambda: embed(["w1"], tiny.bert(), batch_size=0), ValueError, "batch_size=0"),
    "an unknown precision": (lambda: frozen(["w1"], tiny.bert(), dtype="float8"), ValueError, "float32"),
    "no model": (lambda: embed(["w1"], "./nowhere", cache_dir=False), FileNotFoundError, "no folder './nowhere'"),
    "no processor": (lambda: embed(["w1"], tiny.bert(), cache_dir=False), ValueError, "processing_class"),
    "half for whole": (lambda: frozen(["w1"], tiny.bert().half(), dtype="float32"), ValueError, "load it in float32"),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_features_that_are_not_finite_name_their_row():
    model = tiny.bert()
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tiny.tokenizer().convert_tokens_to_ids("w7")] = float("nan")
    with pytest.raises(FloatingPointError, match=r"rows row 2 \('w7 w1'\)"):
        frozen(["w1", "w2", "w7 w1", "w3 w4 w5"], model)


def test_half_precision_is_near():
    model = tiny.bert()
    whole, half = (frozen(TEXTS, model, dtype=dtype).features for dtype in (None, "bfloat16"))
    assert half.dtype == np.float32
    assert 1e-5 < np.abs(whole - half).max() < 0.1


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    from hftransfer.embeddings.frozen_backbone import FrozenBackbone

    stock, sizes = FrozenBackbone.pooled, []

    def pooled(self, batch, rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return stock(self, batch, rows)

    model, texts = tiny.bert(), [f"w{i} w{i + 1}" for i in range(8)]
    expected = frozen(texts, model).features
    monkeypatch.setattr(FrozenBackbone, "pooled", pooled)
    np.testing.assert_allclose(frozen(texts, model).features, expected, atol=1e-6)
    assert max(sizes) == 5
    assert sizes.count(2) >= 2
