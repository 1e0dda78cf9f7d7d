"""The mean teacher's weights: the average, its predictions, what is evaluated and saved, what refuses it."""

from __future__ import annotations

import copy

import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hftransfer.models.module_mode import module_mode
from hftransfer.trainers.teachers.weight_average import WeightAverage

FULL = {"weight": 1.0, "schedule": "constant"}


class Notes(TrainerCallback):
    """The model's weights after each update."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model, **kwargs):
        self.weights.append({n: p.detach().double().numpy().copy() for n, p in model.model.named_parameters()})


def trained(folder, steps=5, **settings):
    notes = Notes()
    objectives = {"mean_teacher": {**FULL, "decay": 0.7, **settings}}
    run = runs.trainer(folder, objectives=objectives, max_steps=steps, callbacks=[notes])
    run.train()
    return run, notes.weights


def averages(run) -> dict[str, np.ndarray]:
    average = run.model.weight_average
    return {name: average.get_buffer(buffer).numpy() for buffer, name in average.names.items()}


def expected(weights, decay=0.7):
    mean = weights[0]
    for number, now in enumerate(weights[1:], 2):
        alpha = min(1 - 1 / number, decay)
        mean = {name: alpha * mean[name] + (1 - alpha) * now[name] for name in mean}
    return mean


def test_it_is_the_moving_average_of_what_trains(tmp_path):
    run, weights = trained(tmp_path)
    assert len(weights) == 5
    for name, mean in expected(weights).items():
        np.testing.assert_allclose(averages(run)[name], mean, atol=1e-6, err_msg=name)
    last = {n: p.detach().numpy() for n, p in run.model.model.named_parameters()}
    assert all(np.array_equal(last[name], weights[-1][name].astype(np.float32)) for name in last)
    assert any(np.abs(last[name] - mean).max() > 1e-4 for name, mean in averages(run).items())


def test_what_does_not_train_is_not_copied():
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    names = set(WeightAverage(model).names.values())
    assert names == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any("embeddings" in name for name in names)


@pytest.mark.parametrize("tagging", [False, True], ids=["sequences", "words"])
def test_the_teacher_predicts_without_dropout_and_leaves_the_model_alone(tmp_path, tagging):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)} if tagging else {}
    model = tiny.bert(tiny.TAGS if tagging else tiny.LABELS, tagging, initializer_range=0.2)
    run = runs.trainer(tmp_path, model, objectives={"mean_teacher": FULL}, **data)
    joint, inputs = run.model.train(), next(iter(run.get_train_dataloader()))
    average = joint.weight_average
    for buffer in average.names:
        average.get_buffer(buffer).mul_(1.1)
    before, seen = runs.copied(joint.model), []
    joint.objectives["mean_teacher"].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["averaged_target_logits"]), with_kwargs=True
    )
    joint(**inputs).loss.backward()
    assert not runs.moved(joint.model, before)
    assert all(module.training for module in joint.model.modules())
    assert joint.joint_forward.features.feature_hook._features is None
    assert not any(average.get_buffer(buffer).requires_grad for buffer in average.names)
    other = copy.deepcopy(joint.model)
    average.write_to(other)
    rows = {k: inputs[k][inputs["num_source"] :] for k in ("input_ids", "attention_mask", "token_type_ids")}
    with module_mode(other), torch.no_grad():
        logits = other(**rows).logits
    if tagging:
        from hftransfer.trainers.step.objective_inputs import pick_words

        logits = pick_words(logits, inputs["word_mask"][inputs["num_source"] :])
    torch.testing.assert_close(seen[0], logits)


@pytest.mark.parametrize(
    ("targets", "batch_norm", "own"),
    [
        pytest.param(6, "joint", True, id="of the target rows"),
        pytest.param(6, "frozen", False, id="the running ones, as the student"),
        pytest.param(1, "joint", False, id="the running ones, of one row"),
    ],
)
def test_statistics_that_the_teachers_batch_norms_use(tmp_path, targets, batch_norm, own):
    """Running ones are those of the student's weights, and of both domains."""
    run = runs.trainer(
        tmp_path, pictures.resnet(), objectives={"mean_teacher": FULL}, processing_class=pictures.processor(),
        train_dataset=pictures.pictures(), target_dataset=pictures.pictures(seed=1, labelled=False, dark=True),
        batch_norm=batch_norm, per_device_train_batch_size=6, target_ratio=targets / 6,
    )  # fmt: skip
    joint, inputs = run.model.train(), next(iter(run.get_train_dataloader()))
    for buffer in joint.weight_average.names:
        joint.weight_average.get_buffer(buffer).mul_(1.1)
    assert len(inputs["pixel_values"]) - inputs["num_source"] == targets
    student, teacher, seen = copy.deepcopy(joint.model), copy.deepcopy(joint.model), []
    joint.objectives["mean_teacher"].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["averaged_target_logits"]), with_kwargs=True
    )
    joint(**inputs)
    with torch.no_grad():
        student(pixel_values=inputs["pixel_values"])  # its forward alone moves the running statistics
        for name, value in joint.model.named_buffers():
            torch.testing.assert_close(value, student.get_buffer(name), msg=name)
        joint.weight_average.write_to(teacher)
        if not own:
            teacher.load_state_dict(dict(joint.model.named_buffers()), strict=False)
        expected = teacher.train(own)(pixel_values=inputs["pixel_values"][inputs["num_source"] :]).logits
    torch.testing.assert_close(seen[0], expected)


