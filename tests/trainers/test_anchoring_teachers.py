"""Teachers of anchored runs: what they are, cost, say and leave behind, and which are refused."""

from __future__ import annotations

import copy

import families
import numpy as np
import pytest
import runs
import tiny
import torch
from anchoring_runs import MANY, STILL, alone, saved
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hftransfer import AdaptationTrainer, Objective
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.saving.checkpoint_files import STATE_FILE
from hftransfer.trainers.step.objective_inputs import pick_words


@pytest.mark.parametrize(("peft", "trainable"), [(None, "all"), (None, "last_1"), (LoraConfig(r=4), "all")])
def test_the_start_costs_what_moves_and_no_more(peft, trainable, tmp_path):
    """All else is the model's own memory; the start weights of l2_sp are the teacher's."""
    run = alone(tmp_path, objectives={"lwf": 1.0, "l2_sp": 1.0}, peft_config=peft, trainable=trainable)
    adapter = run.model
    (teacher,) = adapter.teachers.all
    mine = {p.data_ptr(): p for p in adapter.model.parameters()}
    copied = [p for p in teacher.model.parameters() if p.data_ptr() not in mine]
    assert sum(p.numel() for p in copied) == sum(p.numel() for p in adapter.model.parameters() if p.requires_grad)
    held = {p.data_ptr() for p in copied}
    assert all(t.data_ptr() in held for t in adapter.teachers.initial_weights.tensors())


def test_a_teacher_stays_what_it_was_and_is_nobodys_child(tmp_path):
    model = tiny.bert()
    before = copy.deepcopy(model.state_dict())
    run = alone(tmp_path, model, objectives=MANY, max_steps=4, save_strategy="steps", save_steps=4)
    run.train()
    (teacher,) = run.model.teachers.all
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
    assert beside == {"progress", "reference_fingerprint.digest"}
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(plain.state_dict()["classifier.weight"], run.model.model.state_dict()["classifier.weight"])


class Listener(Objective):
    """Keeps what it is told."""

    def forward(self, teacher_logits, teacher_target_features, logits, features, trained_weights, class_vectors):
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
        tmp_path / "run", objectives={f"distill_{of}": 1.0}, teacher=name, max_steps=40, per_device_train_batch_size=8
    )
    target = tiny.domain(seed=1, labelled=False)
    run = AdaptationTrainer(student, args, tiny.domain(), target, None, families.tokenizer())
    run.train()
    values = runs.logged(run, f"distill_{of}_loss")
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
    assert state["objectives.by_name.lwf.head.weight"].shape == (5, 32)
    assert state["objectives.by_name.co_tuning.relation"].shape == (3, 5)
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
    run.model.teachers.all[0].model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    run.train()
    learning = [24] if "co_tuning" in objectives else []  # once, all labelled rows, before the first step
    assert seen == learning + rows


# ---- what is refused


def narrow():
    return tiny.bert(hidden_size=16, seed=1)


def others():
    words = tiny.tokenizer()
    words.add_tokens(["another"])
    return words


BAD = {
    "no target": (
        lambda d: {"objectives": {"distill_logits": {"rows": "target"}}},
        "target_dataset is missing: distill_logits needs",
    ),
    "nobody listens": (
        lambda d: {"objectives": {"bss": 0.001}, "teacher": saved(d, tiny.bert())},
        "has no effect: no objective listens",
    ),
    "a teacher that is not there": (
        lambda d: {"objectives": {"lwf": 1}, "teacher": "./nowhere"},
        "no folder './nowhere'",
    ),
    "no name": (lambda d: {"objectives": {"lwf": 1}, "teacher": [3]}, "teacher must be a Hub id or folder"),
    "twice": (lambda d: {"objectives": {"lwf": 1}, "teacher": "[a, a]"}, "teacher names 'a' twice"),
    "other labels": (
        lambda d: {"objectives": {"distill_logits": 1}, "teacher": saved(d, tiny.bert(labels="abc"))},
        r"the labels of .* \(a, b, c\) are not the run's",
    ),
    "no head": (
        lambda d: {"objectives": {"distill_logits": 1}, "teacher": saved(d, tiny.bert().bert)},
        "has no trained head for sequence-classification",
    ),
    "other tokens": (
        lambda d: {"objectives": {"distill_attention": 1}, "teacher": saved(d, tiny.bert(), others())},
        "their tokenizers differ",
    ),
    "short": (
        lambda d: {"objectives": {"distill_logits": 1}, "teacher": saved(d, tiny.bert(max_position_embeddings=16))},
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
        lambda d: {"objectives": {"distill_attention": 1}, "model": tiny.bert()},
        "after dropout",
    ),
    "an adapter of unknown distance": (
        lambda d: {"objectives": {"l2_sp": 1}, "peft_config": LoraConfig(r=2, use_dora=True)},
        "known for full fine-tuning and plain LoRA",
    ),
    "several labels a row": (
        lambda d: {
            "objectives": {"distill_logits": 1},
            "train": Dataset.from_dict({"text": ["w1", "w2"], "label": [["up"], ["down", "up"]]}),
            "model": tiny.bert(("down", "up")),
        },
        "distill_logits on multi-label-classification: .* need one label a row",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_anchor_is_refused_before_anything_is_written(case, tmp_path):
    make, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        alone(tmp_path / "run", **make(tmp_path / "teacher"))
    assert not (tmp_path / "run").exists()
