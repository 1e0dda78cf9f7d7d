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

from hftransfer import AdaptationConfig, load_model
from hftransfer.models.feature_hook import find_head
from hftransfer.models.freezing import choose_by_rows, frozen_modules, set_trainable
from hftransfer.models.model_structure import embedding_modules, head_modules, layer_stack
from hftransfer.models.parameter_blocks import split_into_blocks
from hftransfer.models.parameter_sets import norm_parameters, parse_freeze, parse_trainable


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


def trains(value, message, family="bert"):
    return family, {"trainable": value}, message


def freezes(value, message, family="bert"):
    return family, {"freeze": value}, message


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        trains("last_3", r"trainable='last_3': BertForSequenceClassification has 2 layers\."),
        trains("last_0", r"trainable='last_0': BertForSequenceClassification has 2 layers\."),
        trains("last_2", r"AlbertForSequenceClassification has 1 layer\.", family="albert"),
        freezes("first_3", r"freeze='first_3': BertForSequenceClassification has 2 layers\."),
        freezes({"first": 0}, r"freeze='first_0': BertForSequenceClassification has 2 layers\."),
        trains("last_k", r"trainable='last_k' is not one of all, auto, head, .*last_<k>.* Did you mean 'last_2'\?"),
        trains("heads", r"trainable='heads' is not one of .* Did you mean 'head'\?"),
        freezes("embedding", r"freeze='embedding' is not one of embeddings, classifier, first_<k>, .*'embeddings'\?"),
        trains("", r"trainable='' is not one of"),
        trains([], r"trainable=\[\] is not one of"),
        trains(3, r"trainable=3 is not one of"),
        freezes([], r"freeze=\[\] is not one of"),
        trains("none", r"trainable='none' leaves nothing to train; trainable='head' trains the head alone\."),
        freezes("all", r"freeze='all' leaves nothing to train; trainable='head' trains the head alone\."),
        trains("embeddings", r"trainable='embeddings' is not .* freeze='embeddings' keeps them as they are"),
        trains("first_2", r"trainable='first_2' is not .* freeze='first_2' keeps them as they are"),
        trains("{last: 2", r"trainable is neither JSON nor YAML: '{last: 2'"),
        freezes("{first: 2", r"freeze is neither JSON nor YAML: '{first: 2'"),
        trains({"last": "two"}, r"last needs a number of layers, not 'two'\."),
        trains({"lasts": 2}, r"trainable='lasts' is not one of"),
        freezes({"block": None}, r"freeze=.*block needs a name, not None\."),
        trains(["all", "head"], r"'all' stands alone"),
        trains(["head", "auto"], r"'auto' stands alone"),
        trains("block:layer.2", r"trainable='block:layer.2': .* no such module\. Did you mean 'layer\.\d'\?"),
        freezes(
            "block:enc.layer.1",
            r"freeze='block:enc.layer.1': .* no such module\. Did you mean 'encoder\.layer\.1'\?.*`print_policy",
        ),
        freezes("block:2", r"freeze='block:2': .* has 2 layers, 0 to 1 \(or -1 for the last\)\."),
        trains("block:-3", r"trainable='block:-3': .* has 2 layers"),
        trains("block:dense", r"could be bert.encoder.layer.0.attention.output.dense, .* …\. Say more of its name\."),
        freezes("pattern:*.atention.*", r"freeze='pattern:\*.atention.\*' matches no parameter\. Did you mean 'att"),
        trains("regex:layer\\.9", r"trainable='regex:.*' matches no parameter\."),
        trains("regex:layer[", r"trainable='regex:layer\[' is no regular expression: unterminated character set"),
        trains("biases", r"trainable='biases': Llama.* has no biases outside its head\.", family="llama"),
        trains("auto", r"trainable='auto' counts labelled rows, and a stream says of none: name what trains\."),
        (
            "bert",
            {"trainable": "head", "freeze": "block:classifier"},
            r"trainable='head' and freeze='block:classifier' leave nothing to train\.",
        ),
        freezes("regex:.", r"trainable='all' and freeze='regex:\.' leave nothing to train\."),
    ],
)
def test_choices_that_cannot_be(family, settings, message):
    model = families.build(family)
    with pytest.raises(ValueError, match=message):
        set_trainable(model, find_head(model, families.batch()), **settings)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none", r"freeze='none': what trains is said by trainable, which is 'all' by default\. Leave freeze out\."),
        *((v, rf"freeze='{v}': .* Write trainable='{v}'\.") for v in ("head", "last_2", "norms", "biases", "auto")),
        ({"last": 2}, r"Write trainable=\{'last': 2\}\."),
        ('{"last": 2}', r"Write trainable=\{'last': 2\}\."),
        (["head", "block:0"], r"Write trainable=\['head', 'block:0'\]\."),
        (["head", "first_2"], r"Write what is to train in trainable, and leave the rest of the list in freeze\."),
    ],
)
def test_what_freeze_used_to_say_is_refused_with_the_new_spelling(value, message):
    with pytest.raises(ValueError, match=message):
        AdaptationConfig(output_dir="unused", use_cpu=True, freeze=value)


