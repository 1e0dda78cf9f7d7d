"""Runs that are anchored: every objective, every way to run, what is learned before, how such runs go on."""

from __future__ import annotations

import copy

import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from anchoring_runs import KINDS, MANY, STILL, alone
from datasets import Dataset
from peft import LoraConfig

from hftransfer.objectives.anchoring.co_tuning import direct_relation


@pytest.mark.parametrize(
    ("kind", "peft"),
    [
        *((kind, False) for kind in KINDS),
        *((kind, True) for kind in ("l2_sp", "distill_attention", "delta_attention")),
    ],
)
def test_labelled_rows_are_enough(kind, peft, tmp_path):
    """No target: plain fine-tuning, anchored."""
    settings = {"peft_config": LoraConfig(r=4)} if peft else {}
    run = alone(tmp_path, objectives=KINDS[kind], max_steps=2, **settings)
    run.train()
    (name,) = KINDS[kind]
    values = runs.logged(run, f"{name}_loss")
    assert len(values) == 2
    assert np.isfinite(values).all()
    assert values[-1] > 0


@pytest.mark.parametrize("kind", ["l2_sp", "distill_features", "delta_attention", "rkd", "co_tuning", "bi_tuning"])
def test_words_and_a_target(kind, tmp_path):
    model = tiny.bert(tiny.TAGS, tagging=True)
    target = tiny.tagged(seed=1, labelled=False)
    run = alone(tmp_path, model, tiny.tagged(), target, objectives=KINDS[kind], max_steps=2)
    run.train()
    assert len(runs.logged(run, "loss")) == 2


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_images(mode, tmp_path):
    """Maps of a convolutional network; batch norm in the teacher has the start's statistics throughout."""
    objectives = {**MANY, "bss": 0.001, "nt_xent": 0.03, "distill_features": {"features": "hidden:0"}}
    model = pictures.resnet()
    before = {k: v.clone() for k, v in model.named_buffers()}
    run = runs.trainer(
        tmp_path,
        model,
        train_dataset=pictures.pictures(),
        target_dataset=pictures.pictures(seed=1, labelled=False, dark=True),
        processing_class=pictures.processor(),
        objectives=objectives,
        batch_norm=mode,
        augment="weak",
        max_steps=3,
    )
    run.train()
    for name in objectives:
        assert runs.logged(run, f"{name}_loss")[-1] > 0
    buffers = dict(run.model.teachers.all[0].model.named_buffers())
    assert all(torch.equal(buffers[k], v) for k, v in before.items())
    assert any(not torch.equal(dict(model.named_buffers())[k], v) for k, v in before.items())


@pytest.mark.parametrize("more", [{"unfreeze": {"by": "step", "every": 1}}, {"stream": True}])
def test_other_ways_to_run(more, tmp_path):
    """Layers thawed one by one; streams."""
    train, target = tiny.domain(), tiny.domain(seed=1, labelled=False)
    if more == {"stream": True}:
        more, train, target = {}, train.to_iterable_dataset(), target.to_iterable_dataset()
    run = alone(tmp_path, train=train, target=target, objectives={**MANY, "distill_logits": 1.0}, max_steps=4, **more)
    run.train()
    for name in (*MANY, "distill_logits"):
        assert runs.logged(run, f"{name}_loss")[-1] > 0


def test_rules_hold_for_several_labels_a_row(tmp_path):
    """`constraint` reads such predictions: where "down" is, "up" is as well."""
    rows = {"text": ["w1 up", "w2 down up", "w3", "w4 up"] * 4, "label": [["up"], ["down", "up"], [], ["up"]] * 4}
    run = alone(
        tmp_path,
        tiny.bert(("down", "up")),
        Dataset.from_dict(rows),
        objectives={"constraint": {"implies": [["down", "up"]], "rows": "all", "method": "lagrangian"}},
        max_steps=3,
    )
    run.train()
    assert run.label_space.task == "multi-label-classification"
    assert len(runs.logged(run, "constraint_loss")) == 3


# ---- what is learned before training


