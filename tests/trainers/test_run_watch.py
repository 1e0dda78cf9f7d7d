"""What goes wrong in training is named when it begins, and a run that no rule would take stops."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import runs
import tiny
import torch
import torch.nn.functional as F

from hftransfer import Objective
from hftransfer.objectives.adversarial import domain_accuracy
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.run_findings import (
    is_collapsed,
    training_accuracy_fell,
    validation_accuracy_fell,
    validation_accuracy_is_lost,
)
from hftransfer.trainers.run_watch import WATCH_FILE
from hftransfer.trainers.step.batch_counts import BatchCounts, Counts

# A window is a tenth of the run: two steps, 64 rows of each domain.
RUN = {"max_steps": 20, "per_device_train_batch_size": 32, "logging_steps": 2, "objective_lr_multiplier": 1.0}
EVEN = [50, 50, 50]


def counts(source, predicted, target, probability=None, correct=0.0) -> Counts:
    probability = target if probability is None else probability
    return Counts(np.concatenate([source, predicted, target, probability, [correct]]).astype(float), len(source))


class Spoiler(Objective):
    """Everything in the target is drawn to the first class."""

    def forward(self, target_logits):
        return -target_logits.log_softmax(-1)[:, 0].mean()


@pytest.fixture
def spoiler(monkeypatch):
    monkeypatch.setitem(REGISTRY, "spoiler", Spoiler)


def made(folder, **settings):
    """A run on short texts with a small model that learns them."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tiny.bert(num_hidden_layers=1, hidden_size=16, intermediate_size=16, initializer_range=0.3, **still)
    short = {"train_dataset": tiny.domain(longest=3), "target_dataset": tiny.domain(seed=1, longest=3, labelled=False)}
    return runs.trainer(folder, **{**RUN, "model": model, **short, **settings})


def kinds(run) -> list[str]:
    return [finding.kind for finding in run.run_watch.findings]


class Course:
    """The course of a run of a hundred steps without its training: 33 rows of each domain a step, a log every five."""

    def __init__(self, folder, **settings):
        sets = {"source": tiny.domain(600), "medical": tiny.domain(600)}
        self.run = runs.trainer(folder, **{"max_steps": 100, "eval_dataset": sets, **settings})
        self.run.is_in_train = True
        self.watch = self.run.run_watch
        self.state = SimpleNamespace(global_step=0, max_steps=100)
        self.control = SimpleNamespace(should_training_stop=False)

    def go(self, until: int, accuracy: float = 0.9, target=EVEN, discriminator: float | None = None) -> Course:
        """Steps with this accuracy on the source, these frequencies of predictions on the target, and this accuracy of
        the discriminators."""
        labels = torch.arange(99) % 3
        named = torch.where(torch.arange(99) < round(99 * accuracy), labels, (labels + 1) % 3)
        of_target = torch.repeat_interleave(torch.arange(3), torch.tensor(target))
        draw = torch.Generator().manual_seed(0)
        for objective in self.run.model.objectives.values():
            objective.domain_accuracy = None if discriminator is None else torch.tensor(discriminator)
        while self.state.global_step < until and not self.control.should_training_stop:
            rows, others = torch.randperm(99, generator=draw)[:33], torch.randperm(len(of_target), generator=draw)[:33]
            logits = 2 * F.one_hot(torch.cat([named[rows], of_target[others]]), 3).float()
            inputs = {"labels": torch.cat([labels[rows], torch.full((33,), -100)]), "num_source": 33}
            self.watch.add(logits, inputs)
            self.state.global_step += 1
            if self.state.global_step % 5 == 0:
                self.watch.on_log(self.run.args, self.state, self.control, logs={"loss": 1.0})
        return self

    def evaluate(self, source: float, medical: float = 0.5) -> Course:
        for name, value in (("source_accuracy", source), ("medical_oracle_accuracy", medical)):
            self.watch.on_evaluate(self.run.args, self.state, self.control, metrics={f"eval_{name}": value})
        return self


