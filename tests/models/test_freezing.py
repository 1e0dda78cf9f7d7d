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
from policy_cases import FREEZE
from transformers import BertModel, ResNetConfig, ResNetForImageClassification

from hftransfer import load_model
from hftransfer.models.blocks import split
from hftransfer.models.feature_hook import find_head
from hftransfer.models.policy import apply_policy, choose, frozen_modules, norm_parameters, parse_policy
from hftransfer.models.structure import embeddings, head_modules, layers


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
        ("albert", "last_2", r"has 1 layer\."),
        ("bert", "first_3", r"freeze='first_3': BertForSequenceClassification has 2 layers\."),
        ("bert", {"first": 0}, r"freeze='first_0': BertForSequenceClassification has 2 layers\."),
        ("bert", "last_k", r"freeze='last_k' is not one of none, auto, head, last_<k>.* Did you mean 'last_2'\?"),
        ("bert", "heads", r"freeze='heads' is not one of .* Did you mean 'head'\?"),
        ("bert", "", r"freeze='' is not one of"),
        ("bert", [], r"freeze=\[\] is not one of"),
        ("bert", 3, r"freeze=3 is not one of"),
        ("bert", "all", r"freeze='all' leaves nothing to train; freeze='head' trains the head alone\."),
        ("bert", "{last: 2", r"freeze is neither JSON nor YAML: '{last: 2'"),
        ("bert", {"last": "two"}, r"last needs a number of layers, not 'two'\."),
        ("bert", {"lasts": 2}, r"freeze='lasts' is not one of"),
        ("bert", {"block": None}, r"block needs a name, not None\."),
        ("bert", ["none", "head"], r"'none' stands alone"),
        ("bert", ["head", "auto"], r"'auto' stands alone"),
        ("bert", "block:layer.2", r"freeze='block:layer.2': .* no such module\. Did you mean 'layer\.\d'\?"),
        ("bert", "block:enc.layer.1", r"no such module\. Did you mean 'encoder\.layer\.1'\?.*`print_policy\(model\)`"),
        ("bert", "block:2", r"freeze='block:2': .* has 2 layers, 0 to 1 \(or -1 for the last\)\."),
        ("bert", "block:-3", r"freeze='block:-3': .* has 2 layers"),
        (
            "bert",
            "block:dense",
            r"could be bert.encoder.layer.0.attention.output.dense, .* …\. Say more of its name\.",
        ),
        (
            "bert",
            "pattern:*.atention.*",
            r"freeze='pattern:\*.atention.\*' matches no parameter\. Did you mean 'attention'",
        ),
        ("bert", "regex:layer\\.9", r"matches no parameter\."),
        ("bert", "regex:layer[", r"freeze='regex:layer\[' is no regular expression: unterminated character set"),
        ("llama", "biases", r"freeze='biases': LlamaForSequenceClassification has no biases outside its head\."),
        ("bert", "auto", r"freeze='auto' counts labelled rows, and a stream says of none: name a policy\."),
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


# ---- the rest of the policies


@pytest.mark.parametrize("name", [name for name in FREEZE if name != "auto"])
def test_a_policy_says_and_does_the_same(name):
    model = tiny.bert()
    policy, moves = FREEZE[name]
    expected = {n for n, _ in model.named_parameters() if moves(n)}
    found = apply_policy(model, policy, find_head(model, families.batch()))
    assert found.trainable == expected
    assert {n for n, p in model.named_parameters() if p.requires_grad} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_one_block(family):
    model, parts = families.build(family), PARTS[family]
    blocks = split(model, find_head(model, families.batch()))
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
    """Policies by depth, norms and biases need no table of architectures."""
    model = families.build_vision(family)
    head = find_head(model, families.images())
    blocks, (stack, stages) = split(model, head), layers(model)
    names = {name for name, _ in model.named_parameters()}
    assert sorted(n for block in blocks for n in block.parameters) == sorted(names)
    assert [block.name for block in blocks if block.head] == ["classifier"]
    assert [b.name for b in blocks if 1 <= b.depth <= len(stages)] == [f"{stack}.{i}" for i in range(len(stages))]

    last, first = (apply_policy(model, f"{end}_1", head).trainable for end in ("last", "first"))
    assert under(model, f"{stack}.{len(stages) - 1}", "classifier") <= last
    assert not last & under(model, *(f"{stack}.{i}" for i in range(len(stages) - 1)), *embeddings(model))
    assert first == names - {n for b in blocks if b.depth >= len(stages) for n in b.parameters}
    types = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    norms = {f"{n}.{p}" for n, m in model.named_modules() if isinstance(m, types) for p, _ in m.named_parameters()}
    assert apply_policy(model, "norms", head).trainable == norms | under(model, "classifier")
    biases = {name for name in names if name.endswith(".bias")}
    assert apply_policy(model, "biases", head).trainable == biases | under(model, "classifier")


