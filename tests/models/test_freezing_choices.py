"""Choices of what trains: those that cannot be, how they may be spelled, and what `auto` chooses."""

from __future__ import annotations

import families
import pytest
import runs
import tiny
import torch
from peft import LoraConfig, get_peft_model

from hftransfer import AdaptationConfig
from hftransfer.models.feature_hook import find_head
from hftransfer.models.freezing import choose_by_rows, set_trainable
from hftransfer.models.model_structure import layer_stack
from hftransfer.models.parameter_sets import parse_freeze, parse_trainable


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
