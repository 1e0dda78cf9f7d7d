"""Attributions of a prediction: the words of a text, or the patches of an image, that speak for a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.module_mode import module_mode

ROWS = 20  # at most: they are looked at one by one
LONGEST_WORD = 30  # characters without white space that are taken as one word, as in "state-of-the-art"


def attribute_text(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], class_ids: Sequence[int], max_length: int | None = None
) -> list[list[tuple[str, float]]]:
    r"""Attributions of the words of texts to a class: gradient times input.

    \[a_t = \Big\langle \frac{\partial z_c}{\partial e_t},\, e_t \Big\rangle\]

    e_t is the embedding of token t, z_c the logit of the class. Tokens of a word, which white space parts, are summed;
    where there is no white space, as in Chinese, words are the tokenizer's. Special tokens are left out.

    Args:
        model: with a head for one class a row, plain or PEFT-wrapped; it is run in evaluation mode and stays as it is.
        tokenizer: its own, a fast one.
        texts: n of them, 20 at most.
        class_ids: (n,) classes that are asked about, such as those that are predicted.
        max_length: in tokens; words behind them are left out.

    Returns:
        For each text its words in order, each with its attribution. They are divided by the largest of the text, so
        that they lie between -1 (speaks against the class) and 1 (speaks for it); all are 0 where none says anything.

    Raises:
        ValueError: more than 20 texts, as many classes as there are no texts, a model without a table of embeddings or
            with logits for each token.

    Paper: Ancona, Ceolini, Öztireli and Gross, Towards Better Understanding of Gradient-Based Attribution Methods for
    Deep Neural Networks, ICLR 2018.

    Example:
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("runs/teacher")
        >>> [[word for word, _ in words] for words in attribute_text(model, tokenizer, ["w1 w2"], [0])]
        [['w1', 'w2']]
    """
    _check_rows(len(texts), class_ids)
    get: Any = getattr(model, "get_input_embeddings", None)
    layer = get() if get is not None else None
    if not isinstance(layer, nn.Module):
        raise ValueError(f"{type(model).__name__} has no table of embeddings, which words are attributed to.")
    with module_mode(model):
        return [
            _word_attributions(model, layer, tokenizer, text, int(class_id), max_length)
            for text, class_id in zip(texts, class_ids, strict=True)
        ]


def attribute_images(model: nn.Module, inputs: Any, class_ids: Sequence[int], grid: int = 7) -> np.ndarray:
    r"""Attributions of the patches of images to a class: how much the class loses where a patch is hidden.

    \[a_p = z_c(x) - z_c(x \text{ without } p)\]

    z_c is the logit of the class. A hidden patch takes the mean colour of its image.

    Args:
        model: with a head for one class a row, plain or PEFT-wrapped; it is run in evaluation mode and stays as it is.
        inputs: (n, channels, height, width) pixels as the model takes them, or a mapping that holds them under the
            model's main input; n is 20 at most.
        class_ids: (n,) classes that are asked about, such as those that are predicted.
        grid: patches a side.

    Returns:
        (n, grid, grid) attributions, divided by the largest of each image, so that they lie between -1 (speaks against
        the class) and 1 (speaks for it); all are 0 where none says anything.

    Raises:
        ValueError: more than 20 images, another number of classes, pixels of another shape, or images smaller than
            the grid.

    Paper: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Example:
        >>> attribute_images(image_model, torch.rand(2, 3, 16, 16), [0, 1], grid=4).shape
        (2, 4, 4)
    """
    name = str(getattr(model, "main_input_name", "pixel_values"))
    pixels = torch.as_tensor(inputs[name] if isinstance(inputs, Mapping) else inputs)
    if pixels.ndim != 4:
        raise ValueError(f"Pixels must be (images, channels, height, width), not of shape {tuple(pixels.shape)}.")
    _check_rows(len(pixels), class_ids)
    height, width = pixels.shape[2:]
    if grid < 1 or grid > min(height, width):
        raise ValueError(f"A grid of {grid} patches a side does not fit images of {width} x {height} pixels.")
    pixels = pixels.to(next(model.parameters()).device)
    attributions = np.zeros((len(pixels), grid, grid))
    with module_mode(model), torch.no_grad():
        for i, class_id in enumerate(class_ids):
            rows = torch.cat([pixels[i : i + 1], _without_patches(pixels[i], grid)])
            logits = model(**{name: rows}).logits[:, int(class_id)].double().cpu().numpy()
            attributions[i] = (logits[0] - logits[1:]).reshape(grid, grid)
    return np.stack([_scaled(of_image) for of_image in attributions]) if len(attributions) else attributions


def _check_rows(rows: int, class_ids: Sequence[int]) -> None:
    """Check of the number of rows; raises `ValueError`."""
    if rows > ROWS:
        raise ValueError(f"Attributions are for a look at single rows: {ROWS} at most, not {rows:,}.")
    if len(class_ids) != rows:
        raise ValueError(f"There are {rows} rows and {len(class_ids)} class_ids: give one for each row.")


def _word_attributions(
    model: nn.Module, layer: nn.Module, tokenizer: Any, text: str, class_id: int, max_length: int | None
) -> list[tuple[str, float]]:
    """Words of one text with their attributions."""
    encoded = tokenizer(
        text,
        truncation=max_length is not None,
        max_length=max_length,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    offsets = encoded.pop("offset_mapping")[0].tolist()
    is_special = encoded.pop("special_tokens_mask")[0].tolist()
    token_words = encoded.word_ids(0)
    device = next(model.parameters()).device
    inputs = {name: values.to(device) for name, values in encoded.items()}
    by_token = _token_attributions(model, layer, inputs, class_id)

    spans: dict[Any, list[int]] = {}
    values: dict[Any, float] = {}
    ends = _ends_of_words(text)
    for token, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # some tokenizers count the space before a word as its own
            start += 1
        if is_special[token] or start == end:
            continue
        word_start, word_end = ends[start]
        word = word_start if word_end - word_start <= LONGEST_WORD else (word_start, token_words[token])
        spans[word] = [min(start, spans.get(word, [start])[0]), max(end, spans.get(word, [0, end])[1])]
        values[word] = values.get(word, 0.0) + float(by_token[token])
    scaled = _scaled(np.array(list(values.values())))
    return [(text[slice(*span)], float(value)) for span, value in zip(spans.values(), scaled, strict=True)]


def _token_attributions(
    model: nn.Module, layer: nn.Module, inputs: Mapping[str, torch.Tensor], class_id: int
) -> np.ndarray:
    """(tokens,) gradient times input of one row."""
    embeddings: list[torch.Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        embeddings.append(output.detach().requires_grad_())
        return embeddings[-1]

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(**inputs).logits
            if logits.ndim != 2:
                raise ValueError(
                    f"{type(model).__name__} gives logits of shape {tuple(logits.shape)}: attributions are for one "
                    "class a row, not for tagging."
                )
            (gradient,) = torch.autograd.grad(logits[0, class_id], embeddings[:1], allow_unused=True)
    finally:
        handle.remove()
    if gradient is None:
        return np.zeros(embeddings[0].shape[1])
    return (gradient[0].double() * embeddings[0][0].detach().double()).sum(-1).cpu().numpy()


def _ends_of_words(text: str) -> list[tuple[int, int]]:
    """Start and end of the stretch without white space that each character is in."""
    ends: list[tuple[int, int]] = []
    position = 0
    for word in text.split():
        start = text.index(word, position)
        ends += [(i, i + 1) for i in range(position, start)]
        position = start + len(word)
        ends += [(start, position)] * len(word)
    return ends + [(i, i + 1) for i in range(position, len(text))]


def _without_patches(pixels: torch.Tensor, grid: int) -> torch.Tensor:
    """(grid², channels, height, width) copies of an image, each with one patch in its mean colour."""
    height, width = pixels.shape[1:]
    rows, columns = (np.linspace(0, size, grid + 1).round().astype(int) for size in (height, width))
    copies = pixels.repeat(grid * grid, 1, 1, 1)
    mean = pixels.mean((1, 2), keepdim=True)
    for i in range(grid):
        for j in range(grid):
            copies[i * grid + j, :, rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = mean
    return copies


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values divided by the largest of them in size; all 0 where there is none."""
    largest = np.abs(values).max(initial=0.0)
    return values / largest if largest > 0 else np.zeros_like(values)