def test_the_relation_is_that_of_the_teachers_predictions_on_all_labelled_rows(tmp_path):
    model = tiny.bert(initializer_range=0.3)
    plain, run = copy.deepcopy(model).eval(), alone(tmp_path, model, objectives={"co_tuning": 1.0}, max_steps=1)
    run.train()
    text, labels = tiny.domain()["text"], torch.tensor(tiny.domain()["label"])
    with torch.no_grad():
        logits = plain(**tiny.tokenizer()(list(text), padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(
        run.model.objectives["co_tuning"].relation, direct_relation(logits, labels, 3).float(), atol=1e-5, rtol=1e-4
    )


def test_channels_weights_are_learned_and_differ(tmp_path):
    run = alone(tmp_path, tiny.bert(initializer_range=0.3), objectives=KINDS["delta_attention"], max_steps=1)
    run.train()
    importance = run.model.objectives["delta"].importance
    assert importance.shape == (32,)
    assert importance.mean().item() == pytest.approx(1, rel=1e-5)
    assert importance.max() > 1.5 * importance.min()


# ---- anchoring anchors


def distances(run, before, batch) -> dict[str, float]:
    """How far the model went: its weights, its predictions and its last layer's output."""
    now, start = run.model.model.eval(), before.eval()
    own = dict(now.named_parameters())
    weights = sum((own[k] - p).square().sum().item() for k, p in start.named_parameters() if "classifier" not in k)
    with torch.no_grad():
        a, b = (m(**batch, output_hidden_states=True) for m in (now, start))
    p, q = b.logits.log_softmax(-1), a.logits.log_softmax(-1)
    return {
        "l2_sp": weights,
        "lwf": (p.exp() * (p - q)).sum(-1).mean().item(),
        "delta": (a.hidden_states[-1] - b.hidden_states[-1]).square().mean().item(),
    }


@pytest.mark.parametrize(
    ("kind", "settings"), [("l2_sp", {"alpha": 10.0}), ("lwf", {"weight": 10.0}), ("delta", {"layers": 1})]
)
def test_the_distance_it_names_shrinks(kind, settings, tmp_path):
    model, batch = tiny.bert(initializer_range=0.2, **STILL), families.batch(rows=8)
    found = []
    for name, objectives in (("plain", None), ("anchored", {kind: settings})):
        run = alone(
            tmp_path / name, copy.deepcopy(model), objectives=objectives, max_steps=20, optim="sgd", learning_rate=0.05
        )
        run.train()
        found.append(distances(run, model, batch)[kind])
    assert found[1] < 0.5 * found[0]


def test_of_lora_the_distance_is_that_of_the_merged_weights(tmp_path):
    run = alone(
        tmp_path,
        objectives={"l2_sp": {"alpha": 2.0, "beta": 0.0}},
        peft_config=LoraConfig(r=4, lora_alpha=6),
        max_steps=3,
    )
    base = {
        k: v.clone() for k, v in run.model.model.get_base_model().state_dict().items() if ".base_layer.weight" in k
    }
    run.train()
    pairs = run.model.teachers.initial_weights.pairs(run.model.model)
    value = run.model.objectives["l2_sp"](pairs).item()
    merged = copy.deepcopy(run.model.model).merge_and_unload().state_dict()
    want = sum((merged[k.replace(".base_layer", "")] - v).square().sum().item() for k, v in base.items())
    assert want > 0
    assert value == pytest.approx(want, rel=1e-3)


# ---- kill and resume


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_a_resumed_run_equals_one_that_was_left_alone(peft, tmp_path):
    """With dropout, queues, old heads, and what was learned before training."""

    def run(folder, steps, resume=None):
        torch.manual_seed(0)
        settings = {"peft_config": LoraConfig(r=4)} if peft else {}
        made = alone(
            folder, tiny.bert(), objectives=MANY, max_steps=6, save_strategy="steps", save_steps=3, **settings
        )
        made.args.max_steps = steps
        made.train(resume_from_checkpoint=resume)
        return made

    runs.resumed_is_alike(run, tmp_path)


def test_a_run_is_not_resumed_to_another_anchor(tmp_path):
    """The start is read again from where it came; if that is not what it was, the run says so."""
    settings = {"objectives": {"lwf": 1.0}, "save_strategy": "steps", "save_steps": 2}
    alone(tmp_path / "run", tiny.bert(seed=0), **settings).train()
    other = alone(tmp_path / "run", tiny.bert(seed=1), **settings, max_steps=4)
    with pytest.raises(ValueError, match="anchored to other weights.*Resume with the same `model` and `teacher`"):
        other.train(resume_from_checkpoint=True)
