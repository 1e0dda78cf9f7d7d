"""Batch norm in a run: together, each domain by itself, frozen; whose statistics are kept; AdaBN at the end."""

from __future__ import annotations

import blobs
import pytest
import runs
import tiny
import torch
from peft import LNTuningConfig, LoraConfig, PeftModel
from torch import nn
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification

from hftransfer import AdaptationTrainer, JointModel, adapt_batch_norm
from hftransfer.models.batch_norm_statistics import batch_norms
from hftransfer.models.feature_hook import FeatureHook, find_head
from hftransfer.models.freezing import set_trainable
from hftransfer.objectives.specification import build_objectives, parse_objectives
from hftransfer.trainers.step.forward_chain import build_forward
from hftransfer.trainers.step.objective_set import ObjectiveSet


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


LABELLED = {
    "labels": torch.tensor([0, 1, -100, -100, -100]),
    "domain": torch.tensor([0, 0, -1, -1, -1]),
    "num_source": 2,
}


def joint_forward(mode: str, objectives=None):
    model = resnet()
    head = find_head(model, {"pixel_values": images()})
    specs = parse_objectives(objectives)
    modules, schedules = build_objectives(specs, head.in_features, 3)
    given = ObjectiveSet(modules, {spec.name: spec.weight for spec in specs}, schedules)
    chain = build_forward(model, head, given, batch_norm=mode)
    adapter = JointModel(model, head, objectives=given, forward=chain).train()
    return adapter, adapter(pixel_values=images(), **LABELLED)


def alone(*parts: slice) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of forwards of the plain model on each part of the images in turn, and the statistics they leave."""
    model = resnet()
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=images()[part]).logits for part in parts])
    return logits, {name: buffer for name, buffer in model.named_buffers() if "running" in name}


@pytest.mark.parametrize(
    ("mode", "parts", "kept"),
    [
        ("joint", [slice(None)], [slice(None)]),
        ("separate", [slice(0, 2), slice(2, None)], [slice(2, None)]),  # what is kept are the target's
    ],
)
def test_statistics_are_of_the_batch_or_of_each_domain(mode, parts, kept):
    adapter, out = joint_forward(mode)
    logits, _ = alone(*parts)
    _, statistics = alone(*kept)
    torch.testing.assert_close(out.logits, logits)
    assert len(statistics) > 4
    for name, expected in statistics.items():
        torch.testing.assert_close(adapter.model.get_buffer(name), expected)


def test_frozen_uses_the_running_statistics_and_leaves_them():
    model = resnet().eval()
    expected = model(pixel_values=images()).logits
    adapter, out = joint_forward("frozen")
    torch.testing.assert_close(out.logits, expected)
    for name, value in model.named_buffers():
        assert torch.equal(adapter.model.get_buffer(name), value)
    assert all(not module.training for module in batch_norms(adapter).values())
    assert adapter.model.resnet.encoder.training
    out.loss.backward()  # its own weights still learn
    assert all(p.grad is not None for m in batch_norms(adapter).values() for p in m.parameters())


def test_without_a_target_separate_keeps_the_sources_statistics():
    model = resnet()
    head = find_head(model, {"pixel_values": images()})
    adapter = JointModel(model, head, forward=build_forward(model, head, batch_norm="separate")).train()
    source = {"labels": torch.tensor([0, 1]), "domain": torch.tensor([0, 0]), "num_source": 2}
    adapter(pixel_values=images()[:2], **source)
    for name, expected in alone(slice(0, 2))[1].items():
        torch.testing.assert_close(adapter.model.get_buffer(name), expected)


def test_frozen_parts_keep_their_statistics_and_others_do_not():
    model = resnet()
    head = find_head(model, {"pixel_values": images()})
    set_trainable(model, head, "last_1")
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    adapter = JointModel(model, head).train()
    adapter.train()  # the trainer calls it at every step
    adapter(
        pixel_values=images(), labels=torch.tensor([0, 1, -100, -100, -100]), domain=torch.tensor([0, 0, -1, -1, -1])
    )
    moved = {name for name, value in before.items() if not torch.equal(model.get_buffer(name), value)}
    assert moved == {name for name in before if ".stages.1." in name}


def test_the_two_differ_on_the_source():
    joint, separate = joint_forward("joint")[1], joint_forward("separate")[1]
    assert (joint.logits[:2] - separate.logits[:2]).abs().max() > 1e-2


def test_separate_features_go_to_the_right_domain():
    adapter, out = joint_forward("separate", "mmd")
    seen = []
    adapter.objectives["mmd"].register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    adapter(pixel_values=images(), **LABELLED)
    model = resnet()
    hook = FeatureHook(model, find_head(model, {"pixel_values": images()}))
    for name, part in (("source_features", slice(0, 2)), ("target_features", slice(2, None))):
        model(pixel_values=images()[part])
        torch.testing.assert_close(seen[0][name], hook.take({}))
    out.loss.backward()
    assert all(p.grad is not None for p in adapter.model.parameters())


def test_a_convolutional_head_is_found_behind_its_flatten():
    head = find_head(resnet(), {"pixel_values": images()})
    assert (head.name, head.in_features) == ("classifier.1", 8)
    assert isinstance(resnet().get_submodule(head.name), nn.Linear)


# ---- whole runs


def statistics(model) -> dict[str, torch.Tensor]:
    return {name: b.clone() for name, b in model.named_buffers() if "running" in name}


def run(folder, model=None, **settings) -> AdaptationTrainer:
    """A trainer on grey blobs, the target's brighter."""
    evaluation = {"source": blobs.domain(12, 3), "target": blobs.domain(12, 4, 80)}
    peft_config = settings.pop("peft_config", None)
    args = runs.config(folder, **{"objectives": {"mmd": 0.1}, **settings})
    return AdaptationTrainer(
        model or blobs.resnet(),
        args,
        blobs.domain(20, 0),
        blobs.domain(21, 1, 80, labelled=False),
        evaluation,
        blobs.processor(),
        peft_config,
    )