# ---- counts


def test_counts_are_those_of_numpy():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(9, 3)), np.array([0, 1, 2, -100, 1, 0, -100, -100, -100])
    sums = BatchCounts(SimpleNamespace(num_processes=1), 3, ("dann", "mmd"))
    for accuracy in (0.5, 0.75):
        inputs = {"labels": torch.tensor(labels), "num_source": 6}
        sums.add(torch.tensor(logits), inputs, {"dann": torch.tensor(accuracy)})
    total = sums.take()
    named = logits.argmax(1)
    kept = labels[:6] >= 0
    probability = np.exp(logits[6:]) / np.exp(logits[6:]).sum(1, keepdims=True)
    np.testing.assert_array_equal(total.source_labels, [4, 4, 2])
    np.testing.assert_array_equal(total.source_predicted, 2 * np.bincount(named[:6][kept], minlength=3))
    np.testing.assert_array_equal(total.target_predicted, 2 * np.bincount(named[6:], minlength=3))
    np.testing.assert_allclose(total.target_probability, 2 * probability.sum(0), rtol=1e-6)
    assert total.source_accuracy == (named[:6] == labels[:6])[kept].mean()
    assert total.discriminator_accuracy("dann") == 0.625
    assert total.discriminator_accuracy("mmd") is None
    assert sums.take().values.sum() == 0


def test_counts_of_a_tagger_are_of_words():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(3, 4, 2))
    labels = np.array([[-100, 0, 1, -100], [-100] * 4, [-100] * 4])
    word_mask = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]])
    sums = BatchCounts(SimpleNamespace(num_processes=1), 2)
    inputs = {"labels": torch.tensor(labels), "word_mask": torch.tensor(word_mask), "num_source": 1}
    sums.add(torch.tensor(logits), inputs)
    total = sums.take()
    words = logits[1:][word_mask[1:] == 1]
    np.testing.assert_array_equal(total.source_labels, [1, 1])
    np.testing.assert_array_equal(total.target_predicted, np.bincount(words.argmax(1), minlength=2))
    probability = np.exp(words) / np.exp(words).sum(1, keepdims=True)
    np.testing.assert_allclose(total.target_probability, probability.sum(0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["dann", "cdan", "cdan_e", "cdann", "iwan"])
def test_a_discriminator_s_accuracy_is_kept(kind):
    """Of domains that differ, it tells every row in the end."""
    torch.manual_seed(0)
    objective = REGISTRY[kind](
        feature_dim=4, hidden=8, depth=1, **({"num_classes": 3} if kind.startswith("cdan") else {})
    )
    features = torch.randn(12, 4)
    features[:6, 0] += 5
    optimizer = torch.optim.Adam(objective.parameters(), 5e-2)
    arguments = {
        "source_features": features[:6],
        "target_features": features[6:],
        "source_logits": torch.randn(6, 3),
        "target_logits": torch.randn(6, 3),
        "source_labels": torch.tensor([0, 1, 2, 0, 1, 2]),
    }
    arguments = {name: value for name, value in arguments.items() if name in objective.needs()}
    for _ in range(40):
        optimizer.zero_grad()
        objective(**arguments).backward()
        optimizer.step()
    assert objective.domain_accuracy == 1
    assert not objective.domain_accuracy.requires_grad


def test_accuracy_with_several_sources_is_that_of_source_against_target():
    torch.manual_seed(0)
    dann = REGISTRY["dann"](feature_dim=2, num_sources=2, sources="each", depth=0)
    with torch.no_grad():  # target: the first feature is below 0
        dann.discriminator[0].weight.copy_(torch.tensor([[1.0, 9.0], [1.0, -9.0], [-9.0, 0.0]]))
        dann.discriminator[0].bias.zero_()
    source, target = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 0.1]]), torch.tensor([[-3.0, 0.1], [-3.0, 0.0]])
    dann(source, target, source_domains=torch.tensor([1, 0, 0]))  # which of the sources does not matter
    torch.testing.assert_close(dann.domain_accuracy, torch.tensor((2 / 3 + 1) / 2))


