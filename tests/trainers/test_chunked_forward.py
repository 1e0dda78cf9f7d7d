"""`forward_rows`: a batch in pieces has the loss and gradient of the whole, on less memory."""

from __future__ import annotations

import pictures
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from torch.autograd.graph import saved_tensors_hooks

from hftransfer.trainers.step import chunked_forward

OBJECTIVES = {"coral": {"weight": 1.0, "schedule": "constant"}, "nt_xent": {"weight": 1.0, "schedule": "constant"}}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def step(folder, peft_config=None, **settings):
    """Loss and gradients of one joint batch."""
    run = runs.trainer(
        folder, tiny.bert(**STILL), objectives=OBJECTIVES, per_device_train_batch_size=8, peft_config=peft_config,
        **settings,
    )  # fmt: skip
    batch = next(iter(run.get_train_dataloader()))
    module = run.model.train()
    loss = module(**batch).loss
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize("rows", [3, 8])
def test_pieces_have_the_gradient_of_the_whole(rows, adapter, tmp_path):
    loss, whole = step(tmp_path / "whole", adapter)
    again, pieces = step(tmp_path / "pieces", adapter, forward_rows=rows)
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=1e-6)
    assert pieces.keys() == whole.keys()
    for name, gradient in whole.items():
        difference = (pieces[name] - gradient).norm().item()
        assert difference <= 1e-4 * max(gradient.norm().item(), 1e-2), name


def test_a_piece_is_run_again_with_the_dropout_it_had(tmp_path, monkeypatch):
    """Else the gradient would be that of another network than the one the loss was of."""

    def gradients(folder):
        run = runs.trainer(folder, objectives=OBJECTIVES, per_device_train_batch_size=8, forward_rows=5)
        batch, module = next(iter(run.get_train_dataloader())), run.model.train()
        torch.manual_seed(0)
        module(**batch).loss.backward()
        return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}

    again = gradients(tmp_path / "again")
    monkeypatch.setattr(chunked_forward, "checkpoint", lambda forward, *given, **_: forward(*given))
    kept = gradients(tmp_path / "kept")
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient)


def test_pieces_keep_less(tmp_path):
    def kept(**settings) -> int:
        run = runs.trainer(tmp_path, tiny.bert(), objectives=OBJECTIVES, per_device_train_batch_size=16, **settings)
        batch, total = next(iter(run.get_train_dataloader())), 0

        def count(x):
            nonlocal total
            total += x.nbytes
            return x

        module = run.model.train()
        with saved_tensors_hooks(count, lambda x: x):
            module(**batch)
        return total

    assert kept(forward_rows=4) < 0.3 * kept()


def test_batch_norm_must_stand_still(tmp_path):
    given = {
        "train_dataset": pictures.pictures(),
        "target_dataset": pictures.pictures(labelled=False),
        "processing_class": pictures.processor(),
        "forward_rows": 4,
    }
    with pytest.raises(ValueError, match=r"forward_rows=4 .* batch_norm='frozen'"):
        runs.trainer(tmp_path, pictures.resnet(), **given)
    runs.trainer(tmp_path, pictures.resnet(), batch_norm="frozen", **given)


def test_no_rows_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match="forward_rows=0 must be at least 1"):
        runs.config(tmp_path, forward_rows=0)
