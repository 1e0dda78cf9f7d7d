"""Gradual unfreezing and LP-FT in training: what joins, when, and with which moments; phases that cannot be."""

from __future__ import annotations

import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from policy_cases import under
from transformers import Trainer, TrainerCallback, TrainingArguments

from hftransfer import AdaptationTrainer


class Watch(TrainerCallback):
    """Which parameters changed in each update, and which had a gradient."""

    def __init__(self):
        self.moved, self.had_gradient, self.before = [], [], {}

    def on_step_begin(self, args, state, control, model, **kwargs):
        self.before = runs.copied(model)

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.had_gradient.append({name for name, p in model.named_parameters() if p.grad is not None})

    def on_step_end(self, args, state, control, model, **kwargs):
        self.moved.append(runs.moved(model, self.before))


def watched(tmp_path, **settings):
    watch = Watch()
    run = runs.trainer(
        tmp_path,
        objectives=None,
        per_device_train_batch_size=8,
        lr_scheduler_type="constant",
        callbacks=[watch],
        **settings,
    )
    run.train()
    return run, [{name.removeprefix("model.") for name in moved} for moved in watch.moved], watch


def test_layers_join_from_the_top(tmp_path):
    model = tiny.bert()
    names = [name for name, _ in model.named_parameters()]
    _, moved, watch = watched(tmp_path, model=model, unfreeze={"by": "step", "every": 2}, max_steps=7)
    head = {n for n in names if under("classifier")(n)}
    top = head | {n for n in names if under("bert.pooler", "bert.encoder.layer.1")(n)}
    both = top | {n for n in names if under("bert.encoder.layer.0")(n)}
    assert moved == [head, head, top, top, both, both, set(names)]
    assert [{n.removeprefix("model.") for n in had} for had in watch.had_gradient] == moved


def test_epochs_are_counted_in_updates(tmp_path):
    """24 rows in batches of 8 are three updates an epoch; half an epoch is rounded to two."""
    run, moved, _ = watched(tmp_path, unfreeze={"by": "epoch", "every": 1}, num_train_epochs=4, max_steps=-1)
    sizes = [len(names) for names in moved]
    assert len(sizes) == 12
    assert [sizes[i] for i in range(0, 12, 3)] == sorted(set(sizes)) == [sizes[i] for i in range(2, 12, 3)]
    assert sizes[-1] == len(list(run.model.named_parameters()))
    run, moved, _ = watched(tmp_path / "half", lp_epochs=0.5, num_train_epochs=1, max_steps=-1)
    assert [len(names) for names in moved] == [2, 2, sizes[-1]]


def test_a_run_too_short_for_all_layers_says_so(tmp_path, caplog):
    watched(tmp_path, unfreeze={"by": "step", "every": 2}, max_steps=3)
    assert "ends after 3 updates, before bert.encoder.layer.0, the rest would train" in caplog.text


def test_moments_start_when_a_parameter_does(tmp_path):
    """AdamW's first step after unfreezing is its first step: as long as the rate, whatever came before."""
    model = tiny.bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    before = model.bert.encoder.layer[1].output.dense.weight.detach().clone()
    run, _, _ = watched(tmp_path, model=model, unfreeze={"by": "step", "every": 4}, max_steps=5, weight_decay=0.0)
    step = (model.bert.encoder.layer[1].output.dense.weight.detach() - before).abs()
    assert (step > 0.9e-2).float().mean() > 0.9  # |m̂| / √v̂ = 1 in the first step
    assert step.max() < 1.01e-2
    state = run.optimizer.state[model.bert.encoder.layer[1].output.dense.weight]
    assert state["step"] == 1
    assert run.optimizer.state[model.classifier.weight]["step"] == 5


def test_the_head_goes_on_as_it_was(tmp_path):
    """LP-FT: the first stage is a run with a frozen backbone, bit for bit, and the head's moments are kept."""
    settings = {"objectives": None, "per_device_train_batch_size": 8, "lr_scheduler_type": "constant"}
    probe = runs.trainer(tmp_path / "probe", trainable="head", max_steps=3, **settings)
    probe.train()
    run, _, _ = watched(tmp_path / "lp", lp_epochs=1, max_steps=4)
    losses = runs.logged(run, "task_loss")
    assert losses[:3] == runs.logged(probe, "task_loss")
    assert run.optimizer.state[run.model.model.classifier.weight]["step"] == 4
    assert runs.logged(run, "backbone_learning_rate") == [0.0, 0.0, 0.0, 0.01]
    assert runs.logged(run, "head_learning_rate") == [0.01] * 4


def test_unfreezing_goes_through_an_adapter(tmp_path):
    run, moved, _ = watched(tmp_path, peft_config=LoraConfig(r=2), unfreeze={"by": "step", "every": 1}, max_steps=3)
    assert all("classifier" in name for name in moved[0])
    assert all("classifier" in n or ".layer.1." in n or "pooler" in n for n in moved[1])
    assert any(".layer.0." in name for name in moved[2])
    assert str(run.phases) == "the head first, then every 1 step bert.encoder.layer.1, bert.encoder.layer.0"