def test_domain_accuracy_is_weighted():
    source, target = torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0, -1.0, -1.0])
    assert domain_accuracy(source, target) == (0.5 + 0.75) / 2
    assert domain_accuracy(source, target, torch.tensor([2.0, 0.0])) == (1 + 0.75) / 2


# ---- rules


@pytest.mark.parametrize(
    ("collapsed", "progress", "window"),
    [
        (True, 0.3, counts(EVEN, EVEN, [148, 1, 1], EVEN)),  # by the class named, though unsure
        (True, 0.3, counts(EVEN, [150, 0, 0], [148, 1, 1])),  # everywhere, and sure of it
        (False, 0.3, counts(EVEN, [150, 0, 0], [148, 1, 1], EVEN)),  # everywhere: it has not learnt yet
        (True, 0.5, counts(EVEN, [150, 0, 0], [148, 1, 1], EVEN)),  # and still not
        (False, 0.1, counts(EVEN, EVEN, [148, 1, 1])),
        (False, 0.9, counts(EVEN, EVEN, [135, 10, 5])),  # a label shift of nine to one
        (False, 0.9, counts([148, 1, 1], [148, 1, 1], [150, 0, 0])),  # a source that has one class
        (False, 0.9, counts([15, 15, 15], [15, 15, 15], [45, 0, 0])),  # too few rows
        (False, 0.9, counts([900, 60, 40], [900, 60, 40], [950, 30, 20])),
        (True, 0.9, counts([900, 60, 40], [900, 60, 40], [1000, 0, 0])),
        (True, 0.9, counts([10] * 40, [10] * 40, [200, 200] + [0] * 38)),  # onto two of forty
        (False, 0.9, counts([10] * 30, [10] * 30, [30] * 10 + [0] * 20)),  # a target with a third of the classes
    ],
)
def test_collapse(collapsed, progress, window):
    assert is_collapsed(window, progress) == collapsed


def test_falls_are_beyond_chance():
    assert training_accuracy_fell(0.9, 0.6, 100)
    assert not training_accuracy_fell(0.9, 0.81, 10_000)
    assert training_accuracy_fell(0.9, 0.78, 10_000)
    assert not training_accuracy_fell(0.7, 0.55, 64)
    assert not validation_accuracy_fell(0.8, 0.771, 10_000)
    assert validation_accuracy_fell(0.8, 0.769, 10_000)
    assert not validation_accuracy_fell(0.8, 0.75, 100)
    assert validation_accuracy_is_lost(0.8, 0.69, 1000)
    assert not validation_accuracy_is_lost(0.8, 0.71, 1000)
    rng = np.random.default_rng(0)
    for rate in (0.6, 0.75, 0.95):
        windows = rng.binomial(64, rate, size=(1000, 10)) / 64
        best = np.maximum.accumulate(windows, 1)
        runs_with_a_fall = [
            any(training_accuracy_fell(b, now, 64) for b, now in zip(top, row[1:], strict=False))
            for row, top in zip(windows, best, strict=True)
        ]
        assert np.mean(runs_with_a_fall) < 0.03


# ---- the course of a run


def test_a_healthy_course_has_no_findings(tmp_path, caplog):
    course = Course(tmp_path, objectives=["dann", "im"], stop_when_refused=True)
    for until, accuracy, discriminator in ((20, 0.4, 0.5), (40, 0.8, 0.9), (70, 0.78, 0.97), (100, 0.85, 0.6)):
        course.go(until, accuracy, [90, 5, 5], discriminator).evaluate(accuracy)
    assert course.state.global_step == 100
    assert course.watch.findings == []
    assert caplog.records == []


