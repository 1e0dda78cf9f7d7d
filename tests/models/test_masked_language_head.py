"""Predictions at masked positions only: the loss and gradient of the whole projection, for several families."""

from __future__ import annotations

import masked_models
import pytest
import tiny
import torch
from torch import nn

from hftransfer.models.masked_language_head import MaskedLanguageHead, masked_loss

POSITIONS = torch.tensor([1, 2, 8, 13])
LABELS = torch.tensor([7, 9, 7, 30])


def inputs() -> dict[str, torch.Tensor]:
    encoded = tiny.tokenizer()(["w1 w2 w3 w4 w5", "w6 w7 w8"], padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", masked_models.CONFIGS)
def test_loss_and_gradient_are_those_of_the_whole_projection(family):
    model = masked_models.masked_model(family, dtype=torch.float64)
    labels = torch.full((14,), -100)
    labels[POSITIONS] = LABELS
    logits = model(**inputs()).logits
    whole = nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction="sum")
    whole.backward()
    expected = gradients(model)
    model.zero_grad()

    head = MaskedLanguageHead(model, inputs())
    chosen, hidden = head(inputs(), POSITIONS)
    loss = masked_loss(chosen, LABELS)
    loss.backward()
    assert head.selects
    assert chosen.shape == (4, 64)
    assert hidden.shape[:2] == (2, 7)
    assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6)
    assert max(g.abs().max() for g in found.values()) > 1e-3


class NeedsTheRow(nn.Module):
    """A head whose prediction depends on the other tokens of the row."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, hidden):
        return self.head(hidden + hidden.mean(1, keepdim=True))


def test_a_head_that_reads_the_whole_row_gets_it():
    model = masked_models.masked_model()
    model.cls = NeedsTheRow(model.cls)
    head = MaskedLanguageHead(model, inputs())
    assert not head.selects
    logits, hidden = head(inputs(), POSITIONS)
    torch.testing.assert_close(logits, model(**inputs()).logits.flatten(0, 1)[POSITIONS])
    assert hidden.shape == (2, 7, 16)


def test_no_position_costs_nothing():
    head = MaskedLanguageHead(masked_models.masked_model(), inputs())
    logits, _ = head(inputs(), torch.tensor([], dtype=torch.long))
    assert logits.shape == (0, 64)
    assert masked_loss(logits, torch.tensor([], dtype=torch.long)).item() == 0


def test_the_model_itself_answers_as_before():
    model = masked_models.masked_model()
    before = model(**inputs()).logits
    head = MaskedLanguageHead(model, inputs())
    head(inputs(), POSITIONS)
    torch.testing.assert_close(model(**inputs()).logits, before)
    head.remove()
    assert not model.bert._forward_hooks


def test_a_classifier_is_no_masked_language_model():
    with pytest.raises(ValueError, match="BertForSequenceClassification gives logits of shape"):
        MaskedLanguageHead(tiny.bert(), inputs())
