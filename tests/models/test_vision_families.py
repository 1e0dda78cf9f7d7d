"""Image classifiers: feature hook, parts, freezing, LoRA and inner features read off the structure of every family."""

from __future__ import annotations

from typing import NamedTuple

import blobs
import families
import pytest
import runs
import torch
import torch.distributed as dist
import torch.nn.functional as F
from families import VISION
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForImageClassification, DeiTConfig, DeiTForImageClassificationWithTeacher

from hftransfer import AdaptationTrainer, JointModel
from hftransfer.models.adapters import attach_adapter, check_mergeable, complete_peft_config, merged_copy
from hftransfer.models.batch_norm_statistics import freeze_batch_norms
from hftransfer.models.feature_hook import FeatureHook, find_head
from hftransfer.models.freezing import freeze_idle, set_trainable
from hftransfer.models.layer_hook import LayerHook, layer_widths
from hftransfer.models.model_structure import embedding_modules, head_modules, layer_stack


class Parts(NamedTuple):
    """What a reader of the model's code would say its parts are."""

    layers: str
    depth: int
    first: str  # embeddings or stem
    after: tuple[str, ...] = ()  # between the layers and the head
    width: int = 32  # of the head's input
    final: str = "classifier"
    idle: tuple[str, ...] = ()  # modules or parameters that the logits do not depend on


TOWER = Parts("vision_model.encoder.layers", 3, "vision_model.embeddings", idle=("vision_model.post_layernorm",))
PARTS = {
    "vit": Parts("vit.layers", 3, "vit.embeddings", ("vit.layernorm",)),
    "deit": Parts("deit.layers", 3, "deit.embeddings", ("deit.layernorm",)),
    "beit": Parts("beit.layers", 3, "beit.embeddings", ("beit.pooler",)),
    "dinov2": Parts(
        "dinov2.encoder.layer",
        3,
        "dinov2.embeddings",
        ("dinov2.layernorm",),
        64,
        idle=("dinov2.embeddings.mask_token",),
    ),
    "swin": Parts("swin.encoder.layers", 3, "swin.embeddings", ("swin.layernorm",)),
    "convnext": Parts("convnext.encoder.stages", 4, "convnext.embeddings", ("convnext.layernorm",), 20),
    "convnextv2": Parts("convnextv2.encoder.stages", 4, "convnextv2.embeddings", ("convnextv2.layernorm",), 20),
    "resnet": Parts("resnet.encoder.stages", 3, "resnet.embedder", (), 16, "classifier.1"),
    "regnet": Parts("regnet.encoder.stages", 3, "regnet.embedder", (), 16, "classifier.1"),
    "mobilenet_v1": Parts("mobilenet_v1.layer", 26, "mobilenet_v1.conv_stem", (), 256),
    "mobilenet_v2": Parts("mobilenet_v2.layer", 16, "mobilenet_v2.conv_stem", ("mobilenet_v2.conv_1x1",), 320),
    "efficientnet": Parts(
        "efficientnet.encoder.blocks",
        7,
        "efficientnet.embeddings",
        ("efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"),
        320,
    ),
    "clip": TOWER._replace(after=TOWER.idle),
    "siglip": TOWER._replace(after=(*TOWER.idle, "vision_model.head"), idle=("vision_model.head",)),
}
# Convolutions that are no linears' company; PEFT's wrapper hides the stride that the MobileNets read.
CONVOLUTIONAL, UNWRAPPABLE = ("resnet", "regnet", "efficientnet"), ("mobilenet_v1", "mobilenet_v2")
WRAPPABLE = [family for family in VISION if family not in UNWRAPPABLE]
BATCH = families.images()
LABELS = torch.tensor([0, 1, 2, 0])


def under(model, *prefixes: str) -> set[str]:
    inside = tuple(f"{p}." for p in prefixes)
    return {name for name, _ in model.named_parameters() if name in prefixes or name.startswith(inside)}


def intended(model, parts: Parts, trainable: str = "all", freeze: str | None = None) -> set[str]:
    if freeze == "embeddings":
        return set(dict(model.named_parameters())) - under(model, parts.first)
    last = {"head": 0, "last_2": 2}[trainable]
    blocks = [f"{parts.layers}.{parts.depth - 1 - i}" for i in range(last)]
    return under(model, "classifier", *blocks, *(parts.after if last else ()))


