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
from transformers import BertModel

from hftransfer import load_model
from hftransfer.models.policy import apply_policy
from hftransfer.models.structure import embeddings, head_modules, layers
from hftransfer.models.tap import find_head


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


def intended(model, policy: str, parts: Parts) -> set[str]:
    """The parameters that a policy should let move."""
    if policy == "none":
        return under(model, *(name for name, _ in model.named_children()))
    if policy == "embeddings":
        return intended(model, "none", parts) - under(model, *parts.embeddings)
    if policy == "head":
        return under(model, *parts.head)
    depth = len(model.get_submodule(parts.layers))
    last = (f"{parts.layers}.{depth - 1 - i}" for i in range(int(policy.removeprefix("last_"))))
    return under(model, *parts.head, *parts.after, *last)


@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_read_off_the_structure(family, task):
    model, parts = families.build(family, task), PARTS[family]
    head = find_head(model, families.batch())
    expected = TAGGING_HEADS.get(family, parts.head) if task == TOKEN else parts.head
    stack, blocks = layers(model)
    assert (stack, len(blocks)) == (parts.layers, 1 if family == "albert" else 2)
    assert head_modules(model, head) == list(expected)
    assert embeddings(model) == list(parts.embeddings)


@pytest.mark.parametrize("policy", ["none", "head", "last_1", "embeddings"])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_training_exactly_what_should_move_moves(family, policy, tmp_path):
    model = families.build(family)
    before, expected = runs.copied(model), intended(model, policy, PARTS[family])
    run = runs.trainer(tmp_path, model, freeze=policy, processing_class=families.tokenizer())
    assert run.policy.trainable == expected
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert run.policy.num_trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert run.policy.num_total == sum(p.numel() for p in model.parameters())
    run.train()
    assert runs.moved(model, before) == expected


@pytest.mark.parametrize(("policy", "task"), [("last_2", SEQUENCE), ("last_1", TOKEN), ("head", TOKEN)])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "albert"])
def test_more_layers_and_taggers(family, policy, task):
    model, parts = families.build(family, task), PARTS[family]
    if task == TOKEN:
        parts = parts._replace(head=TAGGING_HEADS.get(family, parts.head))
    report = apply_policy(model, policy, find_head(model, families.batch()))
    assert report.trainable == intended(model, policy, parts)
    assert report.trainable == {name for name, p in model.named_parameters() if p.requires_grad}


def test_a_policy_replaces_an_earlier_one():
    model = families.build("bert")
    head = find_head(model, families.batch())
    apply_policy(model, "head", head)
    assert apply_policy(model, "none", head).trainable == set(dict(model.named_parameters()))


def test_weights_that_the_checkpoint_lacked_always_move(tmp_path):
    """A frozen random pooler would leave nothing to read for the head above it."""
    BertModel(tiny.bert().config, add_pooling_layer=False).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), SEQUENCE, tiny.LABELS)
    report = apply_policy(model, "head", find_head(model, families.batch()))
    assert report.trainable == under(model, "classifier", "bert.pooler")


def test_what_the_user_froze_stays_frozen_without_a_policy(tmp_path):
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    before, frozen = runs.copied(model), under(model, "bert.embeddings")
    run = runs.trainer(tmp_path, model)
    assert run.policy.trainable == set(before) - frozen
    run.train()
    assert runs.moved(model, before) == set(before) - frozen


@pytest.mark.parametrize(
    ("family", "policy", "message"),
    [
        ("bert", "last_3", r"freeze='last_3': BertForSequenceClassification has 2 layers\."),
        ("bert", "last_0", r"freeze='last_0': BertForSequenceClassification has 2 layers\."),
        ("albert", "last_2", r"AlbertForSequenceClassification has 1 layers?\."),
        ("bert", "last_k", r"freeze='last_k' is not one of none, head, last_<k>, embeddings\."),
        ("bert", "heads", r"freeze='heads' is not one of"),
        ("bert", "", r"freeze='' is not one of"),
    ],
)
def test_policies_that_cannot_be(family, policy, message):
    model = families.build(family)
    with pytest.raises(ValueError, match=message):
        apply_policy(model, policy, find_head(model, families.batch()))


def test_a_model_without_layers_or_embeddings_says_so():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Sequential has no stack of layers"):
        layers(model)
    model.stack = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="Sequential: no embeddings were found to freeze"):
        apply_policy(model, "embeddings", None)


@pytest.mark.parametrize("wrapped", [False, True])
def test_freezing_and_an_adapter_are_not_mixed(wrapped, tmp_path):
    """An adapter freezes on its own; a policy on top would thaw or freeze the wrong half."""
    adapter = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    model = get_peft_model(tiny.bert(), adapter) if wrapped else tiny.bert()
    with pytest.raises(ValueError, match="leave freeze at 'none'"):
        runs.trainer(tmp_path, model, freeze="head", peft_config=None if wrapped else adapter)
