"""Batch norm sees both domains together, or each by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from hftransfer import DomainAdapter
from hftransfer.models.tap import FeatureTap, find_head
from hftransfer.objectives.registry import build_objectives, parse_objectives


def resnet():
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3, num_channels=1
    )
    return ResNetForImageClassification(config).train()


def images():
    """Two source images, and three of a brighter domain."""
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(5, 1, 16, 16, generator=draw)
    pixels[2:] += 3
    return pixels


def joint_forward(mode: str, objectives=None):
    model = resnet()
    head = find_head(model, {"pixel_values": images()})
    modules, schedules = build_objectives(parse_objectives(objectives), head.in_features, 3)
    adapter = DomainAdapter(model, head, modules, dict.fromkeys(modules, 1.0), schedules, batch_norm=mode).train()
    labels = torch.tensor([0, 1, -100, -100, -100])
    domain = torch.tensor([0, 0, -1, -1, -1])
    return adapter, adapter(pixel_values=images(), labels=labels, domain=domain, num_source=2)


def alone(*parts: slice) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of forwards of the plain model on each part of the images in turn, and the statistics they leave."""
    model = resnet()
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=images()[part]).logits for part in parts])
    return logits, {name: buffer for name, buffer in model.named_buffers() if "running" in name}


@pytest.mark.parametrize(
    ("mode", "parts"),
    [("joint", [slice(None)]), ("separate", [slice(0, 2), slice(2, None)])],
)
def test_statistics_are_of_the_batch_or_of_each_domain(mode, parts):
    adapter, out = joint_forward(mode)
    logits, statistics = alone(*parts)
    torch.testing.assert_close(out.logits, logits)
    assert len(statistics) > 4
    for name, expected in statistics.items():
        torch.testing.assert_close(adapter.model.get_buffer(name), expected)


def test_the_two_differ_on_the_source():
    joint, separate = joint_forward("joint")[1], joint_forward("separate")[1]
    assert (joint.logits[:2] - separate.logits[:2]).abs().max() > 1e-2


def test_separate_features_go_to_the_right_domain():
    adapter, out = joint_forward("separate", "mmd")
    seen = []
    adapter.objectives["mmd"].register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    adapter(
        pixel_values=images(),
        labels=torch.tensor([0, 1, -100, -100, -100]),
        domain=torch.tensor([0, 0, -1, -1, -1]),
        num_source=2,
    )
    model = resnet()
    tap = FeatureTap(model, find_head(model, {"pixel_values": images()}))
    for name, part in (("source_features", slice(0, 2)), ("target_features", slice(2, None))):
        model(pixel_values=images()[part])
        torch.testing.assert_close(seen[0][name], tap.take({}))
    out.loss.backward()
    assert all(p.grad is not None for p in adapter.model.parameters())


def test_a_convolutional_head_is_found_behind_its_flatten():
    head = find_head(resnet(), {"pixel_values": images()})
    assert (head.name, head.in_features) == ("classifier.1", 8)
    assert isinstance(resnet().get_submodule(head.name), nn.Linear)
