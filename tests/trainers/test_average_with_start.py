"""Weights after training, averaged with those before it."""

from __future__ import annotations

import pytest
import runs
import torch

from hftransfer.trainers.callbacks import AverageWithStart
from hftransfer.trainers.trainer_access import joint_model_of


def trained(folder, alpha=None, **settings):
    """Weights before and after a short run, averaged at its end if a share is given."""
    trainer = runs.trainer(folder, max_steps=3, learning_rate=1e-2, **settings)
    model = joint_model_of(trainer).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    if alpha is not None:
        trainer.add_callback(AverageWithStart(trainer, alpha))
    trainer.train()
    return before, {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("alpha", [0.5, 0.25])
def test_weights_lie_between_the_start_and_what_training_gives(tmp_path, alpha):
    start, plain = trained(tmp_path / "plain")
    same_start, averaged = trained(tmp_path / "averaged", alpha)
    moved = 0.0
    for name, before in start.items():
        assert torch.equal(before, same_start[name])
        torch.testing.assert_close(averaged[name], alpha * plain[name] + (1 - alpha) * before, rtol=0, atol=1e-6)
        moved = max(moved, float((plain[name] - before).abs().max()))
    assert moved > 1e-3


def test_what_is_frozen_stays(tmp_path):
    start, averaged = trained(tmp_path, 0.5, freeze="embeddings")
    name = next(name for name in start if name.endswith("word_embeddings.weight"))
    assert torch.equal(start[name], averaged[name])


def test_a_resumed_run_is_averaged_with_the_start_and_not_with_its_checkpoint(tmp_path):
    start, whole = trained(tmp_path / "whole", 0.5)
    saving = {"save_strategy": "steps", "save_steps": 2}
    trained(tmp_path / "cut", **saving)
    trainer = runs.trainer(tmp_path / "cut", max_steps=3, learning_rate=1e-2, **saving)
    trainer.add_callback(AverageWithStart(trainer, 0.5))
    trainer.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    resumed = dict(joint_model_of(trainer).model.named_parameters())
    assert all(torch.equal(whole[name], resumed[name]) for name in start)
