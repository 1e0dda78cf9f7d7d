"""Run watch: names what goes wrong in training when it begins, and stops a run that no rule would take."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from ..data.domain_arguments import is_source_name
from .run_findings import (
    ALWAYS,
    ALWAYS_FROM,
    FALL_FROM,
    FEWEST_ROWS,
    NEAR_END,
    NEVER,
    NEVER_FROM,
    NEVER_ROWS,
    OTHERS_LEFT,
    Finding,
    is_collapsed,
    training_accuracy_fell,
    validation_accuracy_fell,
    validation_accuracy_is_lost,
)
from .step.batch_counts import BatchCounts, Counts
from .trainer_access import joint_model_of

if TYPE_CHECKING:
    from .config import AdaptationConfig
    from .evaluation import Evaluator
    from .setup.preparation import Prepared

logger = logging.getLogger(__name__)
WATCH_FILE = "_adaptation_watch.json"  # in checkpoints only
WINDOW = 0.1  # share of the run that is judged together
LASTING = 3  # windows in a row after which a collapse stays


class WatchedTrainer(Protocol):
    """What the watch asks of an `AdaptationTrainer`, which has one, so that it cannot be imported here."""

    args: AdaptationConfig
    accelerator: Any
    evaluator: Evaluator
    is_in_train: bool
    prepared: Prepared

    def is_world_process_zero(self) -> bool: ...


@dataclass
class Evaluations:
    """Evaluations of one source set: best accuracy and its step, the last step, and how many in a row are below."""

    best: float = 0.0
    best_step: int = 0
    last_step: int = -1
    below: int = 0


@dataclass
class WatchState:
    """State of a `RunWatch`, as plain JSON: a resumed run goes on with it.

    Args:
        window: counts since the last window was judged.
        total: counts since the beginning.
        window_start: step.
        best_accuracy: of the source, in the best window.
        collapsed: windows in a row that are collapsed.
        evaluations: by source set.
        findings: as maps.
        stopped: why the run was stopped, if it was.
    """

    window: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    window_start: int = 0
    best_accuracy: float = 0.0
    collapsed: int = 0
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""


class RunWatch(TrainerCallback):
    """Watch of a run: collapse, a discriminator that always wins or never does, a falling source accuracy.

    Predictions, labels and discriminators' answers of every training batch are counted on the device and read once a
    log. A window of a tenth of the run is judged together, and each evaluation of a source set by itself. A finding is
    logged once, when it begins. With `stop_when_refused` the run stops when the collapse lasts, or when source
    accuracy is so far below its best that a rule that looks at the source would not take the model.

    Args:
        trainer: an `AdaptationTrainer`. Tasks without classes, and with several labels a row, are not watched.

    Attributes:
        findings: so far, in order.
        stopped: why the run was stopped; empty if it was not.

    Example:
        >>> trainer.train()
        >>> trainer.run_watch.findings
        []
    """

    def __init__(self, trainer: WatchedTrainer):
        self.trainer = trainer
        label_space = trainer.prepared.label_space
        self.class_names = tuple(label_space.names)
        self.is_watching = not label_space.is_float
        self.objectives = tuple(joint_model_of(trainer).objectives)
        self.batch_counts = BatchCounts(trainer.accelerator, len(self.class_names), self.objectives)
        self.state = WatchState()
        self.start(None)

    # ---- what the trainer announces

    def start(self, checkpoint: str | None) -> None:
        """Start of a run, with what its checkpoint knew."""
        self.batch_counts.sums = None
        self.state = WatchState()
        path = Path(str(checkpoint)) / WATCH_FILE
        if checkpoint is not None and path.is_file():
            self.state = WatchState(**json.loads(path.read_text(encoding="utf-8")))
        self.window, self.total = self._counts(self.state.window), self._counts(self.state.total)

    def add(self, logits: torch.Tensor, inputs: dict[str, Any]) -> None:
        """One training forward more: what the model said, and what it was given."""
        if self.is_watching:
            objectives = joint_model_of(self.trainer).objectives
            accuracies = {name: getattr(objectives[name], "domain_accuracy", None) for name in self.objectives}
            self.batch_counts.add(logits.detach(), inputs, accuracies)

    def read(self) -> None:
        """Counts, read from the device on every process; before a checkpoint is written, too."""
        counts = self.batch_counts.take()
        if np.isfinite(counts.values).all():  # the guard of finite values says the rest
            self.window, self.total = self.window + counts, self.total + counts

    def write(self, folder: Path) -> None:
        """State of the watch, written to a checkpoint; `read` comes first."""
        self.state.window, self.state.total = self.window.values.tolist(), self.total.values.tolist()
        (folder / WATCH_FILE).write_text(json.dumps(asdict(self.state), indent=1), encoding="utf-8")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state.stopped and args.stop_when_refused:  # the checkpoint of a run that had stopped
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not self.is_watching or not logs or not ("loss" in logs or "train_loss" in logs):
            return
        self.read()
        progress = state.global_step / max(1, state.max_steps)
        is_window = state.global_step - self.state.window_start >= WINDOW * state.max_steps
        if not is_window or self.window.source_labels.sum() < FEWEST_ROWS:
            return
        self._judge_window(state.global_step, progress)
        self.window, self.state.window_start = self._counts([]), state.global_step
        if self.state.collapsed >= LASTING:
            self._stop(state, control, "its predictions on the target have collapsed and stay so")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if not self.is_watching or not metrics or not self.trainer.is_in_train:
            return
        for name, rows in self.trainer.evaluator.sets.items():
            accuracy = metrics.get(f"eval_{name}_accuracy")
            if accuracy is not None and is_source_name(name, self.trainer.prepared.source_names):
                self._judge_evaluation(name, float(accuracy), len(rows) if has_length(rows) else 1, state, control)

    # ---- what it makes of it

    @property
    def findings(self) -> list[Finding]:
        return [Finding(**finding) for finding in self.state.findings]

    @property
    def stopped(self) -> str:
        return self.state.stopped

    def _judge_window(self, step: int, progress: float) -> None:
        window, state = self.window, self.state
        is_collapse = is_collapsed(window, progress)
        state.collapsed = state.collapsed + 1 if is_collapse else 0
        if is_collapse:
            self._add("collapse", "", step, self._describe_collapse())
        accuracy = window.source_accuracy
        if progress > FALL_FROM and training_accuracy_fell(state.best_accuracy, accuracy, window.source_labels.sum()):
            self._add(
                "source_training_accuracy",
                "",
                step,
                f"accuracy on the source's training rows fell from {_percent(state.best_accuracy)} to "
                f"{_percent(accuracy)} %: the model unlearns the source. {self._remedy().capitalize()}.",
            )
        state.best_accuracy = max(state.best_accuracy, accuracy)
        for name in self.objectives:
            self._judge_discriminator(name, step, progress)

    def _describe_collapse(self) -> str:
        window = self.window
        top = int(window.target_predicted.argmax())
        target, source, labels = (
            x[top] / x.sum() for x in (window.target_predicted, window.source_predicted, window.source_labels)
        )
        where = f"{_percent(target)} % of the target's rows" + (
            f" and {_percent(source)} % of the source's" if source >= 1 - OTHERS_LEFT else ""
        )
        return (
            f"the predictions collapse: {where} are given {self.class_names[top]}, which {_percent(labels)} % of the "
            f"source's are. Unless the target is like that, {self._remedy()}."
        )

    def _judge_discriminator(self, name: str, step: int, progress: float) -> None:
        accuracy, always = self.window.discriminator_accuracy(name), self.total.discriminator_accuracy(name)
        objectives, args = joint_model_of(self.trainer).objectives, self.trainer.args
        is_live = float(objectives.weights[name] * objectives.schedules[name](torch.tensor(progress))) > 0
        if accuracy is None or always is None or not is_live:
            return
        rate = f"objective_lr_multiplier ({args.objective_lr_multiplier:g})"
        rows = min(self.total.source_labels.sum(), self.total.target_predicted.sum())
        if progress > ALWAYS_FROM and accuracy >= ALWAYS and self.window.target_predicted.sum() >= FEWEST_ROWS:
            self._add(
                "discriminator_always",
                name,
                step,
                f"the discriminator of {name} tells the domains apart in {_percent(accuracy)} % of the rows: the "
                f"model hides nothing from it. Raise the weight of {name} ({objectives.weights[name]:g}), or "
                f"lower {rate}.",
            )
        if progress >= NEVER_FROM and always <= NEVER and rows >= NEVER_ROWS:
            self._add(
                "discriminator_never",
                name,
                step,
                f"the discriminator of {name} has not told the domains apart since the run began "
                f"({_percent(always)} % of the rows; 50 is chance), so {name} asks nothing of the model. Try another "
                f"{rate}; if that changes nothing, the domains are alike and {name} can go.",
            )

    def _judge_evaluation(self, name: str, accuracy: float, rows: int, state: Any, control: Any) -> None:
        seen = Evaluations(**self.state.evaluations.get(name, {}))
        if seen.last_step == state.global_step:  # twice at one step
            return
        seen.last_step = state.global_step
        progress = state.global_step / max(1, state.max_steps)
        is_below = progress > FALL_FROM and validation_accuracy_fell(seen.best, accuracy, rows)
        seen.below = seen.below + 1 if is_below else 0
        if is_below:
            self._add(
                "source_validation_accuracy",
                name,
                state.global_step,
                f"accuracy on {name} (validation) is {_percent(accuracy)} %, and was {_percent(seen.best)} % at step "
                f"{seen.best_step}: the model unlearns the source. {self._remedy().capitalize()}, or keep the best "
                "checkpoint with load_best_model_at_end.",
            )
        is_lost = is_below and validation_accuracy_is_lost(seen.best, accuracy, rows)
        if is_lost or (seen.below >= 2 and progress >= NEAR_END):
            self._stop(
                state,
                control,
                f"its accuracy on {name} is {_percent(seen.best - accuracy)} points below that of step "
                f"{seen.best_step}",
            )
        if accuracy > seen.best:
            seen.best, seen.best_step = accuracy, state.global_step
        self.state.evaluations[name] = asdict(seen)

    def _add(self, kind: str, subject: str, step: int, text: str) -> None:
        """A finding, logged if it is the first of its kind."""
        if any((x["kind"], x["subject"]) == (kind, subject) for x in self.state.findings):
            return
        finding = Finding(kind, subject, step, f"Step {step}: {text}")
        self.state.findings.append(asdict(finding))
        if self.trainer.is_world_process_zero():
            logger.warning("%s", finding.text)

    def _stop(self, state: Any, control: Any, reason: str) -> None:
        if not self.trainer.args.stop_when_refused or self.state.stopped:
            return
        control.should_training_stop = True
        self.state.stopped = f"The run stops at step {state.global_step} of {state.max_steps}, since {reason}."
        if self.trainer.is_world_process_zero():
            logger.warning("%s", self.state.stopped)

    def _remedy(self) -> str:
        objectives = joint_model_of(self.trainer).objectives
        named = " or ".join(f"{name} ({objectives.weights[name]:g})" for name in self.objectives)
        rate = f"the learning rate ({self.trainer.args.learning_rate:g})"
        return f"lower the weight of {named} or {rate}" if named else f"lower {rate}"

    def _counts(self, values: list[float]) -> Counts:
        none = Counts.none(len(self.class_names), self.objectives)
        return Counts(np.array(values), none.classes, none.objectives) if len(values) == len(none.values) else none


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
