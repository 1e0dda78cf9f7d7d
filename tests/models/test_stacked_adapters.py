"""A task's adapter over a domain's: merged to equal logits, trained in two steps, killed and resumed."""

from __future__ import annotations

import peft
import pytest
import runs
import tiny
import torch
from adapter_cases import QV, base, logits, moved
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from hftransfer.models.adapters import merged_copy
from hftransfer.models.domain_adapters import (
    add_adapter,
    load_adapters,
    set_adapter,
)

KINDS = {
    "lora": lambda: LoraConfig(r=2, target_modules=QV),
    "rslora": lambda: LoraConfig(r=2, target_modules=QV, use_rslora=True),
    "dora": lambda: LoraConfig(r=2, target_modules=QV, use_dora=True),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=QV),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=QV),
    "ia3": lambda: peft.IA3Config(target_modules=QV, feedforward_modules=[]),
    "boft": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=QV),
    "vera": lambda: peft.VeraConfig(r=2, target_modules=QV),
    "hra": lambda: peft.HRAConfig(r=2, target_modules=QV),
    "fourierft": lambda: peft.FourierFTConfig(n_frequency=10, target_modules=QV),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_merges_to_a_plain_model_with_equal_logits(kind):
    model = moved(get_peft_model(base(), KINDS[kind](), adapter_name="domain"), 1)
    alone = logits(model)
    model = add_adapter(model, KINDS[kind](), "task")
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all(".task" in n for n in trainable)
    moved(model, 2)
    both = logits(model)
    assert (both - alone).abs().max() > 1e-6
    plain = merged_copy(model)
    assert type(plain) is BertForSequenceClassification
    torch.testing.assert_close(logits(plain), both, rtol=0, atol=1e-6)


def test_dora_over_lora_and_lora_over_dora():
    for below, above in (("dora", "lora"), ("lora", "dora")):
        model = moved(get_peft_model(base(), KINDS[below](), adapter_name="domain"), 1)
        moved(add_adapter(model, KINDS[above](), "task"), 2)
        torch.testing.assert_close(logits(merged_copy(model)), logits(model), rtol=0, atol=1e-6)


def test_the_task_starts_from_the_domains_head_and_owns_it():
    config = LoraConfig(r=2, target_modules=QV, modules_to_save=["classifier"])
    model = moved(get_peft_model(base(), config, adapter_name="domain"), 1)
    before = logits(model)
    add_adapter(model, LoraConfig(r=2), "task")
    assert torch.equal(logits(model), before)  # a new LoRA changes nothing yet
    assert model.peft_config["task"].target_modules == {"query", "value"}
    heads = {n for n, _ in model.named_parameters() if "modules_to_save" in n}
    assert heads == {f"base_model.model.classifier.modules_to_save.task.{n}" for n in ("weight", "bias")}


@pytest.fixture(scope="module")
def domain_run(tmp_path_factory):
    """UDApter's first step with the trainer: the divergence of every layer, and nothing else."""
    folder = tmp_path_factory.mktemp("udapter")
    base().save_pretrained(folder / "base")
    run = runs.trainer(
        folder / "domain",
        AutoModelForSequenceClassification.from_pretrained(folder / "base"),
        peft_config=LoraConfig(r=2, modules_to_save=[]),
        merge_adapter=False,
        objectives={
            f"mmd_{i}": {"kind": "mmd", "features": f"hidden:{i}", "weight": 1.0, "schedule": "constant"}
            for i in range(2)
        },
        task_weight=0.0,
        max_steps=3,
    )
    before = runs.copied(run.model.model)
    run.train()
    changed = runs.moved(run.model.model, before)
    inside = {n for n in changed if ".pooler." not in n}
    assert inside == {n for n in before if "lora_" in n and ".pooler." not in n}
    assert not any("lora_B" in n for n in changed - inside)  # after the layers nothing learns; weights only decay
    run.save_model(str(folder / "domain"))
    return folder


def second_step(folder, output):
    """The task on top: a trainer and its model."""
    plain = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    model = add_adapter(load_adapters(plain, {"domain": folder / "domain"}), LoraConfig(r=2), "task")
    return runs.trainer(output, model, objectives=None, max_steps=4, save_strategy="steps", save_steps=2)


def test_two_steps_with_the_trainer(domain_run, tmp_path):
    """The domain's adapter does not move under the task; both are saved, and the whole merges."""
    run = second_step(domain_run, tmp_path / "run")
    model = run.model.model
    before = runs.copied(model)
    run.train()
    changed = runs.moved(model, before)
    assert changed == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(".task." in n for n in changed)
    assert any("classifier" in n for n in changed)
    expected = logits(model)
    run.save_model(str(tmp_path / "saved"))
    run.save_model(str(tmp_path / "saved"))  # again, over what is there
    assert not list((tmp_path / "saved").glob("*/README.md"))
    again = load_adapters(str(domain_run / "base"), tmp_path / "saved", labels=tiny.LABELS)
    assert torch.equal(logits(set_adapter(again, "domain", "task")), expected)
    run.args.merge_adapter = True
    run.save_model(str(tmp_path / "plain"))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-6)


def test_a_stack_that_was_killed_and_resumed_equals_one_that_was_not(domain_run, tmp_path):
    run = second_step(domain_run, tmp_path / "run")
    run.train()
    expected = runs.copied(run.model.model)
    resumed = second_step(domain_run, tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-2"))
    assert resumed.model.model.active_adapters == ["domain", "task"]
    assert runs.moved(resumed.model.model, expected) == set()


def test_jointly_both_move():
    model = add_adapter(
        moved(get_peft_model(base(), KINDS["lora"]()), 1), KINDS["lora"](), "task", freeze_domain=False
    )
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert any(".default." in n for n in trainable)
    assert any(".task." in n for n in trainable)