@pytest.mark.parametrize("mode", ["joint", "separate", "frozen"])
def test_what_is_saved_is_what_was_evaluated(tmp_path, mode):
    """A plain model, whose predictions are those of the run; frozen statistics are those it came with."""
    model = blobs.resnet()
    before = statistics(model)
    trainer = run(tmp_path, model, batch_norm=mode)
    trainer.train()
    unmoved = [torch.equal(model.get_buffer(name), value) for name, value in before.items()]
    assert all(unmoved) if mode == "frozen" else not any(unmoved)
    trainer.save_model()
    saved = AutoModelForImageClassification.from_pretrained(tmp_path)
    predicted = trainer.predict(blobs.domain(6, 5, 80)).predictions
    pixels = trainer.prepared.encoder.processing_class(blobs.domain(6, 5, 80)["image"][:], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(saved(**pixels).logits, torch.tensor(predicted), rtol=1e-4, atol=1e-5)


def test_adabn_at_the_end_sees_every_target_row_once(tmp_path):
    """The same statistics as by the function, on the target's rows as evaluation has them."""
    model = blobs.resnet()
    trainer = run(tmp_path, model, adabn=True, per_device_eval_batch_size=64)
    seen = []
    model.register_forward_pre_hook(lambda m, args, kwargs: seen.append((m.training, kwargs)), with_kwargs=True)
    trainer.train()
    _, last = seen[-1]
    assert sum(len(kwargs["pixel_values"]) for training, kwargs in seen if not training) >= 21
    after = statistics(model)
    rows = trainer.prepared.encoder.processing_class(
        blobs.domain(21, 1, 80, labelled=False)["image"][:], return_tensors="pt"
    )
    assert len(last["pixel_values"]) == 21
    assert adapt_batch_norm(model, [rows]) == 21
    for name, value in statistics(model).items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-6)


def test_adabn_on_a_stream(tmp_path):
    trainer = AdaptationTrainer(
        blobs.resnet(),
        runs.config(tmp_path, objectives=None, adabn=True),
        blobs.domain(20, 0).to_iterable_dataset(),
        blobs.domain(21, 1, 80, labelled=False).to_iterable_dataset(),
        processing_class=blobs.processor(),
    )
    trainer.train()
    after = statistics(trainer.model.model)
    rows = blobs.processor()(blobs.domain(21, 1, 80, labelled=False)["image"][:], return_tensors="pt")
    adapt_batch_norm(trainer.model.model, [rows])
    name = "resnet.embedder.embedder.normalization.running_mean"
    torch.testing.assert_close(after[name], statistics(trainer.model.model)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", [LoraConfig(r=2), LNTuningConfig()], ids=["lora", "norms"])
def test_under_an_adapter_the_bases_statistics_stay(tmp_path, config):
    """The adapter reloaded on the model it started from predicts what it predicted."""
    trainer = run(tmp_path, peft_config=config, objectives=None, merge_adapter=False)
    before = {n: b.clone() for n, b in trainer.model.model.named_buffers() if "running" in n and "ln_tuning" not in n}
    trainer.train()
    assert all(torch.equal(trainer.model.model.get_buffer(name), value) for name, value in before.items())
    trainer.save_model()
    pixels = blobs.processor()(blobs.domain(6, 5, 80)["image"][:], return_tensors="pt")
    reloaded = PeftModel.from_pretrained(blobs.resnet(), tmp_path).eval()
    with torch.no_grad():
        expected = trainer.model.model.eval()(**pixels).logits
        torch.testing.assert_close(reloaded(**pixels).logits, expected, rtol=1e-5, atol=1e-6)


def test_a_momentum_of_ones_own(tmp_path):
    trainer = run(tmp_path, batch_norm_momentum=0.25)
    assert {m.momentum for m in batch_norms(trainer.model.model).values()} == {0.25}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"adabn": True},
            r"adabn=True, but BertForSequenceClassification has no batch norm with running stat",
        ),
        ({"batch_norm": "frozen"}, r"batch_norm='frozen', but BertForSequenceClassification has no batch norm"),
        ({"batch_norm": "separate"}, r"batch_norm='separate', but Bert"),
        ({"batch_norm_momentum": 0.1}, r"batch_norm_momentum=0.1, but Bert"),
    ],
)
def test_a_model_without_batch_norm_says_so(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, tiny.bert(), **settings)


def test_adabn_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="which an adapter does not save: set merge_adapter=True"):
        run(tmp_path, adabn=True, peft_config=LoraConfig(r=2), merge_adapter=False)
    args = runs.config(tmp_path, objectives=None, adabn=True)
    with pytest.raises(ValueError, match="adabn=True estimates statistics on target rows: pass a target_dataset"):
        AdaptationTrainer(blobs.resnet(), args, blobs.domain(20, 0), processing_class=blobs.processor())
    with pytest.raises(ValueError, match="batch_norm_momentum=0 must be above 0 and at most 1"):
        runs.config(tmp_path, batch_norm_momentum=0)


def test_adabn_of_an_adapter_is_saved_when_it_is_merged(tmp_path):
    trainer = run(tmp_path, adabn=True, merge_adapter=True, objectives=None, peft_config=LoraConfig(r=2))
    trainer.train()
    trainer.save_model()
    saved = AutoModelForImageClassification.from_pretrained(tmp_path)
    expected = statistics(trainer.model.model.get_base_model())
    assert all(torch.equal(saved.get_buffer(name), value) for name, value in expected.items())
