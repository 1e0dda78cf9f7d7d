"""Packed rows: their layout, and a loss and gradient that are those of padded rows."""

from __future__ import annotations

import masked_models
import numpy as np
import pytest
import torch

from hftransfer.data.word_masking import WordMasking
from hftransfer.models.masked_language_head import MaskedLanguageHead
from hftransfer.pretraining.masking_collator import MaskingCollator
from hftransfer.pretraining.packed_attention import PackedAttention, find_packed_attention, padded_inputs
from hftransfer.pretraining.packing import packed_layout, padded_layout, place_rows, row_means
from hftransfer.pretraining.pretraining_model import PretrainingModel
from hftransfer.pretraining.sentence_anchor import SentenceAnchor

TOKENS = list(range(5, 60))
LENGTHS = (20, 3, 11, 9, 17, 5)


def rows(lengths=LENGTHS) -> list[dict]:
    draw = np.random.default_rng(0)
    return [
        {
            "input_ids": [2, *draw.choice(TOKENS, n - 2), 3],
            "words": [-1, *range(n - 2), -1],
            "domain": 0,
            "draw": (i, 0),
        }
        for i, n in enumerate(lengths)
    ]


def collator(pack_length: int | None) -> MaskingCollator:
    return MaskingCollator(WordMasking(4, np.array(TOKENS), 0.3), pad_id=0, seed=1, pack_length=pack_length)


@pytest.mark.parametrize("limit", [8, 20, 25, 33, 65, 1000])
def test_a_layout_holds_every_row_once_within_the_limit(limit):
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(2, 40, size=1 + seed).tolist()
        layout = packed_layout(lengths, limit)
        assert sorted(row for sequence in layout.sequences for row in sequence) == list(range(len(lengths)))
        filled = [sum(lengths[row] for row in sequence) for sequence in layout.sequences]
        assert max(filled) == layout.width <= max(limit, *lengths)
        assert len(filled) >= sum(lengths) / max(limit, *lengths)


def test_short_rows_leave_little_padding():
    lengths = np.random.default_rng(0).integers(8, 50, size=32).tolist()
    packed, padded = packed_layout(lengths, 256), padded_layout(lengths)
    share = [1 - sum(lengths) / (len(layout.sequences) * layout.width) for layout in (packed, padded)]
    assert share[0] < 0.05 < 0.3 < share[1]


def test_places_restart_with_each_row():
    placed = place_rows([[7, 8, 9], [5]], packed_layout([3, 1], 4), pad_id=0)
    assert placed["places"].tolist() == [[0, 1, 2, 0]]
    assert placed["segments"].tolist() == [[0, 0, 0, 1]]
    assert placed["starts"].tolist() == [0, 3]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "electra", "albert", "mpnet"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(family, implementation):
    if family == "mpnet" and implementation == "sdpa":
        pytest.skip("MPNet has eager attention alone")
    model = masked_models.masked_model(family, attn_implementation=implementation)
    attention, _ = find_packed_attention(model, TOKENS, 60)
    assert attention is not None
    found = []
    for pack_length, how in ((None, None), (40, attention)):
        batch = collator(pack_length)(rows())
        joint = PretrainingModel(model, MaskedLanguageHead(model, padded_inputs(collator(None)(rows()))), how)
        loss = joint(**batch).loss
        model.zero_grad()
        loss.backward()
        found.append((loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
        joint.head.remove()
        assert len(batch["input_ids"]) == (6 if pack_length is None else 2)
    (padded, gradient), (packed, other) = found
    assert packed == pytest.approx(padded, abs=1e-5)
    for name, value in gradient.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_the_same_words_are_masked_packed_or_not():
    packed, padded = collator(40)(rows()), collator(None)(rows())
    assert sorted(packed["labels"].tolist()) == sorted(padded["labels"].tolist())
    assert len(packed["labels"]) > 10
    again = collator(40)(rows()[::-1])
    assert sorted(again["labels"].tolist()) == sorted(packed["labels"].tolist())


def test_a_model_that_takes_no_mask_of_pairs_says_so():
    attention, reason = find_packed_attention(masked_models.masked_model("deberta-v2"), TOKENS, 60)
    assert attention is None
    assert "DebertaV2ForMaskedLM" in reason


def test_a_wrong_first_position_is_seen():
    """What the probe compares does differ when positions go on, and when local layers read across rows."""
    model = masked_models.masked_model("roberta")
    attention, _ = find_packed_attention(model, TOKENS, 60)
    assert attention == PackedAttention(additive=False, first_position=2)
    modern, _ = find_packed_attention(masked_models.masked_model("modernbert"), TOKENS, 60)
    assert modern == PackedAttention(additive=False, first_position=0, window=4)
    ids = [row["input_ids"] for row in rows()]
    placed = place_rows(ids, padded_layout(LENGTHS), 0)
    with torch.no_grad():
        expected = model.roberta(**padded_inputs(placed))[0]
        layout = place_rows(ids, packed_layout(LENGTHS, 40), 0)
        right = model.roberta(**attention.inputs(layout, torch.float32))[0]
        wrong = model.roberta(**PackedAttention(False, 0).inputs(layout, torch.float32))[0]
    means = [row_means(h, p["segments"], 6) for h, p in ((expected, placed), (right, layout), (wrong, layout))]
    torch.testing.assert_close(means[1], means[0], rtol=1e-4, atol=1e-5)
    assert (means[2] - means[0]).abs().max() > 1e-2


def test_row_means_are_those_of_each_row_by_itself():
    hidden = torch.randn(2, 5, 3, dtype=torch.float64)
    segments = torch.tensor([[0, 0, 1, 1, 1], [2, 2, -1, -1, -1]])
    expected = [hidden[segments == row].numpy().mean(0) for row in range(3)]
    np.testing.assert_allclose(row_means(hidden, segments, 3), expected, atol=1e-12)


def test_the_sentence_anchor_is_0_at_the_start_and_grows():
    model = masked_models.masked_model()
    anchor = SentenceAnchor(model)
    batch = collator(None)(rows())
    head = MaskedLanguageHead(model, padded_inputs(batch))
    joint = PretrainingModel(model, head, None, anchor, anchor_weight=2.0)
    output = joint(**batch)
    assert joint.loss_names == ["masked_words", "sentence_anchor"]
    assert output.losses[1].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        weight = model.bert.encoder.layer[1].output.dense.weight
        weight.add_(torch.randn_like(weight))
    moved = joint(**batch)
    assert moved.losses[1].item() > 1e-3
    assert moved.loss.item() == pytest.approx((moved.losses[0] + 2 * moved.losses[1]).item(), rel=1e-5)
    assert "anchor" not in str([name for name, _ in joint.named_parameters()])