def train(model, steps: int = 2) -> set[str]:
    """Steps at a rate at which whatever has a gradient moves; names of what a gradient reached."""
    model.train()
    freeze_batch_norms(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        F.cross_entropy(model(**BATCH).logits, LABELS).backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
    return reached


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**BATCH).logits


# ---- parts


@pytest.mark.parametrize("family", VISION)
def test_parts_are_read_off_the_structure_and_the_features_make_the_logits(family):
    model, parts = families.build_vision(family).eval(), PARTS[family]
    head = find_head(model, BATCH)
    stack, blocks = layer_stack(model)
    assert (stack, len(blocks)) == (parts.layers, parts.depth)
    assert (head.name, head.in_features, head.pooled_after) == (parts.final, parts.width, False)
    assert head.idle == under(model, *parts.idle)
    assert head_modules(model, head) == ["classifier"]
    assert embedding_modules(model) == [parts.first]
    hook = FeatureHook(model, head)
    out = model(**BATCH).logits
    features = hook.take(BATCH)
    assert features.shape == (4, head.in_features)
    torch.testing.assert_close(model.get_submodule(head.name)(features), out, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", VISION)
def test_saved_it_is_a_plain_model(family, tmp_path):
    model = families.build_vision(family)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(reloaded) is type(model)
    torch.testing.assert_close(logits(reloaded), logits(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"trainable": "head"}, {"trainable": "last_2"}, {"freeze": "embeddings"}], ids=str
)
@pytest.mark.parametrize("family", VISION)
def test_exactly_what_should_train_trains(family, settings):
    """Parameters, and of the statistics of batch norm those of parts that train."""
    model, parts = families.build_vision(family), PARTS[family]
    expected = intended(model, parts, **settings)
    head = find_head(model, BATCH)
    assert set_trainable(model, head, **settings).names == expected
    freeze_idle(model, head)
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moving == expected - under(model, *parts.idle)
    before = runs.copied(model)
    statistics = {name: b.clone() for name, b in model.named_buffers() if "running" in name}
    reached = train(model)
    assert reached == moving
    moved = runs.moved(model, before)
    assert moved <= moving
    assert under(model, "classifier") <= moved
    for name, value in statistics.items():
        drifted = not torch.equal(model.get_buffer(name), value)
        assert drifted == (f"{name.rpartition('.')[0]}.weight" in expected), name


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2"])
def test_ddp_does_not_wait_for_parameters_without_a_say(family, tmp_path):
    """With them, its second step fails; without, it runs."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = families.build_vision(family)
        waiting = nn.parallel.DistributedDataParallel(model)
        waiting(**BATCH).logits.sum().backward()
        with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
            waiting(**BATCH)
        model = families.build_vision(family)
        assert freeze_idle(model, find_head(model, BATCH)) > 0
        train(nn.parallel.DistributedDataParallel(model))
    finally:
        # What the failed reduction left in flight ends first: a thread of the group may need the GIL, and the group's
        # destructor, which would run with the last reducer, waits for the thread while it holds the GIL.
        dist.barrier()
        waiting = None
        dist.destroy_process_group()


# ---- inner features


@pytest.mark.parametrize("family", VISION)
def test_inner_features_are_means_over_tokens_or_positions(family):
    model, parts = families.build_vision(family).eval(), PARTS[family]
    hooks = {where: LayerHook(model, where) for where in ("mean", "hidden:-2", "hidden:0")}
    seen = {}
    for index in (0, parts.depth - 2, parts.depth - 1):
        layer = model.get_submodule(f"{parts.layers}.{index}")
        layer.register_forward_hook(lambda _, args, out, index=index: seen.__setitem__(index, out))
    with torch.no_grad():
        model(**BATCH)
    widths = layer_widths(model, set(hooks), BATCH)
    for where, index in (("mean", parts.depth - 1), ("hidden:-2", parts.depth - 2), ("hidden:0", 0)):
        out = seen[index][0] if isinstance(seen[index], tuple) else seen[index]
        expected = out.mean((2, 3)) if out.ndim == 4 else out.mean(1)
        taken = hooks[where]
        with torch.no_grad():
            model(**BATCH)
        assert torch.equal(taken.take(BATCH, pool=True), expected)
        assert widths[where] == expected.shape[1]


@pytest.mark.parametrize(("side", "expected"), [(4, (1, 2)), (6, (1, 2)), (5, (2, 3))])
def test_maps_with_channels_last_are_averaged_the_right_way_round(side, expected):
    """Channels are the dimension that the layer's last module is wide; where both could be, they come first."""
    last = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(3, 7), nn.LayerNorm(7), nn.Linear(7, 5))]))
    hook = LayerHook(last, "mean")
    out = last[0][0](torch.randn(2, side, side, 3))
    torch.testing.assert_close(hook.take({}, pool=True), out.mean(expected))


