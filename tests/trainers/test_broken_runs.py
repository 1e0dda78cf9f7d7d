"""A run that breaks: nothing broken is kept, nothing good is lost, and the message says where to go on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import runs
import tiny
import torch
from torch import nn
from transformers import TrainerCallback

from hftransfer.objectives.base import Objective
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.saving.checkpoint_files import checkpoints, fault
from hftransfer.trainers.saving.finite_weights import broken_tensors, buffer_flags, first_broken

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, "logging_steps": 100}


class Breaks(TrainerCallback):
    """Writes a value into something of the model when a step of that number ends."""

    def __init__(self, step: int, what: str = "classifier.weight", value: float = math.nan):
        self.step, self.what, self.value = step, what, value

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step + 1 == self.step:
            target = dict(model.model.named_parameters()) | dict(model.model.named_buffers())
            with torch.no_grad():
                target[self.what].view(-1)[0] = self.value


class BreaksGradient(TrainerCallback):
    """The loss is finite, its gradient is not."""

    def __init__(self, step: int):
        self.step = step

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        def hook(gradient):
            return gradient * math.nan if state.global_step + 1 == self.step else gradient

        model.model.classifier.weight.register_hook(hook)


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints(folder)]


def sound(folder: Path) -> None:
    """Every checkpoint is whole and holds numbers."""
    from safetensors.torch import load_file

    for checkpoint in checkpoints(folder):
        assert fault(checkpoint) is None
        for path in checkpoint.glob("*.safetensors"):
            assert all(t.isfinite().all() for t in load_file(path).values() if t.is_floating_point()), path


@pytest.mark.parametrize(
    ("breaking", "settings", "kept", "said"),
    [
        (Breaks(6), {}, ["checkpoint-4"], "classifier.weight holds values that are not finite after step 6"),
        (Breaks(6, value=math.inf), {}, ["checkpoint-4"], "classifier.weight holds values"),
        (Breaks(8), {}, ["checkpoint-6"], "after step 8"),  # the last step
        (Breaks(8), {"save_steps": 3, "logging_steps": 1}, ["checkpoint-6"], "after step 8"),
        (BreaksGradient(6), {}, ["checkpoint-4"], "The gradient is not finite at step 6"),
        (BreaksGradient(8), {"save_steps": 3}, ["checkpoint-6"], "The gradient is not finite at step 8"),
        (BreaksGradient(6), {"max_grad_norm": 0.0}, ["checkpoint-4"], "The gradient is not finite at step 6"),
        (
            BreaksGradient(5),
            {"logging_steps": 1},
            ["checkpoint-2", "checkpoint-4"],
            "gradient is not finite at step 5",
        ),
        (BreaksGradient(6), {"gradient_accumulation_steps": 2}, ["checkpoint-4"], "gradient is not finite at step 6"),
        # The gradient of step 5 is looked at when step 6 is saved: by then the loss is broken.
        (BreaksGradient(5), {}, ["checkpoint-4"], "The task loss is not finite at step 6"),
        (BreaksGradient(6), {"bf16": True}, ["checkpoint-4"], "The gradient is not finite at step 6"),
    ],
)
def test_what_is_broken_replaces_nothing(tmp_path, breaking, settings, kept, said):
    run = runs.trainer(tmp_path, callbacks=[breaking], save_total_limit=1, **(SAVING | settings))
    with pytest.raises(FloatingPointError) as found:
        run.train()
    assert said in str(found.value)
    last = str(tmp_path / kept[-1])
    assert f"The last good checkpoint is {last}; resume_from_checkpoint={last!r}" in str(found.value)
    assert names(tmp_path)[-1] == kept[-1]
    assert set(kept) <= set(names(tmp_path))
    sound(tmp_path)
    assert not (tmp_path / "_writing").exists()
    assert not (tmp_path / "model.safetensors").exists()


def test_the_last_step_of_a_run_that_saves_nothing(tmp_path):
    for breaking in (Breaks(2), BreaksGradient(2)):
        run = runs.trainer(tmp_path, callbacks=[breaking])
        with pytest.raises(FloatingPointError, match="There is no checkpoint to go back to"):
            run.train()


@pytest.mark.parametrize("rate", [1e9, 1e20, 1e38])
def test_a_learning_rate_that_no_model_survives(tmp_path, rate):
    """After the first move, weights are finite at 1e9 and predict nothing that is; the one before is the good one."""
    steps = SAVING | {"save_steps": 1, "logging_steps": 1}
    run = runs.trainer(tmp_path, learning_rate=rate, save_total_limit=1, warmup_steps=2, **steps)
    with pytest.raises(FloatingPointError, match="Lower the learning rate") as found:
        run.train()
    assert f"The last good checkpoint is {tmp_path / 'checkpoint-1'};" in str(found.value)
    assert f"No finite loss has followed {tmp_path / 'checkpoint-2'}: it predicts" in str(found.value)
    sound(tmp_path)


@pytest.mark.parametrize("peft", [False, True])
def test_a_broken_model_is_not_saved_over_a_good_one(tmp_path, peft):
    from peft import LoraConfig

    run = runs.trainer(tmp_path / "run", peft_config=LoraConfig(r=2) if peft else None)
    run.train()
    run.save_model()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    parameter = next(p for p in run.model.model.parameters() if p.requires_grad)
    parameter.data.view(-1)[0] = math.nan
    for folder in (None, str(tmp_path / "elsewhere")):
        with pytest.raises(FloatingPointError, match="holds values that are not finite.*the model was not written"):
            run.save_model(folder)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert not (tmp_path / "elsewhere").exists()


def test_an_objectives_weights_are_looked_at_too(tmp_path):
    class BreaksCritic(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model=None, **kwargs):
            if state.global_step == 3:
                next(model.objectives.parameters()).data.fill_(math.inf)

    run = runs.trainer(tmp_path, objectives={"dann": 0.1}, callbacks=[BreaksCritic()], **SAVING)
    with pytest.raises(FloatingPointError, match=r"objectives\.by_name\.dann.*checkpoint-4 was not written"):
        run.train()
    assert names(tmp_path) == ["checkpoint-2"]


def test_statistics_of_batch_norm_are_looked_at(tmp_path):
    import pictures

    model = pictures.resnet()
    buffer = next(name for name, _ in model.named_buffers() if name.endswith("running_var"))
    run = runs.trainer(
        tmp_path,
        model,
        train_dataset=pictures.pictures(8),
        target_dataset=pictures.pictures(8, seed=1, labelled=False),
        processing_class=pictures.processor(),
        callbacks=[Breaks(2, buffer, math.inf)],
        **(SAVING | {"max_steps": 2}),
    )
    with pytest.raises(FloatingPointError, match="running_var holds values that are not finite"):
        run.train()
    assert names(tmp_path) == []


def test_a_step_that_a_scaler_skips_is_no_failure(tmp_path):
    run = runs.trainer(tmp_path)
    run.finite_guard.grad_norm = math.inf
    run.accelerator._optimizers = [type("Skipped", (), {"step_was_skipped": True})()]
    run.finite_guard.check_norm()
    run.finite_guard.grad_norm = math.inf
    run.accelerator._optimizers = []
    with pytest.raises(FloatingPointError, match="norm inf"):
        run.finite_guard.check_norm()


def test_the_checkpoint_before_stays_until_a_finite_loss_has_followed(tmp_path):
    seen = []

    class Looks(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            seen.append((state.global_step, names(tmp_path)))

    run = runs.trainer(
        tmp_path, callbacks=[Looks()], save_total_limit=1, **(SAVING | {"max_steps": 6, "logging_steps": 3})
    )
    run.train()
    found = dict(seen)
    assert found[2] == ["checkpoint-2"]
    assert found[3] == ["checkpoint-2"]
    assert found[4] == ["checkpoint-2", "checkpoint-4"]
    assert found[5] == ["checkpoint-2", "checkpoint-4"]  # nothing was read since
    assert names(tmp_path) == ["checkpoint-6"]  # at the end the model ran once more
    assert not (tmp_path / "_writing").exists()


class Breaking(Objective):
    """Not a number at its third step."""

    steps = 0

    def forward(self, target_features):
        self.steps += 1
        return target_features.mean() * (math.nan if self.steps == 3 else 0)


def test_a_checkpoint_that_no_finite_loss_followed_is_named_with_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "breaking", Breaking)
    run = runs.trainer(tmp_path, objectives={"breaking": 1.0}, save_total_limit=1, **(SAVING | {"save_steps": 1}))
    with pytest.raises(FloatingPointError) as found:
        run.train()
    assert f"The last good checkpoint is {tmp_path / 'checkpoint-2'}" in str(found.value)
    assert f"No finite loss has followed it; the one before is {tmp_path / 'checkpoint-1'}." in str(found.value)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_predictions_are_looked_at_before_the_last_but_one_goes(tmp_path, monkeypatch):
    run = runs.trainer(tmp_path, save_total_limit=1, **SAVING)
    monkeypatch.setattr(run.finite_guard, "predicts_finite", lambda inputs: False)
    with pytest.raises(
        FloatingPointError, match="give predictions that are not finite.*good checkpoint is .*checkpoint-6;"
    ):
        run.train()
    assert names(tmp_path)[-2:] == ["checkpoint-6", "checkpoint-8"]


def test_only_what_trainings_broke_counts():
    module = nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    module.register_buffer("mean", torch.zeros(2))
    module.register_parameter("weight", nn.Parameter(torch.ones(2)))
    before = buffer_flags(module)
    assert broken_tensors(module) == ["mask"]
    assert first_broken(module, before) is None
    module.mean[0] = math.nan
    assert first_broken(module, None) is None  # never trained: any buffer may be so
    assert first_broken(module, before) == "mean"
    module.weight.data[1] = math.inf
    assert first_broken(module, None) == "weight"


class BreaksMoments(TrainerCallback):
    """What the optimizer remembers breaks when a step of that number has ended; the weights are whole."""

    def __init__(self, step: int, what: str, value: float):
        self.step, self.what, self.value = step, what, value

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        if state.global_step == self.step:
            for kept in optimizer.state.values():
                kept[self.what].fill_(self.value)


@pytest.mark.parametrize(("what", "value"), [("exp_avg", math.nan), ("exp_avg_sq", math.inf)])
@pytest.mark.parametrize("step", [4, 8])
def test_a_broken_memory_of_the_optimizer_is_not_saved(tmp_path, what, value, step):
    """The weights would break in the next step, or never move again."""
    run = runs.trainer(tmp_path, callbacks=[BreaksMoments(step, what, value)], save_total_limit=1, **SAVING)
    with pytest.raises(FloatingPointError, match=f"The optimizer's state holds .* checkpoint-{step} was not") as found:
        run.train()
    assert f"The last good checkpoint is {tmp_path / f'checkpoint-{step - 2}'};" in str(found.value)
    assert names(tmp_path)[-1] == f"checkpoint-{step - 2}"


def test_scores_of_predictions_that_are_no_numbers_are_warned_of(tmp_path, caplog):
    sets = {"source": tiny.domain(6, seed=2)}
    run = runs.trainer(tmp_path, eval_dataset=sets)
    run.evaluate()
    assert "not finite" not in caplog.text
    run.model.model.classifier.bias.data.fill_(math.nan)
    run.evaluate()
    assert "eval_source: 6 of 6 rows have predictions that are not finite" in caplog.text


def test_a_metric_that_is_never_a_number_chooses_nothing_and_says_so(tmp_path, caplog):
    run = runs.trainer(
        tmp_path,
        eval_dataset={"source": tiny.domain(6, seed=2)},
        compute_metrics=lambda prediction: {"score": math.nan},
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_source_score",
        **SAVING,
    )
    run.train()
    assert "eval_source_score was no number in any evaluation, so the last model is kept" in caplog.text
