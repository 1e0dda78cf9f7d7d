"""What is passed is what runs: optimizers, frozen models, adapters, collators and losses of the user's own."""

from __future__ import annotations

import pytest
import runs
import tiny
import torch
from bad_training import CASES, trainer, without
from peft import LoraConfig
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from hftransfer import AdaptationTrainer


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_the_trainer_says_what_would_not_run(tmp_path, given, error, culprit, remedy):
    with pytest.raises(error) as found:
        trainer(tmp_path / "run", **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("peft", [False, True])
def test_a_class_of_optimizer_is_given_everything_that_moves(tmp_path, peft):
    """The discriminator's parameters and the adapter's, at the rates that the config sets for each."""
    run = trainer(
        tmp_path,
        config={"objectives": {"dann": 0.1}, "layer_decay": 0.5},
        optimizer_cls_and_kwargs=(SGD, {"lr": 0.1}),
        peft_config=LoraConfig(r=2) if peft else None,
    )
    before = runs.copied(run.model)
    moving = {name for name, p in run.model.named_parameters() if p.requires_grad}
    run.train()
    changed = runs.moved(run.model, before)
    assert any("objectives." in name for name in changed)
    assert changed <= moving
    assert {name for name in moving if "lora_A" not in name} <= changed
    rates = {group["part"]: group["initial_lr"] for group in run.optimizer.param_groups}
    assert rates["head"] == 0.1
    assert rates["objectives"] == 1.0


def test_an_optimizer_of_the_whole_model_runs_as_it_is(tmp_path):
    """Frozen parameters may be in it, and so may parameters that are no part of the model."""
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    optimizer = SGD([*model.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = LambdaLR(optimizer, lambda step: 0.5**step)
    before = runs.copied(model)
    run = trainer(tmp_path, model=model, optimizers=(optimizer, schedule))
    run.train()
    assert runs.moved(model, before) == {name for name in before if "embeddings" not in name}
    assert runs.logged(run, "learning_rate") == [0.5, 0.25]


def test_an_optimizer_that_is_set_later_is_looked_at_before_the_first_step(tmp_path):
    run = trainer(tmp_path, config={"objectives": {"dann": 0.1}})
    run.optimizer = AdamW(run.model.model.parameters(), lr=1e-2)
    before = runs.copied(run.model)
    with pytest.raises(ValueError, match=r"lacks .* 'objectives\.by_name\.dann"):
        run.train()
    assert runs.moved(run.model, before) == set()
    run.optimizer = AdamW(run.model.parameters(), lr=1e-2)
    run.train()
    assert any("objectives." in name for name in runs.moved(run.model, before))


def test_an_optimizer_that_a_subclass_makes_is_looked_at(tmp_path):
    class Own(AdaptationTrainer):
        def create_optimizer(self, model=None):
            self.optimizer = AdamW(self.model.model.classifier.parameters(), lr=1e-2)
            return self.optimizer

    with pytest.raises(ValueError, match=r"lacks .* 'bert\.embeddings"):
        trainer(tmp_path, cls=Own).train()


def test_a_whole_collator_runs(tmp_path):
    run = trainer(tmp_path, data_collator=without())
    run.train()
    assert run.state.global_step == 2


def test_a_collator_that_is_set_later_is_looked_at(tmp_path):
    run = trainer(tmp_path)
    run.data_collator = without("domain")
    with pytest.raises(ValueError, match="leaves 'domain' out of training batches"):
        run.train()


@pytest.mark.parametrize("name", ["labels", "domain", "num_source"])
def test_a_loss_that_takes_something_out_of_the_batch_is_named(tmp_path, name):
    class Own(AdaptationTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            inputs.pop(name)
            return super().compute_loss(model, inputs, *args, **kwargs)

    with pytest.raises(
        ValueError, match=rf"Own\.compute_loss took '{name}' out of the batch.*instead of `inputs.pop`"
    ):
        trainer(tmp_path, cls=Own).train()


def test_a_loss_that_calls_the_model_without_labels_is_named(tmp_path):
    class Own(AdaptationTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            labels = inputs.pop("labels")
            return torch.nn.functional.cross_entropy(model(**inputs).logits, labels)

    with pytest.raises(ValueError, match=r"without labels\. If a `compute_loss` of yours takes them out"):
        trainer(tmp_path, cls=Own).train()


def test_a_loss_of_ones_own_in_evaluation_is_named(tmp_path):
    class Own(AdaptationTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            inputs.pop("labels")
            return super().compute_loss(model, inputs, *args, **kwargs)

    with pytest.raises(ValueError, match=r"Own\.compute_loss took 'labels'"):
        trainer(tmp_path, cls=Own, eval_dataset=tiny.domain(6, seed=2)).evaluate()
