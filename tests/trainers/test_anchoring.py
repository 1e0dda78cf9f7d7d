"""Runs that are anchored: what teachers and start weights are, cost, say and leave behind; how such runs go on."""

from __future__ import annotations

import copy

import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hftransfer import AdaptationTrainer, Objective
from hftransfer.objectives.anchoring.co_tuning import direct_relation
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.checkpoints import STATE_FILE
from hftransfer.trainers.inputs import pick_words

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "l2_sp": {"l2_sp": 1.0},
    "lwf": {"lwf": 1.0},
    "distill": {"distill": 1.0},
    "distill_features": {"distill": {"of": "features", "features": "hidden:0"}},
    "distill_attention": {"distill": {"of": "attention"}},
    "bss": {"bss": 1.0},
    "delta": {"delta": 0.1},
    "delta_attention": {"delta": {"weight": 0.1, "attention": True, "layers": 1}},
    "rkd": {"rkd": 1.0},
    "co_tuning": {"co_tuning": 1.0},
    "bi_tuning": {"bi_tuning": 1.0},
}
MANY = {
    "l2_sp": 1.0,
    "lwf": 1.0,
    "co_tuning": 1.0,
    "bi_tuning": {"queue": 3},
    "delta": KINDS["delta_attention"]["delta"],
}


def alone(folder, model=None, train=None, target=None, **settings) -> AdaptationTrainer:
    """A run on labelled rows only, unless there is a target."""
    peft = settings.pop("peft_config", None)
    args = runs.config(folder, **settings)
    model = tiny.bert(**STILL) if model is None else model
    return AdaptationTrainer(model, args, train or tiny.domain(), target, None, tiny.tokenizer(), peft)


def saved(folder, model, tokenizer=None) -> str:
    model.save_pretrained(folder)
    (tokenizer or tiny.tokenizer()).save_pretrained(folder)
    return str(folder)


# ---- runs


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
    objectives = {**MANY, "bss": 1.0, "nt_xent": 1.0, "distill": {"of": "features", "features": "hidden:0"}}
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
    buffers = dict(run.model.anchors.teachers[0].model.named_buffers())
    assert all(torch.equal(buffers[k], v) for k, v in before.items())
    assert any(not torch.equal(dict(model.named_buffers())[k], v) for k, v in before.items())


@pytest.mark.parametrize("more", [{"unfreeze": {"by": "step", "every": 1}}, {"stream": True}])
def test_other_ways_to_run(more, tmp_path):
    """Layers thawed one by one; streams."""
    train, target = tiny.domain(), tiny.domain(seed=1, labelled=False)
    if more == {"stream": True}:
        more, train, target = {}, train.to_iterable_dataset(), target.to_iterable_dataset()
    run = alone(tmp_path, train=train, target=target, objectives={**MANY, "distill": 1.0}, max_steps=4, **more)
    run.train()
    for name in (*MANY, "distill"):
        assert runs.logged(run, f"{name}_loss")[-1] > 0


# ---- what a teacher is


@pytest.mark.parametrize(("peft", "freeze"), [(None, "none"), (None, "last_1"), (LoraConfig(r=4), "none")])
def test_the_start_costs_what_moves_and_no_more(peft, freeze, tmp_path):
    """All else is the model's own memory; the start weights of l2_sp are the teacher's."""
    run = alone(tmp_path, objectives={"lwf": 1.0, "l2_sp": 1.0}, peft_config=peft, freeze=freeze)
    adapter = run.model
    (teacher,) = adapter.anchors.teachers
    mine = {p.data_ptr(): p for p in adapter.model.parameters()}
    copied = [p for p in teacher.model.parameters() if p.data_ptr() not in mine]
    assert sum(p.numel() for p in copied) == sum(p.numel() for p in adapter.model.parameters() if p.requires_grad)
    held = {p.data_ptr() for p in copied}
    assert all(t.data_ptr() in held for t in adapter.anchors.start.tensors())


def test_a_teacher_stays_what_it_was_and_is_nobodys_child(tmp_path):
    model = tiny.bert()
    before = copy.deepcopy(model.state_dict())
    run = alone(tmp_path, model, objectives=MANY, max_steps=4, save_strategy="steps", save_steps=4)
    run.train()
    (teacher,) = run.model.anchors.teachers
    after = teacher.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert any(not torch.equal(run.model.model.state_dict()[k], v) for k, v in before.items())
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    ids = {id(p) for p in teacher.model.parameters()}
    assert not any(id(p) in ids for group in run.optimizer.param_groups for p in group["params"])
    assert not any(id(p) in ids for p in run.model.parameters())
    folder = tmp_path / "checkpoint-4"
    assert set(load_file(folder / "model.safetensors")) == set(before)
    beside = {k for k in load_file(folder / STATE_FILE) if not k.startswith("objectives.")}
    assert beside == {"progress", "anchor_mark.digest"}
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(plain.state_dict()["classifier.weight"], run.model.model.state_dict()["classifier.weight"])