# ---- LoRA


@pytest.mark.parametrize("family", WRAPPABLE)
def test_lora_trains_saves_reloads_and_merges(family, tmp_path):
    """Linears where there are any, plain convolutions elsewhere; the head in full; nothing else moves."""
    base = families.build_vision(family)
    plain = families.build_vision(family)
    before = logits(base)
    model = attach_adapter(base, LoraConfig(r=2), find_head(base, BATCH), BATCH)
    kinds = {type(m.base_layer) for m in model.modules() if hasattr(m, "lora_A")}
    assert kinds == {nn.Conv2d} if family in CONVOLUTIONAL else kinds == {nn.Linear}
    assert find_head(model, BATCH).in_features == PARTS[family].width
    expected = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name or ".classifier." in name for name in expected)
    values, buffers = runs.copied(model), {n: b.clone() for n, b in model.named_buffers()}
    assert train(model, steps=3) == expected
    moved = runs.moved(model, values)
    assert moved <= expected
    assert len(moved) > 0.8 * len(expected)  # a unit that is never open has a gradient of zero
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())  # an adapter does not save statistics
    trained = logits(model)
    assert (trained - before).abs().max() > 1e-2
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(plain, tmp_path)), trained)
    alone = merged_copy(model)
    assert type(alone) is type(families.build_vision(family))
    torch.testing.assert_close(logits(alone), trained, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", VISION)
def test_targets_are_what_the_model_is_made_of(family):
    """No grouped convolution, no stem, no part without a say, nothing of the head."""
    model, parts = families.build_vision(family), PARTS[family]
    config = complete_peft_config(model, LoraConfig(r=2), find_head(model, BATCH))
    chosen = {name: model.get_submodule(name) for name in config.target_modules}
    assert chosen
    assert config.modules_to_save == [parts.final]
    assert all(getattr(module, "groups", 1) == 1 for module in chosen.values())
    forbidden = tuple(f"{p}." for p in (parts.first, "classifier", *parts.idle))
    assert not any(name.startswith(forbidden) for name in chosen)
    if all(isinstance(module, nn.Conv2d) for module in chosen.values()):
        every = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
        assert set(chosen) == {name for name in every if not name.startswith(forbidden)}


@pytest.mark.parametrize("family", UNWRAPPABLE)
def test_a_model_that_reads_what_the_wrapper_hides_is_refused(family):
    """TensorFlow's padding reads the convolution's stride; without it, LoRA works."""
    model = families.build_vision(family)
    with pytest.raises(
        ValueError, match=r"PEFT cannot put LORA on MobileNetV\dFor.*no attribute 'stride'.*or `trainable`"
    ):
        attach_adapter(model, LoraConfig(r=2), find_head(model, BATCH), BATCH)
    model, batch = families.build_vision(family, tf_padding=False).double(), {k: x.double() for k, x in BATCH.items()}
    wrapped = attach_adapter(model, LoraConfig(r=2, init_lora_weights=False), find_head(model, batch), batch).eval()
    with torch.no_grad():
        torch.testing.assert_close(merged_copy(wrapped)(**batch).logits, wrapped(**batch).logits, rtol=1e-5, atol=1e-5)


class Depthwise(nn.Module):
    """All its convolutions are grouped."""

    def __init__(self, groups: int = 4):
        super().__init__()
        self.config = type("Config", (), {"model_type": "depthwise"})()
        self.stages = nn.ModuleList([nn.Conv2d(4, 4, 3, groups=groups), nn.BatchNorm2d(4)])
        self.classifier = nn.Linear(4, 2)


def test_grouped_convolutions_alone_are_refused_with_the_reason():
    head = find_head(families.build_vision("resnet"), BATCH)
    said = r"no linear layers.*its 1 convolutions are grouped or depthwise.*rank is div"
    with pytest.raises(ValueError, match=said):
        complete_peft_config(Depthwise(), LoraConfig(), head)
    assert complete_peft_config(Depthwise(groups=1), LoraConfig(), head).target_modules == ["stages.0"]


def test_grouped_convolutions_that_the_user_names_are_not_merged():
    """PEFT would fail at the end of the run; the check is for its beginning."""
    model = families.build_vision("regnet")
    head = find_head(model, BATCH)
    grouped = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 2)
    wrapped = attach_adapter(model, LoraConfig(r=2, target_modules=[grouped]), head, BATCH)
    for refuse in (check_mergeable, merged_copy):
        with pytest.raises(ValueError, match="a convolution of 2 groups.*leave it out of `target_modules`"):
            refuse(wrapped)


