"""Checkpoints whose weights have other names than the model's: transformers writes some families' former names."""

from __future__ import annotations

import masked_images
import pictures
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTForImageClassification

from hftransfer import AdaptationConfig, AdaptationTrainer
from hftransfer.trainers.saving.renamed_weights import load_renamed_weights


def scrambled(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    return model


@pytest.mark.parametrize("family", ["vit", "deit", "swin"])
def test_renamed_weights_are_loaded(tmp_path, family):
    model = masked_images.painter(family)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) != set(expected), "this family is not renamed any more"
    assert load_renamed_weights(scrambled(model), str(tmp_path))
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_names_that_are_the_models_are_left_to_the_trainer(tmp_path):
    model = tiny.bert()
    model.save_pretrained(tmp_path)
    before = [p.detach().clone() for p in scrambled(model).parameters()]
    assert not load_renamed_weights(model, str(tmp_path))
    assert not load_renamed_weights(torch.nn.Linear(2, 2), str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_vision_transformer_goes_on_from_its_checkpoint(tmp_path):
    """Every weight, with what the optimizer knew of it."""

    def train(folder, **settings):
        torch.manual_seed(0)
        names = dict(enumerate(tiny.LABELS))
        sizes = masked_images.PLAIN | masked_images.SQUARES
        model = ViTForImageClassification(
            ViTConfig(**sizes, id2label=names, label2id={v: k for k, v in names.items()})
        )
        quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "steps", "save_steps": 2}
        args = AdaptationConfig(str(folder), max_steps=4, learning_rate=1e-2, **quiet, **settings)
        run = AdaptationTrainer(model, args, pictures.pictures(24), processing_class=pictures.processor())
        run.train(resume_from_checkpoint=settings.get("resume_from_checkpoint"))
        return model.state_dict()

    whole = train(tmp_path / "whole")
    again = train(tmp_path / "again", resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name
