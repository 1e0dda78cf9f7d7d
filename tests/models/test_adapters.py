"""LoRA by structure: what is adapted, what is saved with it, and that saved, reloaded and merged models agree."""

from __future__ import annotations

import families
import pytest
import runs
import tiny
import torch
from families import FAMILIES, SEQUENCE, TOKEN
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from torch import nn

from hftransfer.models.adapters import attach_adapter, complete_peft_config, merged_copy
from hftransfer.models.feature_hook import Head, find_head
from hftransfer.models.pretrained import load_model

# {family: (stack, linears of a layer, linears elsewhere in the backbone, head of a sequence model)}
ROBERTA = ("roberta.encoder.layer", 6, [], ["classifier"])
STRUCTURE = {
    "bert": ("bert.encoder.layer", 6, ["bert.pooler.dense"], ["classifier"]),
    "albert": (
        "albert.encoder.albert_layer_groups",
        6,
        ["albert.encoder.embedding_hidden_mapping_in", "albert.pooler"],
        ["classifier"],
    ),
    "distilbert": ("distilbert.transformer.layer", 6, [], ["pre_classifier", "classifier"]),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": ("electra.encoder.layer", 6, ["electra.embeddings_project"], ["classifier"]),
    "mpnet": ("mpnet.encoder.layer", 6, [], ["classifier"]),
    "deberta-v2": ("deberta.encoder.layer", 6, [], ["pooler", "classifier"]),
    "modernbert": ("model.layers", 4, [], ["head", "classifier"]),
    "llama": ("model.layers", 7, [], ["score"]),
}
POOLS = ("bert.pooler.dense", "albert.pooler")  # gone in taggers, as are these families' heads' first linears:
TAGGING_HEADS = {"distilbert": ["classifier"], "deberta-v2": ["classifier"]}


def logits(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
@pytest.mark.parametrize("family", FAMILIES)
def test_open_fields_are_read_off_the_structure(family, task, targets):
    stack, each, elsewhere, saved = STRUCTURE[family]
    if task == TOKEN:
        elsewhere = [name for name in elsewhere if name not in POOLS]
        saved = TAGGING_HEADS.get(family, saved)
    model = families.build(family, task)
    given = LoraConfig(r=2, target_modules=targets)
    config = complete_peft_config(model, given, find_head(model, families.batch()))
    inside = {name for name in config.target_modules if name.startswith(f"{stack}.")}
    assert len(inside) == each * len(model.get_submodule(stack))
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in config.target_modules)
    assert sorted(set(config.target_modules) - inside) == sorted(elsewhere)
    assert config.modules_to_save == saved
    assert (given.target_modules, given.modules_to_save) == (targets, None)  # the user's own is left as it was


def test_what_the_user_says_stays():
    model = families.build("bert")
    given = LoraConfig(r=2, target_modules=["query"], modules_to_save=["pooler"])
    config = complete_peft_config(model, given, find_head(model, families.batch()))
    assert (config.target_modules, config.modules_to_save) == ({"query"}, ["pooler"])


def test_norm_tuning_is_given_the_norms():
    model = families.build("bert")
    config = complete_peft_config(model, LNTuningConfig(), find_head(model, families.batch()))
    assert set(config.target_modules) == {n for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    assert config.modules_to_save == ["classifier"]


def test_a_model_without_linears_to_adapt_says_so():
    class Elementwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages, self.classifier = nn.ModuleList([nn.PReLU(2)]), nn.Linear(2, 2)

    with pytest.raises(ValueError, match="Elementwise has no linear layers and no convolutions outside its head"):
        complete_peft_config(Elementwise(), LoraConfig(), Head("classifier", 2))


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_adapter_is_the_same_reloaded_and_merged(family, task_type, tmp_path):
    """The adapter and the head move, all of them, and nothing else does; whatever head the base came with, what was
    saved decides."""
    base = families.build(family)
    run = runs.trainer(
        tmp_path / "run",
        base,
        peft_config=LoraConfig(r=2, task_type=task_type),
        merge_adapter=False,
        processing_class=families.tokenizer(),
        max_steps=3,
    )
    model = run.model.model
    before, saved = runs.copied(model), STRUCTURE[family][3]
    own = tuple(f"base_model.model.{name}.modules_to_save." for name in saved)
    expected = {name for name in before if ".lora_" in name or name.startswith(own)}
    assert run.trainable.names == expected
    assert {name.split(".")[2] for name in expected if name.startswith(own)} == set(saved)
    run.train()
    assert runs.moved(model, before) == expected

    batch = families.batch()
    trained = logits(model, batch)
    run.save_model(str(tmp_path / "saved"))
    fresh = families.build(family)
    for name in saved:
        for parameter in fresh.get_submodule(name).parameters():
            nn.init.normal_(parameter)
    assert not torch.allclose(logits(fresh, batch), trained, atol=1e-3)
    reloaded = PeftModel.from_pretrained(fresh, tmp_path / "saved")
    assert torch.equal(logits(reloaded, batch), trained)

    plain = merged_copy(model)
    assert type(plain) is type(base)
    torch.testing.assert_close(logits(plain, batch), trained, rtol=0, atol=1e-6)
    assert torch.equal(logits(model, batch), trained)  # merging leaves the adapted model as it is


@pytest.mark.parametrize("task", [SEQUENCE, TOKEN])
def test_distilberts_pre_classifier_is_trained_in_full_not_wrapped_twice(task):
    """Its name ends with the head's: the suffix rule of `all-linear` would adapt and copy it at once, and fail."""
    model = families.build("distilbert", task)
    wrapped = attach_adapter(model, LoraConfig(r=2, target_modules="all-linear"), find_head(model, families.batch()))
    inner = wrapped.get_base_model()
    assert isinstance(inner.classifier.modules_to_save["default"], nn.Linear)
    if task == SEQUENCE:
        assert isinstance(inner.pre_classifier.modules_to_save["default"], nn.Linear)
    assert not any(".lora_" in name for name, _ in inner.named_parameters() if "classifier" in name)


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
def test_a_model_that_comes_wrapped_is_trained_as_it_is(task_type, tmp_path):
    config = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type=task_type)
    model = get_peft_model(tiny.bert(), config)
    before = runs.copied(model)
    run = runs.trainer(tmp_path, model, max_steps=3)
    assert run.trainable.names == {name for name in before if ".lora_" in name or "modules_to_save" in name}
    run.train()
    assert runs.moved(model, before) == run.trainable.names
    with pytest.raises(ValueError, match="PEFT-wrapped already"):
        runs.trainer(tmp_path, model, peft_config=config)


@pytest.mark.parametrize("targets", [None, ["query"], ["dense"]])
def test_a_pooler_that_the_checkpoint_lacks_is_saved_with_the_adapter(targets, tmp_path):
    """Continued masked-language training leaves no pooler: it is drawn at loading, another one at each loading."""
    tiny.bert(tagging=True).save_pretrained(tmp_path / "base")

    def base():
        return load_model(str(tmp_path / "base"), SEQUENCE, tiny.LABELS)

    batch = tiny.tokenizer()(["w1 w2"], return_tensors="pt")
    torch.manual_seed(0)
    model = base()
    wrapped = attach_adapter(model, LoraConfig(r=2, target_modules=targets), find_head(model, batch))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    wrapped.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(1)
    reloaded = PeftModel.from_pretrained(base(), tmp_path / "adapter")
    assert torch.equal(logits(reloaded, batch), logits(wrapped, batch))
