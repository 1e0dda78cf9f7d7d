"""Structure and freezing in every family: what should move has a gradient and moves in training, nothing else does."""

from __future__ import annotations

from typing import NamedTuple

import families
import pytest
import runs
import tiny
import torch
from families import FAMILIES, SEQUENCE, TOKEN
from peft import LoraConfig, get_peft_model
from policy_cases import TRAINABLE
from transformers import BertModel, ResNetConfig, ResNetForImageClassification

from hftransfer import load_model
from hftransfer.models.feature_hook import find_head
from hftransfer.models.freezing import frozen_modules, set_trainable
from hftransfer.models.model_structure import embedding_modules, head_modules, layer_stack
from hftransfer.models.parameter_blocks import split_into_blocks
from hftransfer.models.parameter_sets import norm_parameters


class Parts(NamedTuple):
    """What a reader of the model's code would say its parts are, by prefix."""

    layers: str
    head: tuple[str, ...]
    embeddings: tuple[str, ...]
    after: tuple[str, ...] = ()  # between the layers and the head


PARTS = {
    "bert": Parts("bert.encoder.layer", ("classifier",), ("bert.embeddings",), ("bert.pooler",)),
    "albert": Parts("albert.encoder.albert_layer_groups", ("classifier",), ("albert.embeddings",), ("albert.pooler",)),
    "distilbert": Parts("distilbert.transformer.layer", ("pre_classifier", "classifier"), ("distilbert.embeddings",)),
    "roberta": Parts("roberta.encoder.layer", ("classifier",), ("roberta.embeddings",)),
    "xlm-roberta": Parts("roberta.encoder.layer", ("classifier",), ("roberta.embeddings",)),
    "electra": Parts("electra.encoder.layer", ("classifier",), ("electra.embeddings",)),
    "mpnet": Parts(
        "mpnet.encoder.layer", ("classifier",), ("mpnet.embeddings", "mpnet.encoder.relative_attention_bias")
    ),
    "deberta-v2": Parts(
        "deberta.encoder.layer", ("pooler", "classifier"), ("deberta.embeddings", "deberta.encoder.rel_embeddings")
    ),
    "modernbert": Parts("model.layers", ("head", "classifier"), ("model.embeddings",), ("model.final_norm",)),
    "llama": Parts("model.layers", ("score",), ("model.embed_tokens",), ("model.norm",)),
}
TAGGING_HEADS = {"distilbert": ("classifier",), "deberta-v2": ("classifier",)}  # without what pools a sequence


def under(model, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{p}." for p in prefixes))}


def intended(model, parts: Parts, trainable: str = "all", freeze: str | None = None) -> set[str]:
    """The parameters that should train."""
    if freeze == "embeddings":
        return intended(model, parts, trainable) - under(model, *parts.embeddings)
    if trainable == "all":
        return under(model, *(name for name, _ in model.named_children()))
    if trainable == "head":
        return under(model, *parts.head)
    depth = len(model.get_submodule(parts.layers))
    last = (f"{parts.layers}.{depth - 1 - i}" for i in range(int(trainable.removeprefix("last_"))))
    return under(model, *parts.head, *parts.after, *last)


@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_read_off_the_structure(family, task):
    model, parts = families.build(family, task), PARTS[family]
    head = find_head(model, families.batch())
    expected = TAGGING_HEADS.get(family, parts.head) if task == TOKEN else parts.head
    stack, blocks = layer_stack(model)
    assert (stack, len(blocks)) == (parts.layers, 1 if family == "albert" else 2)
    assert head_modules(model, head) == list(expected)
    assert embedding_modules(model) == list(parts.embeddings)


@pytest.mark.parametrize(
    "settings", [{}, {"trainable": "head"}, {"trainable": "last_1"}, {"freeze": "embeddings"}], ids=str
)
@pytest.mark.parametrize("family", FAMILIES)
def test_in_training_exactly_what_should_train_trains(family, settings, tmp_path):
    model = families.build(family)
    before, expected = runs.copied(model), intended(model, PARTS[family], **settings)
    run = runs.trainer(tmp_path, model, processing_class=families.tokenizer(), **settings)
    assert run.trainable.names == expected
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert run.trainable.num_trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert run.trainable.num_total == sum(p.numel() for p in model.parameters())
    run.train()
    assert runs.moved(model, before) == expected


@pytest.mark.parametrize(("trainable", "task"), [("last_2", SEQUENCE), ("last_1", TOKEN), ("head", TOKEN)])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "albert"])
def test_more_layers_and_taggers(family, trainable, task):
    model, parts = families.build(family, task), PARTS[family]
    if task == TOKEN:
        parts = parts._replace(head=TAGGING_HEADS.get(family, parts.head))
    report = set_trainable(model, find_head(model, families.batch()), trainable)
    assert report.names == intended(model, parts, trainable)
    assert report.names == {name for name, p in model.named_parameters() if p.requires_grad}