def test_weights_that_are_read_past_an_adapter_are_refused():
    """SigLIP's pooling reads `out_proj` of `nn.MultiheadAttention` without calling it."""

    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)])
            self.classifier = nn.Linear(8, 3)
            self.config = type("Config", (), {"model_type": "attentive"})()

        def forward(self, x):
            x = self.layers[1](self.layers[0](x, x, x)[0]).mean(1)
            return type("Output", (), {"logits": self.classifier(x)})()

    batch = {"x": torch.randn(2, 5, 8)}
    model = Attentive()
    head = find_head(model, batch)
    assert complete_peft_config(model, LoraConfig(), head).target_modules == ["layers.1"]
    wrapped = get_peft_model(model, LoraConfig(target_modules=["layers.0.out_proj"]))
    assert wrapped is not None
    said = r"LORA on Attentive: the model reads the weights of 'layers.0.out_proj' with"
    with pytest.raises(ValueError, match=said):
        attach_adapter(Attentive(), LoraConfig(target_modules=["layers.0.out_proj"]), head, batch)


# ---- in a joint step


@pytest.mark.parametrize("family", VISION)
def test_a_joint_step_runs_on_images(family):
    """Source and target images in one forward; the gradient reaches every parameter that moves."""
    model = families.build_vision(family)
    head = find_head(model, BATCH)
    freeze_idle(model, head)
    joint = JointModel(model, head).train()
    batch = {"labels": torch.tensor([0, 1, -100, -100]), "domain": torch.tensor([0, 0, -1, -1]), "num_source": 2}
    out = joint(**BATCH, **batch)
    out.loss.backward()
    assert out.logits.shape == (4, 3)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def trainer(folder, family: str, **settings):
    return AdaptationTrainer(
        families.build_vision(family),
        runs.config(folder, max_steps=1),
        blobs.domain(12, 0),
        blobs.domain(12, 1, 80, labelled=False),
        processing_class=blobs.processor(families.SIDE),
        **settings,
    )


@pytest.mark.parametrize("family", ["clip", "swin", "mobilenet_v1"])
def test_a_run_saves_a_plain_model(family, tmp_path, caplog):
    """Source and target images through the trainer; what has no say is frozen, what TensorFlow meant is mended."""
    with caplog.at_level("INFO"):
        run = trainer(tmp_path, family)
    model, said = run.model.model, " ".join(record.message for record in caplog.records)
    assert ("have no say in the logits and are frozen" in said) == (family == "clip")
    assert ("TensorFlow's conventions" in said) == (family == "mobilenet_v1")
    assert run.trainable.names == {n for n, p in model.named_parameters() if p.requires_grad}
    run.train()
    run.save_model()
    saved = AutoModelForImageClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(saved), logits(model), rtol=1e-4, atol=1e-5)


def test_a_run_with_lora_on_a_mobilenet_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="PEFT cannot put LORA on MobileNetV2ForImageClassification"):
        trainer(tmp_path / "run", "mobilenet_v2", peft_config=LoraConfig(r=2))
    assert not (tmp_path / "run").exists()


def test_logits_of_two_heads_are_refused():
    """DeiT's distilled classifier averages two linears."""
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**families.PATCHES))
    with pytest.raises(ValueError, match="WithTeacher has no linear layer whose output is its logits"):
        find_head(model, BATCH)