def test_collapse_is_named_once_and_stops_the_run_if_it_lasts(tmp_path, caplog):
    for stops in (False, True):
        caplog.clear()
        course = Course(tmp_path, objectives={"im": 0.5}, stop_when_refused=stops)
        course.go(50).go(60, target=[0, 99, 0]).go(70).go(100, target=[0, 99, 0])
        (finding,) = course.watch.findings
        assert (finding.kind, finding.subject, finding.step) == ("collapse", "", 60)
        assert finding.text.startswith("Step 60: the predictions collapse: 100 % of the target's rows are given up, ")
        assert finding.text.endswith(
            "% of the source's are. Unless the target is like that, lower the weight of im (0.5) or the learning rate "
            "(0.01)."
        )
        reason = "since its predictions on the target have collapsed and stay so."
        assert course.watch.stopped == (f"The run stops at step 100 of 100, {reason}" if stops else "")
        messages = [finding.text] + [course.watch.stopped] * stops
        assert [record.getMessage() for record in caplog.records] == messages
    course = Course(tmp_path, objectives={"im": 0.5}, stop_when_refused=True).go(100, target=[0, 99, 0])
    assert course.control.should_training_stop
    assert course.state.global_step == 40  # three windows, of which the first ends at 20


def test_a_falling_source_is_named_in_training(tmp_path):
    course = Course(tmp_path, objectives={}).go(10, 0.9).go(20, 0.5).go(50, 0.9).go(60, 0.85)
    assert course.watch.findings == []
    (finding,) = course.go(80, 0.6).watch.findings
    assert (finding.kind, finding.step) == ("source_training_accuracy", 70)
    assert "fell from 92 to 56 %" in finding.text
    assert finding.text.endswith("the model unlearns the source. Lower the learning rate (0.01).")


@pytest.mark.parametrize(
    ("course_of_accuracy", "findings", "stopped_at"),
    [
        ([0.9, 0.7, 0.9, 0.88, 0.88], 0, None),  # early, it may jump
        ([0.9, 0.9, 0.9, 0.85, 0.9], 1, None),
        ([0.9, 0.9, 0.85, 0.85, 0.9], 1, 80),
        ([0.9, 0.9, 0.9, 0.85, 0.85], 1, 100),
        ([0.9, 0.9, 0.75, 0.9, 0.9], 1, 60),
        ([0.5, 0.6, 0.7, 0.8, 0.9], 0, None),
    ],
)
def test_a_falling_source_is_named_in_evaluation(tmp_path, course_of_accuracy, findings, stopped_at):
    course = Course(tmp_path, stop_when_refused=True)
    for step, accuracy in zip((20, 30, 60, 80, 100), course_of_accuracy, strict=True):
        course.go(step).evaluate(accuracy, medical=1 - step / 100)  # no label of the target is read
    assert kinds(course.run) == ["source_validation_accuracy"] * findings
    assert course.state.global_step == (stopped_at or 100)
    assert bool(course.watch.stopped) == (stopped_at is not None)
    if findings:
        (finding,) = course.watch.findings
        assert finding.subject == "source"
        assert re.search(r"accuracy on source \(validation\) is \d\d %, and was 90 % at step 20", finding.text)


def test_evaluations_beside_training_are_not_counted(tmp_path):
    course = Course(tmp_path).go(60).evaluate(0.9)
    course.evaluate(0.5)  # once more at the same step
    course.run.is_in_train = False
    course.go(80).evaluate(0.5)
    assert course.watch.findings == []


def test_a_discriminator_that_always_wins_is_named(tmp_path):
    course = Course(tmp_path, objectives={"dann": 0.05}, objective_lr_multiplier=7.0).go(50, discriminator=1.0)
    assert course.watch.findings == []
    (finding,) = course.go(100, discriminator=0.99).watch.findings
    assert (finding.kind, finding.subject, finding.step) == ("discriminator_always", "dann", 60)
    assert "the discriminator of dann tells the domains apart in 99 % of the rows" in finding.text
    assert finding.text.endswith("Raise the weight of dann (0.05), or lower objective_lr_multiplier (7).")