def test_a_choice_replaces_an_earlier_one():
    model = families.build("bert")
    head = find_head(model, families.batch())
    set_trainable(model, head, "head")
    assert set_trainable(model, head, "last_2").names == set(dict(model.named_parameters())) - under(
        model, "bert.embeddings"
    )


def test_weights_that_the_checkpoint_lacked_always_train(tmp_path):
    """A frozen random pooler would leave nothing to read for the head above it."""
    BertModel(tiny.bert().config, add_pooling_layer=False).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), SEQUENCE, tiny.LABELS)
    report = set_trainable(model, find_head(model, families.batch()), "head")
    assert report.names == under(model, "classifier", "bert.pooler")
    report = set_trainable(model, find_head(model, families.batch()), "last_1", "block:bert.pooler")
    assert report.names == under(model, "classifier", "bert.pooler", "bert.encoder.layer.1")
    assert report.notes == ("bert.pooler.dense: new weights, which the checkpoint lacked, always train.",)


def test_freezing_adds_to_what_the_user_froze():
    """`freeze` thaws nothing."""
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    report = set_trainable(model, find_head(model, families.batch()), freeze="block:0")
    assert report.names == under(model, "bert.encoder.layer.1", "bert.pooler", "classifier")
    assert report.choice == "all without block:0"


def test_what_the_user_froze_stays_frozen_by_default(tmp_path):
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    before, frozen = runs.copied(model), under(model, "bert.embeddings")
    run = runs.trainer(tmp_path, model)
    assert run.trainable.names == set(before) - frozen
    run.train()
    assert runs.moved(model, before) == set(before) - frozen


