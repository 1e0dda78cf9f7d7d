"""The feature hook: found by identity of the logits in every family, and what it takes makes the logits."""

from __future__ import annotations

import random

import families
import numpy as np
import pytest
import tiny
import torch
from families import FAMILIES, SEQUENCE, TOKEN
from peft import LoraConfig
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hftransfer.models.adapters import attach_adapter
from hftransfer.models.feature_hook import FeatureHook, find_head

FINAL = {"roberta": "classifier.out_proj", "xlm-roberta": "classifier.out_proj", "electra": "classifier.out_proj"}
FINAL |= {"mpnet": "classifier.out_proj", "llama": "score"}  # all others, and every tagger but Llama: classifier


def final_name(family: str, task: str) -> str:
    return FINAL.get(family, "classifier") if task == SEQUENCE or family == "llama" else "classifier"


def saved(name: str) -> str:
    """How PEFT calls a part of a saved module."""
    module, *rest = name.split(".")
    return ".".join(["base_model.model", module, "modules_to_save.default", *rest])


def check_features(model, head, batch):
    """`head(feature) == logits`, in eval mode, with the hook in place."""
    hook = FeatureHook(model.eval(), head)
    with torch.no_grad():
        logits = model(**batch).logits
        features = hook.take(batch)
        again = model.get_submodule(head.name)(features)
    assert features.shape == (*logits.shape[:-1], head.in_features)
    torch.testing.assert_close(again, logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("labels", [tiny.LABELS, tuple(f"l{i}" for i in range(32))], ids=["3", "as-wide-as-hidden"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_final_linear_is_found_and_its_input_makes_the_logits(family, task, wrapped, labels):
    model, batch = families.build(family, task, labels), families.batch()
    head = find_head(model, batch)
    expected = final_name(family, task)
    assert (head.name, head.in_features, head.pooled_after) == (expected, 32, family == "llama" and task == SEQUENCE)
    if wrapped:
        model = attach_adapter(model, LoraConfig(r=2, init_lora_weights=False), head)
        head = find_head(model, batch)
        assert head.name == saved(expected)
    check_features(model, head, batch)


@pytest.mark.parametrize("pad", [0, None], ids=["padded", "no-pad-token"])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_a_decoder_is_hooked_at_the_token_it_scores(left, pad):
    """With either side padded, and without a pad token, where the last position is scored."""
    batch = families.batch(left) if pad == 0 else families.batch(rows=1)
    model = families.build("llama", pad_token_id=pad)
    check_features(model, find_head(model, batch), batch)


def test_probing_draws_nothing_and_leaves_every_module_in_its_mode():
    model = families.build("bert")
    model.bert.embeddings.eval()  # as a user does who freezes a part
    modes = {name: module.training for name, module in model.named_modules()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    find_head(model, families.batch())
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_probe_that_fails_leaves_no_hook_and_no_mode_behind():
    model = families.build("bert")
    with pytest.raises(ValueError, match="input_ids"):
        find_head(model, {})
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


class Odd(nn.Module):
    """A model whose logits are changed after the last linear."""

    def __init__(self, after):
        super().__init__()
        self.linear, self.after = nn.Linear(4, 3), after

    def forward(self, x):
        return SequenceClassifierOutput(logits=self.after(self.linear(x)))


@pytest.mark.parametrize("after", [torch.tanh, lambda z: z.add_(1)], ids=["another tensor", "in place"])
def test_logits_that_no_linear_makes_are_refused(after):
    with pytest.raises(ValueError, match="Odd has no linear layer whose output is its logits"):
        find_head(Odd(after), {"x": torch.randn(2, 4)})


def test_a_feature_is_handed_out_once():
    """A hook keeps no graph alive, and says so when the head did not run."""
    model, batch = families.build("bert"), families.batch()
    hook = FeatureHook(model, find_head(model, batch))
    model(**batch)
    hook.take(batch)
    with pytest.raises(RuntimeError, match="classifier did not run"):
        hook.take(batch)
    hook.remove()
    model(**batch)
    with pytest.raises(RuntimeError, match="classifier did not run"):
        hook.take(batch)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_carry_the_gradient_of_the_logits(family):
    """In training mode the feature is the very tensor the head saw: after dropout, and part of the graph."""
    model, batch = families.build(family), families.batch()
    head = find_head(model, batch)
    hook = FeatureHook(model, head)
    logits = model(**batch).logits
    features = hook.take(batch)
    torch.testing.assert_close(model.get_submodule(head.name)(features), logits, rtol=1e-6, atol=1e-6)
    features.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
