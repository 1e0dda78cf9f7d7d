"""Typed access to a running trainer: its config, its joint model, the optimizer that was passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from ..data.pairing import PairedBatchSampler
from .config import AdaptationConfig
from .step.joint_model import JointModel

if TYPE_CHECKING:
    from transformers import Trainer


class RunningTrainer(Protocol):
    """What callbacks ask of a trainer; `AdaptationTrainer` imports them, so they cannot import it."""

    accelerator: Any
    model: Any
    pair_sampler: PairedBatchSampler | None
    is_deepspeed_enabled: bool


def config_of(trainer: Trainer) -> AdaptationConfig:
    """The config of an `AdaptationTrainer`."""
    return cast(AdaptationConfig, trainer.args)


def joint_model_of(trainer: Any) -> JointModel:
    """The joint model of a trainer, out of whatever DDP, FSDP or `torch.compile` have wrapped around it."""
    model = trainer.model
    if not isinstance(model, JointModel) or "_orig_mod" in vars(model):  # compiled by regions it is a copy of itself
        model = trainer.accelerator.unwrap_model(model, keep_torch_compile=False)
    return cast(JointModel, model)


def passed_optimizer_of(trainer: Trainer) -> str | None:
    """The class of the optimizer that the user passed to an `AdaptationTrainer`; `None` if it makes its own."""
    name: str | None = trainer.passed_optimizer  # type: ignore[attr-defined]
    return name


def findings_of(trainer: Trainer) -> list[str]:
    """What went wrong in training so far, a sentence or two each."""
    return [finding.text for finding in trainer.run_watch.findings]  # type: ignore[attr-defined]


def label_shift_of(trainer: Trainer) -> str:
    """Estimator of a run's class weights and whether they are to be trusted, in one sentence; empty without."""
    name, verdict = config_of(trainer).label_shift, trainer.label_shift_verdict  # type: ignore[attr-defined]
    if name == "none" or verdict is None:
        return "" if name == "none" else name
    return f"{name}: {verdict.text[0].lower()}{verdict.text[1:].rstrip('.')}"