# ---- the rest of the choices


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_report_says_what_was_done(name):
    model = tiny.bert()
    settings, trains = TRAINABLE[name]
    expected = {n for n, _ in model.named_parameters() if trains(n)}
    report = set_trainable(model, find_head(model, families.batch()), **settings, labelled_rows=24)
    assert report.names == expected
    assert {n for n, p in model.named_parameters() if p.requires_grad} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_one_block(family):
    model, parts = families.build(family), PARTS[family]
    blocks = split_into_blocks(model, find_head(model, families.batch()))
    names = [name for block in blocks for name in block.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert {n for block in blocks if block.head for n in block.parameters} == under(model, *parts.head)
    depth = len(model.get_submodule(parts.layers))
    for i in range(depth):
        (block,) = [block for block in blocks if block.name == f"{parts.layers}.{i}"]
        assert block.depth == depth - i
        assert set(block.parameters) == under(model, block.name)
    assert {n for b in blocks if not b.depth and not b.head for n in b.parameters} == under(model, *parts.after)
    assert under(model, *parts.embeddings) <= {n for b in blocks if b.depth == depth + 1 for n in b.parameters}
    depths = [block.depth for block in blocks]
    assert depths == sorted(depths, reverse=True)
    assert [block.head for block in blocks if not block.depth] == sorted(b.head for b in blocks if not b.depth)


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2", "vit", "swin", "convnext", "clip"])
def test_image_models_have_the_same_parts(family):
    """Depth, norms and biases need no table of architectures."""
    model = families.build_vision(family)
    head = find_head(model, families.images())
    blocks, (stack, stages) = split_into_blocks(model, head), layer_stack(model)
    names = {name for name, _ in model.named_parameters()}
    assert sorted(n for block in blocks for n in block.parameters) == sorted(names)
    assert [block.name for block in blocks if block.head] == ["classifier"]
    assert [b.name for b in blocks if 1 <= b.depth <= len(stages)] == [f"{stack}.{i}" for i in range(len(stages))]

    last = set_trainable(model, head, "last_1").names
    model.requires_grad_(True)
    first = set_trainable(model, head, freeze="first_1").names
    assert under(model, f"{stack}.{len(stages) - 1}", "classifier") <= last
    assert not last & under(model, *(f"{stack}.{i}" for i in range(len(stages) - 1)), *embedding_modules(model))
    assert first == names - {n for b in blocks if b.depth >= len(stages) for n in b.parameters}
    types = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    norms = {f"{n}.{p}" for n, m in model.named_modules() if isinstance(m, types) for p, _ in m.named_parameters()}
    assert set_trainable(model, head, "norms").names == norms | under(model, "classifier")
    biases = {name for name in names if name.endswith(".bias")}
    assert set_trainable(model, head, "biases").names == biases | under(model, "classifier")


def test_blocks_of_an_adapted_model():
    """A LoRA's parameters are in the block that they adapt, and the copied head is the head."""
    adapter = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    model = get_peft_model(tiny.bert(), adapter)
    blocks = {block.name: block for block in split_into_blocks(model, find_head(model, families.batch()))}
    assert sum(len(block.parameters) for block in blocks.values()) == len(list(model.parameters()))
    assert any("lora_A" in name for name in blocks["bert.encoder.layer.1"].parameters)
    assert all("classifier" in name for name in blocks["classifier"].parameters)
    assert [name for name, block in blocks.items() if block.head] == ["classifier"]


def test_a_tensor_with_two_names_is_not_torn():
    """One of its names should train and one should not: it stays, and the report says so."""
    model = tiny.bert()
    model.bert.encoder.layer[1].output.dense.bias = model.bert.encoder.layer[0].output.dense.bias
    report = set_trainable(model, find_head(model, families.batch()), "last_1")
    assert not model.bert.encoder.layer[1].output.dense.bias.requires_grad
    assert not any(name.endswith("output.dense.bias") and ".attention." not in name for name in report.names)
    assert "bert.encoder.layer.1.output.dense.bias and bert.encoder.layer.0.output.dense.bias are one tensor" in str(
        report.notes
    )


def test_a_head_that_stays_is_said():
    model = tiny.bert()
    head = find_head(model, families.batch())
    for settings, way in (
        ({"trainable": "block:0"}, 'trainable=["head", …] trains it too'),
        ({"trainable": ["head", "block:0"], "freeze": "block:classifier"}, "freeze names it"),
    ):
        assert set_trainable(model, head, **settings).notes == (f"The head stays as it is; {way}.",)
    assert not set_trainable(model, head, ["head", "block:0"]).notes


def test_norms_are_known_by_what_they_are():
    """transformers calls a ResNet's batch norms `normalization`, and models bring norms of their own."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    resnet = ResNetForImageClassification(config)
    found = norm_parameters(resnet)
    assert found == {n for n, _ in resnet.named_parameters() if ".normalization." in n}
    assert len(found) > 4
    llama = families.build("llama")
    assert norm_parameters(llama) == {n for n, _ in llama.named_parameters() if "norm" in n}


def test_frozen_modules_are_the_outermost_and_hold_parameters():
    model = tiny.bert()
    head = find_head(model, families.batch())
    assert frozen_modules(model) == []
    set_trainable(model, head, "head")
    assert frozen_modules(model) == [model.bert]  # the dropout before the head has no parameters and is not frozen
    set_trainable(model, head, "last_1")
    assert frozen_modules(model) == [model.bert.embeddings, model.bert.encoder.layer[0]]
    model.requires_grad_(False)
    assert frozen_modules(model) == [model]