class Listener(Objective):
    """Keeps what it is told."""

    def forward(self, teacher_logits, teacher_target_features, logits, features, moved_weights, class_vectors):
        self.heard = teacher_logits, teacher_target_features, logits, features, class_vectors
        return logits.sum() * 0


@pytest.mark.parametrize("tagging", [False, True], ids=["sequences", "words"])
def test_the_teacher_is_asked_about_the_same_rows_without_dropout(tagging, tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "listener", Listener)
    labels = tiny.TAGS if tagging else tiny.LABELS
    model = tiny.bert(labels, tagging)
    plain = copy.deepcopy(model).eval()
    data = (tiny.tagged(), tiny.tagged(seed=1, labelled=False)) if tagging else (tiny.domain(), tiny.domain(seed=1))
    run = alone(tmp_path, model, *data, objectives={"listener": 1.0})
    batch = next(iter(run.get_train_dataloader()))
    run.model.train()(**batch)
    logits, target, own, features, vectors = run.model.objectives["listener"].heard
    inputs = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        want = plain(**inputs).logits
    if tagging:
        want = pick_words(want, batch["word_mask"])
    torch.testing.assert_close(logits[0], want)
    assert logits[0].shape == own.shape
    n = len(features) // 2
    torch.testing.assert_close(target[0] @ vectors.T + plain.classifier.bias, logits[0][n:])
    assert not torch.allclose(own, want, atol=1e-3)  # the model itself has dropout


def test_teachers_with_labels_in_another_order_answer_in_the_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "listener", Listener)
    turned = tiny.bert(labels=("flat", "down", "up"), seed=3)
    names = [saved(tmp_path / "turned", turned), saved(tmp_path / "straight", tiny.bert(seed=4))]
    target = tiny.domain(seed=1, labelled=False)
    run = alone(tmp_path / "run", target=target, objectives={"listener": 1.0}, teacher=names)
    batch = next(iter(run.get_train_dataloader()))
    run.model(**batch)
    heard, *_ = run.model.objectives["listener"].heard
    with torch.no_grad():
        ids = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
        torch.testing.assert_close(heard[0], turned.eval()(**ids).logits[:, [1, 2, 0]])
        torch.testing.assert_close(heard[1], tiny.bert(seed=4).eval()(**ids).logits)


@pytest.mark.parametrize("of", ["logits", "features"])
def test_a_smaller_student_of_another_family_comes_nearer_its_teacher(of, tmp_path):
    """DistilBERT of width 16 under BERT of width 32; unlabelled target rows are asked about, too."""
    teacher = tiny.bert(seed=5, initializer_range=0.3, **STILL)
    name = saved(tmp_path / "teacher", teacher, families.tokenizer())
    student = families.build("distilbert", dim=16, hidden_dim=24, dropout=0.0, attention_dropout=0.0, seed=1)
    args = runs.config(
        tmp_path / "run", objectives={"distill": {"of": of}}, teacher=name, max_steps=40, per_device_train_batch_size=8
    )
    target = tiny.domain(seed=1, labelled=False)
    run = AdaptationTrainer(student, args, tiny.domain(), target, None, families.tokenizer())
    run.train()
    values = runs.logged(run, "distill_loss")
    assert np.mean(values[-5:]) < 0.75 * np.mean(values[:5])
    assert set(load_file_keys(run)) == set(student.state_dict())


def load_file_keys(run) -> list[str]:
    run.save_model()
    return list(load_file(f"{run.args.output_dir}/model.safetensors"))


def test_an_old_head_of_other_classes_lives_in_checkpoints_only(tmp_path):
    """lwf and co_tuning with a teacher of five classes."""
    teacher = saved(tmp_path / "teacher", tiny.bert(labels="abcde", seed=2))
    run = alone(
        tmp_path / "run",
        objectives={"lwf": 1.0, "co_tuning": 1.0},
        teacher=teacher,
        save_strategy="steps",
        save_steps=2,
    )
    run.train()
    state = load_file(tmp_path / "run/checkpoint-2" / STATE_FILE)
    assert state["objectives.lwf.head.weight"].shape == (5, 32)
    assert state["objectives.co_tuning.relation"].shape == (3, 5)
    assert not any("lwf" in k for k in load_file(tmp_path / "run/checkpoint-2/model.safetensors"))