def test_blocks_of_an_adapted_model():
    """A LoRA's parameters are in the block that they adapt, and the copied head is the head."""
    adapter = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    model = get_peft_model(tiny.bert(), adapter)
    blocks = {block.name: block for block in split(model, find_head(model, families.batch()))}
    assert sum(len(block.parameters) for block in blocks.values()) == len(list(model.parameters()))
    assert any("lora_A" in name for name in blocks["bert.encoder.layer.1"].parameters)
    assert all("classifier" in name for name in blocks["classifier"].parameters)
    assert [name for name, block in blocks.items() if block.head] == ["classifier"]


def test_a_tensor_with_two_names_is_not_torn():
    """One of its names should move and one should not: it stays, and the report says so."""
    model = tiny.bert()
    model.bert.encoder.layer[1].output.dense.bias = model.bert.encoder.layer[0].output.dense.bias
    found = apply_policy(model, "last_1", find_head(model, families.batch()))
    assert not model.bert.encoder.layer[1].output.dense.bias.requires_grad
    assert not any(name.endswith("output.dense.bias") and ".attention." not in name for name in found.trainable)
    assert "bert.encoder.layer.1.output.dense.bias and bert.encoder.layer.0.output.dense.bias are one tensor" in str(
        found.notes
    )


def test_a_head_that_stays_is_said():
    model = tiny.bert()
    head = find_head(model, families.batch())
    assert "The head stays as it is" in apply_policy(model, "block:0", head).notes[0]
    assert not apply_policy(model, ["head", "block:0"], head).notes


@pytest.mark.parametrize(
    ("rows", "policy", "why"),
    [
        (1, "head", "fewer than 1, so only the head"),
        (2, "last_2", "fewer than 10, so the head and the upper half"),
        (14, "last_2", "fewer than 10"),
        (15, "none", "at least 10"),
    ],
)
def test_auto_goes_by_rows_for_a_million_parameters(rows, policy, why):
    """Three layers of 0.5 million parameters each: 1.5 rows and 15 rows are the bounds."""
    model = torch.nn.Sequential()
    model.embeddings = torch.nn.Embedding(10_000, 100)  # does not count
    model.stack = torch.nn.ModuleList([torch.nn.Linear(1000, 500, bias=False) for _ in range(3)])
    chosen, reason = choose(model, rows)
    assert str(chosen) == policy
    assert why in reason
    assert reason.startswith(f"{rows} labelled rows for 1.5 million parameters")


def test_auto_is_named_with_what_it_chose():
    model = tiny.bert()
    found = apply_policy(model, "auto", find_head(model, families.batch()), labelled_rows=10)
    assert found.policy == "auto: none"
    assert "10 labelled rows" in found.notes[0]
    assert found.trainable == set(dict(model.named_parameters()))


@pytest.mark.parametrize("value", ["last_2", {"last": 2}, '{"last": 2}', "{last: 2}", ["last_2"], '["last_2"]'])
def test_a_policy_has_several_spellings(value):
    assert [str(term) for term in parse_policy(value)] == ["last_2"]


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
    apply_policy(model, "head", head)
    assert frozen_modules(model) == [model.bert]  # the dropout before the head has no parameters and is not frozen
    apply_policy(model, "last_1", head)
    assert frozen_modules(model) == [model.bert.embeddings, model.bert.encoder.layer[0]]
    model.requires_grad_(False)
    assert frozen_modules(model) == [model]
