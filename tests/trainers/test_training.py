"""A run end to end: what is logged, how fast what trains, and what stops a run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
import tiny
import torch
import transformers
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

import hftransfer
from hftransfer import Objective, add_soft_labels
from hftransfer.objectives.registry import REGISTRY

CONSTANT = {"schedule": "constant"}
OURS, STACK = (str(Path(package.__file__).parent) for package in (hftransfer, transformers))


class Strength(Objective):
    """Keeps the schedule's values."""

    seen: list[float]

    def forward(self, source_features, strength):
        self.seen = [*getattr(self, "seen", []), strength.item()]
        return source_features.sum() * 0


class Breaking(Objective):
    """Not a number at its third step."""

    steps = 0

    def forward(self, target_features):
        self.steps += 1
        return target_features.mean() * (math.nan if self.steps == 3 else 0)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for cls in (Strength, Breaking):
        monkeypatch.setitem(REGISTRY, cls.__name__.lower(), cls)


class AtEachStep(TrainerCallback):
    def __init__(self, look):
        self.look, self.seen = look, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(self.look(kwargs))


# ---- logs


def test_every_part_is_logged_by_name_and_they_add_up(tmp_path):
    """What takes `strength`, as `dann` does, counts in full: its weight is that of the reversal alone."""
    objectives = {
        "mmd": {"weight": 0.5, **CONSTANT},
        "first": {"kind": "dann", "weight": 2.0, **CONSTANT},
        "nt_xent": {"weight": 1.5, **CONSTANT},
    }
    run = runs.trainer(tmp_path, objectives=objectives, max_steps=6, logging_steps=2)
    run.train()
    logs = [entry for entry in run.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [2, 4, 6]
    for entry in logs:
        parts = {name: entry[f"{name}_loss"] for name in ("task", "mmd", "first", "nt_xent")}
        total = parts["task"] + 0.5 * parts["mmd"] + parts["first"] + 1.5 * parts["nt_xent"]
        assert entry["loss"] == pytest.approx(total, rel=1e-5)
    assert len({entry["task_loss"] for entry in logs}) == 3  # averages of their own two steps


def test_without_objectives_or_target_the_loss_is_the_task(tmp_path):
    args = runs.config(tmp_path, objectives=None, num_train_epochs=2, max_steps=-1)
    run = runs.AdaptationTrainer(tiny.bert(), args, train_dataset=tiny.domain(), processing_class=tiny.tokenizer())
    run.train()
    assert runs.logged(run, "loss") == pytest.approx(runs.logged(run, "task_loss"))
    assert (run.state.global_step, run.state.epoch) == (12, 2)  # 24 rows by fours, twice


def test_a_schedule_follows_the_run(tmp_path):
    run = runs.trainer(tmp_path, objectives={"strength": {"weight": 0.5, "schedule": "linear"}}, max_steps=4)
    run.train()
    assert run.model.objectives["strength"].seen == [0, 0.125, 0.25, 0.375]


WAITS = ("deepjdot", "masked_lm")  # a plan is found, words are chosen on the host, and their pages say so


class Syncs(TorchDispatchMode):
    """Where a device would be waited for, in our code: `(function, line)` of the innermost frame that is ours, unless
    a frame of transformers comes first."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.ours: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0].lstrip("_")
        masked = name in ("index", "index_put") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1] if x is not None
        )
        if masked or name in [n.lstrip("_") for n in self.WAITING]:
            self.note()
        return func(*args, **(kwargs or {}))

    def note(self) -> None:
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(STACK):
            if frame.f_code.co_filename.startswith(OURS):
                self.ours.append(frame.f_code.co_name)
                return
            frame = frame.f_back

    def watch(self, monkeypatch) -> Syncs:
        """Adds the ways out of a tensor that no operator stands for."""
        for name in ("tolist", "numpy", "cpu"):
            monkeypatch.setattr(torch.Tensor, name, self._noting(getattr(torch.Tensor, name)))
        return self

    def _noting(self, method):
        def noting(*args, **kwargs):
            self.note()
            return method(*args, **kwargs)

        return noting


@pytest.mark.parametrize(("threshold", "said"), [(1.0, True), (0.0, False)])
def test_an_objective_that_never_acts_is_named(tmp_path, caplog, threshold, said):
    """No prediction of an untrained model is that sure, so no target row has a pseudo-label."""
    objectives = {"mmd": 0.1, "wary": {"kind": "supcon", "threshold": threshold}}
    runs.trainer(tmp_path, objectives=objectives).train()
    assert ("wary was 0 in every step and asked nothing" in caplog.text) == said
    assert "mmd was 0" not in caplog.text


KINDS = [name for name in REGISTRY if name not in ("strength", "breaking", *WAITS)]
ON_WORDS = (  # one of each kind; the rest in the slow tests
    *("mmd", "coral", "dann", "cdan", "mdd", "supcon", "nt_xent", "prototype", "bnm"),
    *("constraint", "soft_labels", "fixmatch", "mixup", "distill_features"),
)


@pytest.mark.parametrize(
    ("kind", "tagging"),
    [
        *(pytest.param(kind, False, id=f"{kind}-sequences") for kind in KINDS),
        *(
            pytest.param(kind, True, id=f"{kind}-words", marks=[] if kind in ON_WORDS else pytest.mark.slow)
            for kind in KINDS
        ),
    ],
)
def test_the_device_is_waited_for_once_a_log_not_once_a_step(kind, tagging, tmp_path, monkeypatch):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)} if tagging else {}
    labels = tiny.TAGS if tagging else tiny.LABELS
    if kind == "soft_labels":
        target = data.get("target_dataset", tiny.domain(seed=1, labelled=False))
        even = np.full(len(labels), 1 / len(labels))
        soft = [np.tile(even, (len(row["tokens"]), 1)) if tagging else even for row in target]
        data["target_dataset"] = add_soft_labels(target, soft)
    run = runs.trainer(
        tmp_path,
        tiny.bert(labels, tagging=tagging, **({"attention_probs_dropout_prob": 0.0} if "attention" in kind else {})),
        objectives={kind: {"constraint": {"proportions": {labels[0]: [0.2, 0.4]}}}.get(kind, 1.0)},
        max_steps=4,
        logging_steps=2,
        **data,
    )
    with Syncs().watch(monkeypatch) as syncs:
        run.train()
    assert without_watch(syncs) == [*["mean"] * 2, "broken_tensors"]  # the weights are looked at once, at the end
    assert syncs.ours.count("take") == 2 * 2  # the run watch: one transfer a log, `.cpu()` and `.numpy()`


def without_watch(syncs: Syncs) -> list[str]:
    """Without the run watch, which reads its counts once a log and judges them on the CPU."""
    return [name for name in syncs.ours if name not in ("take", "_judge_discriminator")]


def test_the_watch_sees_a_sync(tmp_path, monkeypatch):
    """The control of the test above: an objective that reads its value off the device is caught at every step."""
    monkeypatch.setattr(sys.modules["hftransfer.objectives.alignment.mmd"].MMD, "forward", _waiting)
    run = runs.trainer(tmp_path, objectives={"mmd": 0.1}, max_steps=4, logging_steps=4)
    with Syncs().watch(monkeypatch) as syncs:
        run.train()
    assert without_watch(syncs) == ["evaluate"] * 4 + ["mean", "broken_tensors"]


def _waiting(self, source_features, target_features):
    return source_features.mean() * (source_features.sum().item() > 0)


# ---- rates


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_objectives_learn_at_their_own_rate(trainable, tmp_path):
    rates = AtEachStep(lambda step: [group["lr"] for group in step["optimizer"].param_groups])
    run = runs.trainer(
        tmp_path,
        objectives={"dann": 0.1},
        objective_lr_multiplier=4.0,
        trainable=trainable,
        learning_rate=1e-3,
        max_steps=4,
        weight_decay=0.1,
        callbacks=[rates],
    )
    run.train()
    names = {id(p): name for name, p in run.model.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in run.optimizer.param_groups]
    moving = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert sum(map(len, groups)) == len(moving)
    assert set().union(*groups) == moving
    for group, own in zip(run.optimizer.param_groups, groups, strict=True):
        objective = {name.startswith("objectives.") for name in own}
        assert len(objective) == 1
        assert group["initial_lr"] == pytest.approx(4e-3 if objective.pop() else 1e-3)
        plain = {name.endswith("bias") or "LayerNorm" in name for name in own}
        assert plain == {group["weight_decay"] == 0}
    assert rates.seen[0][0] > rates.seen[-1][0]  # the schedule of the rate moves all groups alike
    for at in rates.seen[:-1]:
        assert [rate / at[0] for rate in at] == pytest.approx([rate / rates.seen[0][0] for rate in rates.seen[0]])
    assert runs.logged(run, "learning_rate")[0] == pytest.approx(1e-3)


def test_an_optimizer_of_the_users_is_left_alone(tmp_path):
    model = tiny.bert()
    own = torch.optim.SGD(model.parameters(), lr=0.5)
    run = runs.trainer(tmp_path, model, optimizers=(own, None))
    run.train()
    assert len(own.param_groups) == 1
    assert own.param_groups[0]["initial_lr"] == 0.5


@pytest.mark.parametrize(("rate", "said"), [(5e-5, True), (1e-3, False)])
def test_an_adapter_at_the_rate_of_a_whole_model_says_so(tmp_path, caplog, rate, said):
    runs.trainer(tmp_path, learning_rate=rate, peft_config=LoraConfig(r=2))
    assert ("learning_rate=5e-05 suits whole models and is low for an adapter: try 1e-3." in caplog.text) == said
    caplog.clear()
    runs.trainer(tmp_path / "whole", learning_rate=rate)
    assert "low for an adapter" not in caplog.text


# ---- what stops a run


def test_a_part_that_is_not_finite_stops_the_run_by_name(tmp_path):
    run = runs.trainer(tmp_path, objectives={"mmd": 0.1, "breaking": 1.0}, max_steps=8, logging_steps=2)
    with pytest.raises(FloatingPointError, match=r"The breaking loss is not finite at step 4 \(task=.*breaking=nan"):
        run.train()
    assert math.isnan(runs.logged(run, "breaking_loss")[-1])
    assert len(runs.logged(run, "breaking_loss")) == 2  # the log that shows it was written


def test_the_message_says_where_it_broke(tmp_path):
    """The head is broken before step 3: the features of that step, not of those after it, are still sound."""

    class BreaksTheHead(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2:
                with torch.no_grad():
                    model.model.classifier.weight.fill_(float("inf"))

    run = runs.trainer(tmp_path, max_steps=5, logging_steps=5, callbacks=[BreaksTheHead()])
    sound = (
        r"The task loss is not finite at step 5.*source features \d\S*, target features \d\S*, source logits (nan|inf)"
    )
    with pytest.raises(FloatingPointError, match=sound):
        run.train()


def test_a_broken_run_is_not_saved(tmp_path):
    """Saving more often than logging: the last checkpoint is from before it broke."""
    run = runs.trainer(
        tmp_path, objectives={"breaking": 1.0}, max_steps=8, logging_steps=8, save_strategy="steps", save_steps=1
    )
    with pytest.raises(FloatingPointError, match="The breaking loss is not finite at step 3"):
        run.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


def test_a_run_too_short_to_log_is_checked_at_its_end(tmp_path):
    run = runs.trainer(tmp_path, objectives={"breaking": 1.0}, max_steps=3, logging_steps=10)
    with pytest.raises(FloatingPointError, match="The breaking loss is not finite"):
        run.train()


def test_data_parallel_is_refused(tmp_path, monkeypatch):
    args = runs.config(tmp_path)
    monkeypatch.setattr(type(args), "n_gpu", 2)
    with pytest.raises(ValueError, match="2 GPUs are visible but no launcher started the run"):
        runs.trainer(tmp_path, args=args)


def test_what_would_be_ignored_is_refused(tmp_path):
    given = (tiny.bert(), runs.config(tmp_path), tiny.domain(), tiny.domain(seed=1))
    with pytest.raises(ValueError, match="compute_loss_func has no effect"):
        runs.AdaptationTrainer(*given, compute_loss_func=lambda *_: None)


def test_other_arguments_are_refused(tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(TypeError, match="args must be an AdaptationConfig, not TrainingArguments"):
        runs.trainer(tmp_path, args=TrainingArguments(output_dir=str(tmp_path)))