@pytest.mark.parametrize(
    ("objectives", "rows"),
    [
        ({**MANY, "rkd": 1.0}, [8, 8]),
        ({"lwf": {"rows": "target"}, "rkd": {"rows": "target"}}, [4, 4]),
        ({"lwf": {"rows": "target"}, "rkd": {"rows": "source"}}, [8, 8]),
        ({"co_tuning": 1.0, "l2_sp": 1.0}, []),
    ],
)
def test_a_teacher_runs_once_a_step_on_the_rows_that_are_asked_about(objectives, rows, tmp_path):
    run = alone(tmp_path, target=tiny.domain(seed=1, labelled=False), objectives=objectives)
    seen = []
    run.model.anchors.teachers[0].model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    run.train()
    learning = [24] if "co_tuning" in objectives else []  # once, all labelled rows, before the first step
    assert seen == learning + rows


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
    pairs = run.model.anchors.start.pairs(run.model.model)
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

    whole = run(tmp_path / "whole", 6)
    resumed = run(tmp_path / "resumed", 6, str(tmp_path / "whole/checkpoint-3"))
    want, got = whole.model.state_dict(), resumed.model.state_dict()
    assert want.keys() == got.keys()
    assert all(torch.equal(want[k], got[k]) for k in want)
    assert runs.logged(whole, "loss")[3:] == runs.logged(resumed, "loss")[3:]


def test_a_run_is_not_resumed_to_another_anchor(tmp_path):
    """The start is read again from where it came; if that is not what it was, the run says so."""
    settings = {"objectives": {"lwf": 1.0}, "save_strategy": "steps", "save_steps": 2}
    alone(tmp_path / "run", tiny.bert(seed=0), **settings).train()
    other = alone(tmp_path / "run", tiny.bert(seed=1), **settings, max_steps=4)
    with pytest.raises(ValueError, match="anchored to other weights.*Resume with the same `model` and `teacher`"):
        other.train(resume_from_checkpoint=True)


# ---- what is refused


def narrow():
    return tiny.bert(hidden_size=16, seed=1)


def others():
    words = tiny.tokenizer()
    words.add_tokens(["another"])
    return words


BAD = {
    "no target": (
        lambda d: {"objectives": {"distill": {"rows": "target"}}},
        "target_dataset is missing: distill needs",
    ),
    "nobody listens": (
        lambda d: {"objectives": {"bss": 1}, "teacher": saved(d, tiny.bert())},
        "has no effect: no objective listens",
    ),
    "a teacher that is not there": (
        lambda d: {"objectives": {"lwf": 1}, "teacher": "./nowhere"},
        "no folder './nowhere'",
    ),
    "no name": (lambda d: {"objectives": {"lwf": 1}, "teacher": [3]}, "teacher must be a Hub id or folder"),
    "twice": (lambda d: {"objectives": {"lwf": 1}, "teacher": "[a, a]"}, "teacher names 'a' twice"),
    "other labels": (
        lambda d: {"objectives": {"distill": 1}, "teacher": saved(d, tiny.bert(labels="abc"))},
        r"the labels of .* \(a, b, c\) are not the run's",
    ),
    "no head": (
        lambda d: {"objectives": {"distill": 1}, "teacher": saved(d, tiny.bert().bert)},
        "has no trained head for sequence-classification",
    ),
    "other tokens": (
        lambda d: {"objectives": {"distill": 1}, "teacher": saved(d, tiny.bert(), others())},
        "their tokenizers differ",
    ),
    "short": (
        lambda d: {"objectives": {"distill": 1}, "teacher": saved(d, tiny.bert(max_position_embeddings=16))},
        "has 16 positions, and rows may be 64 long",
    ),
    "an old head that does not fit": (
        lambda d: {"objectives": {"co_tuning": 1}, "teacher": saved(d, narrow())},
        "16 wide and the model's 32",
    ),
    "layers of another shape": (
        lambda d: {"objectives": {"delta": 1}, "teacher": saved(d, narrow())},
        "layers of width 16, 16 and the model of 32, 32",
    ),
    "two teachers": (
        lambda d: {"objectives": {"lwf": 1}, "teacher": [saved(d / "a", tiny.bert()), saved(d / "b", tiny.bert())]},
        "there are 2",
    ),
    "a new head": (
        lambda d: {"objectives": {"lwf": 1}, "model": saved(d, tiny.bert().bert)},
        "head is new .* Set teacher to the model whose predictions",
    ),
    "attention after dropout": (
        lambda d: {"objectives": {"distill": {"of": "attention"}}, "model": tiny.bert()},
        "after dropout",
    ),
    "an adapter of unknown distance": (
        lambda d: {"objectives": {"l2_sp": 1}, "peft_config": LoraConfig(r=2, use_dora=True)},
        "known for full fine-tuning and plain LoRA",
    ),
    "several labels a row": (
        lambda d: {
            "objectives": {"distill": 1},
            "train": Dataset.from_dict({"text": ["w1", "w2"], "label": [["up"], ["down", "up"]]}),
            "model": tiny.bert(("down", "up")),
        },
        "distill on multi-label-classification: .* need one label a row",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_anchor_is_refused_before_anything_is_written(case, tmp_path):
    make, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        alone(tmp_path / "run", **make(tmp_path / "teacher"))
    assert not (tmp_path / "run").exists()


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
    assert run.space.task == "multi-label-classification"
    assert len(runs.logged(run, "constraint_loss")) == 3