class Thaw(TrainerCallback):
    """What everybody writes first: `requires_grad` is switched on after two updates."""

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == 2:
            model.requires_grad_(True)


def test_the_stock_trainer_never_trains_what_was_frozen_at_first(tmp_path):
    """Its optimizer holds what moved when it was made; ours holds all that ever will."""
    rows = [{"input_ids": [2, 5 + i, 3], "attention_mask": [1, 1, 1], "labels": i % 3} for i in range(24)]
    model = tiny.bert()
    model.bert.requires_grad_(False)
    before = runs.copied(model)
    args = TrainingArguments(
        str(tmp_path / "stock"), max_steps=4, use_cpu=True, report_to=[], save_strategy="no", learning_rate=1e-2
    )
    Trainer(model, args, train_dataset=rows, callbacks=[Thaw()]).train()
    assert all(p.requires_grad for p in model.parameters())
    stock = runs.moved(model, before)

    model = tiny.bert()
    before = runs.copied(model)
    runs.trainer(tmp_path / "ours", model, lp_epochs=0.5, max_steps=6, per_device_train_batch_size=8).train()
    assert stock == {name for name in before if under("classifier")(name)}
    assert runs.moved(model, before) == set(before)


def test_an_optimizer_that_lacks_what_moves_later_is_refused(tmp_path):
    model = tiny.bert()
    head = torch.optim.SGD(model.classifier.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"lacks .* that are to train: 'bert\.embeddings"):
        runs.trainer(tmp_path, model, unfreeze={"by": "step", "every": 1}, optimizers=(head, None))
    everything = torch.optim.SGD(model.parameters(), lr=0.1)
    runs.trainer(tmp_path / "b", model, unfreeze={"by": "step", "every": 1}, optimizers=(everything, None)).train()


# ---- what cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unfreeze": "epoch"}, r"unfreeze must be a map such as .*, not 'epoch'"),
        ({"unfreeze": "{by: epoch"}, r"unfreeze is neither JSON nor YAML"),
        ({"unfreeze": {"by": "epochs"}}, r"by='epochs' must be 'epoch' or 'step'\. Did you mean 'epoch'\?"),
        ({"unfreeze": {"evry": 1}}, r"unfreeze has no 'evry'; it has by and every\. Did you mean 'every'\?"),
        ({"unfreeze": {"every": 0}}, r"every=0 must be a number above 0"),
        ({"unfreeze": {"by": "step", "every": 1.5}}, r"every=1.5 must be a whole number above 0"),
        ({"lp_epochs": -1}, r"lp_epochs=-1 must be at least 0"),
        ({"lp_epochs": 3, "max_steps": -1}, r"lp_epochs=3 leaves none of the 3 epochs .* use trainable='head'"),
        ({"lp_epochs": 1, "unfreeze": {"by": "epoch"}}, r"unfreeze starts with the head alone, so lp_epochs"),
        ({"lp_epochs": 1, "trainable": "block:0"}, r"lp_epochs starts with the head, which trainable='block:0' keeps"),
        (
            {"lp_epochs": 1, "freeze": "block:classifier"},
            r"the head, which freeze='block:classifier' keeps as it is: add",
        ),
        (
            {"unfreeze": {"by": "step"}, "trainable": "head"},
            r"unfreeze: nothing but the head trains with trainable='head'",
        ),
    ],
)
def test_phases_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_probing_that_never_ends_is_refused(tmp_path):
    run = runs.trainer(tmp_path, lp_epochs=1, per_device_train_batch_size=8, max_steps=3)
    with pytest.raises(ValueError, match=r"ends after 3 updates, before everything would train: lower lp_epochs=1"):
        run.train()


def test_a_stream_has_no_epochs(tmp_path):
    stream = tiny.domain().to_iterable_dataset()
    with pytest.raises(ValueError, match=r"unfreeze counts epochs, and a stream has none: use unfreeze="):
        runs.trainer(tmp_path, train_dataset=stream, unfreeze={"by": "epoch", "every": 1})
    with pytest.raises(ValueError, match=r"trainable='auto' counts labelled rows"):
        runs.trainer(tmp_path, train_dataset=stream, trainable="auto")
    run = runs.trainer(tmp_path, train_dataset=stream, unfreeze={"by": "step", "every": 1}, objectives=None)
    run.train()
    assert isinstance(run, AdaptationTrainer)
    assert run.state.global_step == 2


def test_albert_has_one_layer_to_go_through(tmp_path):
    import families

    model = families.build("albert")
    with pytest.raises(ValueError, match=r"AlbertForSequenceClassification has 1 layer \(ALBERT shares one"):
        runs.trainer(tmp_path, model, unfreeze={"by": "step"}, processing_class=families.tokenizer())
    before = runs.copied(model)
    runs.trainer(
        tmp_path,
        model,
        lp_epochs=0.5,
        max_steps=5,
        per_device_train_batch_size=8,
        processing_class=families.tokenizer(),
    ).train()
    assert runs.moved(model, before) == set(before)