def test_the_same_thing_in_both_settings_names_both(tmp_path):
    with pytest.raises(ValueError, match=r"freeze='head': .* Write trainable='head'\."):
        runs.trainer(tmp_path, trainable="head", freeze="head")
    with pytest.raises(ValueError, match=r"trainable='head' and freeze='block:classifier' leave nothing to train"):
        runs.trainer(tmp_path, trainable="head", freeze="block:classifier")


def test_a_model_without_layers_or_embeddings_says_so():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Sequential has no stack of layers"):
        layer_stack(model)
    model.stack = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="freeze='embeddings': Sequential has no embeddings"):
        set_trainable(model, None, freeze="embeddings")


@pytest.mark.parametrize("wrapped", [False, True])
def test_freezing_and_an_adapter_are_not_mixed(wrapped, tmp_path):
    """An adapter freezes on its own; settings on top would thaw or freeze the wrong half."""
    adapter = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    model = get_peft_model(tiny.bert(), adapter) if wrapped else tiny.bert()
    peft_config = None if wrapped else adapter
    with pytest.raises(ValueError, match="The adapter decides what trains: leave out trainable='head'"):
        runs.trainer(tmp_path, model, trainable="head", peft_config=peft_config)
    with pytest.raises(ValueError, match="The adapter decides what trains: leave out freeze='embeddings'"):
        runs.trainer(tmp_path, model, freeze="embeddings", peft_config=peft_config)


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


@pytest.mark.parametrize(
    ("rows", "trainable", "why"),
    [
        (1, "head", "fewer than 1, so only the head"),
        (2, "last_2", "fewer than 10, so the head and the upper half"),
        (14, "last_2", "fewer than 10"),
        (15, "all", "at least 10"),
    ],
)
def test_auto_goes_by_rows_for_a_million_parameters(rows, trainable, why):
    """Three layers of 0.5 million parameters each: 1.5 rows and 15 rows are the bounds."""
    model = torch.nn.Sequential()
    model.embeddings = torch.nn.Embedding(10_000, 100)  # does not count
    model.stack = torch.nn.ModuleList([torch.nn.Linear(1000, 500, bias=False) for _ in range(3)])
    chosen, reason = choose_by_rows(model, rows)
    assert str(chosen) == trainable
    assert why in reason
    assert reason.startswith(f"{rows} labelled rows for 1.5 million parameters")


def test_auto_is_named_with_what_it_chose():
    model = tiny.bert()
    report = set_trainable(model, find_head(model, families.batch()), "auto", labelled_rows=10)
    assert report.choice == "auto: all"
    assert "10 labelled rows" in report.notes[0]
    assert report.names == set(dict(model.named_parameters()))


@pytest.mark.parametrize("value", ["last_2", {"last": 2}, '{"last": 2}', "{last: 2}", ["last_2"], '["last_2"]'])
def test_a_choice_has_several_spellings(value):
    assert [str(item) for item in parse_trainable(value)] == ["last_2"]


@pytest.mark.parametrize("value", ["first_2", {"first": 2}, '{"first": 2}', "{first: 2}", ["first_2"], '["first_2"]'])
def test_frozen_layers_have_several_spellings(value):
    assert [str(item) for item in parse_freeze(value)] == ["first_2"]
    assert parse_freeze(None) == ()


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