def test_a_discriminator_that_never_learns_is_named(tmp_path):
    (finding,) = Course(tmp_path, objectives={"cdan": 0.1}).go(100, discriminator=0.51).watch.findings
    assert (finding.kind, finding.subject, finding.step) == ("discriminator_never", "cdan", 50)
    assert "(51 % of the rows; 50 is chance)" in finding.text
    beaten = Course(tmp_path, objectives={"cdan": 0.1}).go(30, discriminator=0.9).go(100, discriminator=0.5)
    assert beaten.watch.findings == []  # which is what it is for
    silent = Course(tmp_path, objectives={"cdan": 0.0}).go(100, discriminator=0.5)
    assert silent.watch.findings == []


# ---- runs


def test_numbers_are_not_watched(tmp_path):
    data = tiny.domain().remove_columns("label").add_column("label", [i + 0.5 for i in range(24)])
    run = runs.trainer(tmp_path, model=tiny.bert(("score",)), train_dataset=data, max_steps=1)
    run.train()
    assert run.run_watch.findings == []
    assert run.run_watch.batch_counts.sums is None


def test_a_resumed_run_knows_what_the_whole_one_knows(tmp_path, spoiler, caplog):
    """The checkpoint falls between two logs and inside a window; the findings before it are not logged again."""
    settings = {
        "objectives": {"spoiler": {"weight": 20.0, "schedule": "constant"}, "dann": 0.1},
        "save_strategy": "steps",
        "save_steps": 11,
        "eval_dataset": {"source": tiny.domain(seed=2)},
        "eval_strategy": "steps",
        "eval_steps": 5,
    }
    whole, again = made(tmp_path / "whole", **settings), made(tmp_path / "again", **settings)
    whole.train()
    assert whole.run_watch.findings[0].kind == "collapse"
    assert whole.run_watch.findings[0].step < 11
    with caplog.at_level(logging.WARNING, "hftransfer"):
        caplog.clear()
        again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-11"))
    assert not any("collapse" in record.getMessage() for record in caplog.records)
    assert again.run_watch.state == whole.run_watch.state
    np.testing.assert_array_equal(again.run_watch.total.values, whole.run_watch.total.values)
    assert json.loads((tmp_path / "whole/checkpoint-11" / WATCH_FILE).read_text())["window_start"] == 10


def test_a_run_that_stopped_does_not_go_on(tmp_path, spoiler):
    settings = {
        "objectives": {"spoiler": {"weight": 20.0, "schedule": "constant"}},
        "stop_when_refused": True,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 1,
    }
    whole, again = made(tmp_path / "whole", **settings), made(tmp_path / "again", **settings)
    whole.train()
    step = whole.state.global_step
    assert step < 20
    assert whole.run_watch.stopped.startswith(f"The run stops at step {step} of 20, since")
    again.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{step}"))
    assert again.state.global_step == step
    assert again.run_watch.stopped == whole.run_watch.stopped


def test_nothing_waits_for_the_device_between_logs(tmp_path, monkeypatch):
    reads = []
    take = BatchCounts.take
    monkeypatch.setattr(BatchCounts, "take", lambda self: reads.append(1) or take(self))
    made(tmp_path, max_steps=4).train()
    assert len(reads) == 3  # two logs and the one at the end
    sums = BatchCounts(SimpleNamespace(num_processes=1), 3)
    inputs = {"labels": torch.zeros(4, dtype=torch.long, device="meta"), "num_source": 2}
    sums.add(torch.randn(4, 3, device="meta"), inputs)  # no value is read: there is none
    assert sums.sums.device.type == "meta"