def test_the_teacher_is_evaluated_and_saved_if_it_is_kept(tmp_path):
    run, weights = trained(tmp_path / "teacher", keep="teacher")
    student, _ = trained(tmp_path / "student")
    mean = expected(weights)
    run.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher")
    for name, parameter in saved.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), mean[name], atol=1e-6)
    assert not [p.name for p in (tmp_path / "teacher").iterdir() if "adaptation_state" in p.name]
    rows = tiny.domain(12, seed=3)
    teacher_logits, student_logits = (one.predict(rows).predictions for one in (run, student))
    assert np.abs(teacher_logits - student_logits).max() > 1e-4


def test_while_it_trains_the_teacher_is_what_is_evaluated(tmp_path):
    run = runs.trainer(tmp_path, objectives={"mean_teacher": {**FULL, "keep": "teacher"}})
    average = run.model.weight_average
    for buffer in average.names:
        average.get_buffer(buffer).zero_()
    assert not run.predict(tiny.domain(6, seed=3)).predictions.any()  # weights of 0 say 0
    assert run.model.train()(**next(iter(run.get_train_dataloader()))).logits.any()


def test_a_checkpoint_holds_both_and_a_saved_model_one(tmp_path):
    objectives = {"mean_teacher": {**FULL, "decay": 0.5, "keep": "teacher"}}
    run = runs.trainer(tmp_path, objectives=objectives, max_steps=4, save_strategy="steps", save_steps=2)
    run.train()
    again = runs.trainer(tmp_path, objectives=objectives, max_steps=4, save_strategy="steps", save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, mean in averages(run).items():
        assert np.array_equal(averages(again)[name], mean)
    for name, parameter in run.model.model.state_dict().items():
        assert torch.equal(parameter, again.model.model.state_dict()[name])


def test_two_that_follow_it_agree(tmp_path):
    objectives = {"a": {"kind": "mean_teacher"}, "b": {"kind": "mean_teacher", "decay": 0.9}}
    with pytest.raises(ValueError, match="a and b follow one average of the weights"):
        runs.trainer(tmp_path, objectives=objectives)


def test_shards_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="mean_teacher .* under DDP"):
        runs.trainer(tmp_path, objectives={"mean_teacher": 0.1})


def test_an_adapter_is_averaged_alone(tmp_path):
    from peft import LoraConfig

    run = runs.trainer(
        tmp_path, objectives={"mean_teacher": {**FULL, "keep": "teacher"}}, peft_config=LoraConfig(r=2), max_steps=3
    )
    run.train()
    names = set(run.model.weight_average.names.values())
    assert names == {n for n, p in run.model.model.named_parameters() if p.requires_grad}
    assert runs.logged(run, "mean_teacher_loss")[-1] > 0
