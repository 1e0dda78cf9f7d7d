"""Attributions: the word or the patch that decides has the largest, and the numbers are those of the formula."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pictures
import pytest
import tiny
import torch
from torch import nn

from hftransfer.adaptation.attributions import attribute_images, attribute_text


class WordCounter(nn.Module):
    """Logits that are how often a word stands in a text; class 0 is against it, class 1 for it."""

    def __init__(self, token: str):
        super().__init__()
        tokenizer = tiny.tokenizer()
        self.table = nn.Embedding(64, 2)
        nn.init.zeros_(self.table.weight)
        self.table.weight.data[:, 1] = 0.01  # all other words say a little for class 1
        self.table.weight.data[tokenizer.convert_tokens_to_ids(token)] = torch.tensor([-3.0, 3.0])

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def forward(self, input_ids, **inputs):
        return SimpleNamespace(logits=self.table(input_ids).sum(1))


class CornerReader(nn.Module):
    """The logit of class 1 is how bright a region is."""

    main_input_name = "pixel_values"

    def __init__(self, rows: slice, columns: slice):
        super().__init__()
        self.rows, self.columns = rows, columns
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, pixel_values):
        bright = self.scale * pixel_values[:, :, self.rows, self.columns].mean((1, 2, 3))
        return SimpleNamespace(logits=torch.stack([-bright, bright], 1))


def test_the_word_that_decides_has_the_largest_attribution():
    texts = ["w1 w2 up w3", "up", "w1 w2"]
    words = attribute_text(WordCounter("up"), tiny.tokenizer(), texts, [1, 0, 1])
    assert [[word for word, _ in row] for row in words] == [text.split() for text in texts]
    values = [[value for _, value in row] for row in words]
    assert values[0][2] == 1
    assert max(values[0][:2] + values[0][3:]) < 0.01
    assert values[1] == [-1]
    assert values[2] == [1, 1]


def test_parts_of_a_word_are_joined():
    """`w1x` is `w1` and `##x`, of which the latter decides; a comma is of the word before it."""
    (words,) = attribute_text(WordCounter("##x"), tiny.tokenizer(), ["w2 w1x w1xy,  w3"], [1])
    assert [word for word, _ in words] == ["w2", "w1x", "w1xy,", "w3"]
    assert [value > 0.9 for _, value in words] == [False, True, True, False]


def test_texts_without_spaces_come_in_the_tokenizers_words():
    text = "w1,up," + "w2," * 12
    (words,) = attribute_text(WordCounter("up"), tiny.tokenizer(), [text], [1])
    assert "".join(word for word, _ in words) == text
    assert max(words, key=lambda word: word[1])[0] == "up"


def test_words_behind_the_last_token_are_left_out():
    (words,) = attribute_text(WordCounter("up"), tiny.tokenizer(), ["w1 w2 w3 up"], [1], max_length=5)
    assert [word for word, _ in words] == ["w1", "w2", "w3"]


def test_attributions_are_gradient_times_input():
    model, tokenizer, text = tiny.bert().train(), tiny.tokenizer(), "w1 w5x up w7"
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    words = attribute_text(model, tokenizer, [text] * 3, [0, 1, 2])
    assert model.training
    model.eval()
    encoded = tokenizer(text, return_tensors="pt")
    for class_id in range(3):
        embeddings = model.get_input_embeddings()(encoded["input_ids"]).requires_grad_()
        model(inputs_embeds=embeddings, attention_mask=encoded["attention_mask"]).logits[0, class_id].backward()
        by_token = (embeddings * embeddings.grad).sum(-1)[0].detach().numpy()
        by_word = np.array([by_token[1], by_token[2] + by_token[3], by_token[4], by_token[5]])
        expected = by_word / np.abs(by_word).max()
        assert [value for _, value in words[class_id]] == pytest.approx(expected, abs=1e-4)


def test_the_model_stays_as_it_is():
    model = tiny.bert().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attribute_text(model, tiny.tokenizer(), ["w1"], [0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.get_input_embeddings()._forward_hooks


def test_an_empty_text_has_no_words():
    assert attribute_text(tiny.bert(), tiny.tokenizer(), ["", "  "], [0, 1]) == [[], []]
    assert attribute_text(tiny.bert(), tiny.tokenizer(), [], []) == []


@pytest.mark.parametrize("size", [(14, 14), (20, 31)])
def test_the_patch_that_decides_has_the_largest_attribution(size):
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, *size, generator=draw) * 0.1
    cells = [np.linspace(0, side, 8).round().astype(int) for side in size]
    rows, columns = slice(*cells[0][2:4]), slice(*cells[1][5:7])
    pixels[:, :, rows, columns] += 1
    maps = attribute_images(CornerReader(rows, columns), pixels, [1, 0])
    assert maps.shape == (2, 7, 7)
    assert maps[0, 2, 5] == 1
    assert maps[1, 2, 5] == -1
    others = np.delete(maps[0].ravel(), 2 * 7 + 5)
    assert np.abs(others).max() == 0


def test_attributions_of_patches_are_differences_of_logits():
    model = pictures.resnet().train()
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = attribute_images(model, {"pixel_values": pixels}, [2], grid=4)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    expected = np.zeros((4, 4))
    with torch.no_grad():
        whole = model(pixels).logits[0, 2]
        for i in range(4):
            for j in range(4):
                hidden = pixels.clone()
                hidden[0, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = pixels[0].mean((1, 2))[:, None, None]
                expected[i, j] = whole - model(hidden).logits[0, 2]
    assert maps[0] == pytest.approx(expected / np.abs(expected).max(), abs=1e-4)


def test_what_says_nothing_is_zero():
    model = CornerReader(slice(0, 4), slice(0, 4))
    assert not attribute_images(model, torch.zeros(1, 3, 14, 14), [1]).any()
    assert attribute_images(model, torch.zeros(0, 3, 14, 14), []).shape == (0, 7, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attribute_text(tiny.bert(), tiny.tokenizer(), ["w1"] * 21, [0] * 21), "20 at most, not 21"),
        (lambda: attribute_text(tiny.bert(), tiny.tokenizer(), ["w1"], [0, 1]), "1 rows and 2 class_ids"),
        (lambda: attribute_text(tiny.bert(tiny.TAGS, tagging=True), tiny.tokenizer(), ["w1"], [0]), "not for tagging"),
        (lambda: attribute_text(nn.Linear(2, 2), tiny.tokenizer(), ["w1"], [0]), "Linear has no table of embeddings"),
        (lambda: attribute_images(pictures.resnet(), torch.zeros(3, 16, 16), [0]), r"not of shape \(3, 16, 16\)"),
        (
            lambda: attribute_images(pictures.resnet(), torch.zeros(1, 3, 4, 9), [0]),
            "7 patches .* 9 x 4 pixels",
        ),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
