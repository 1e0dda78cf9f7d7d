"""Training of projections on cached features: a plain loop, resumable, stopped early by held-out classes."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from ...messages import nearest
from ...objectives.pair_loss import clip_loss, siglip_loss
from ..training_state import (
    WEIGHTS,
    optimizer_tensors,
    read_training_state,
    restore_optimizer,
    under,
    write_training_state,
)
from .image_text_pairs import ImageTextPairs
from .projections import Projections, ridge_projections

Loss = Literal["clip", "siglip"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
STATE = "projection_training.safetensors"
BEST = "best."  # in its tensors' names
COUNTS = {"steps": 0, "batch_size": 2, "chunk": 0, "evaluation_steps": 1, "patience": 1, "width": 0, "seed": 0}
POSITIVE = ("learning_rate", "ridge")


@dataclass(frozen=True)
class ProjectionSettings:
    """Settings of the training of projections.

    Args:
        loss: `"clip"` or `"siglip"`.
        steps: at most; 0 keeps the ridge regression that training starts from.
        batch_size: pairs a step.
        chunk: anchors at a time in the loss; 0 takes all. Memory is then linear in the batch.
        learning_rate, weight_decay: of AdamW.
        ridge: of the start; see `ridge_projections`.
        width: of the common space; that of the text features when 0.
        evaluation_steps: steps between two evaluations on the held-out classes.
        patience: evaluations without a gain before training stops.
        seed: of the draws.

    Raises:
        ValueError: a value out of its range.

    Example:
        >>> ProjectionSettings(loss="siglip", steps=50).batch_size
        256
    """

    loss: Loss = "clip"
    steps: int = 200
    batch_size: int = 256
    chunk: int = 0
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    ridge: float = 1.0
    width: int = 0
    evaluation_steps: int = 10
    patience: int = 5
    seed: int = 42

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(
                f"loss={self.loss!r} must be one of {', '.join(LOSSES)}.{nearest(str(self.loss), LOSSES)}"
            )
        for name, low in COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name}={value!r} must be a whole number, at least {low}.")
        for name in (*POSITIVE, "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name}={value!r} must be a finite number, at least 0.")
            if name in POSITIVE and value == 0:
                raise ValueError(f"{name}={value!r} must be positive.")


@dataclass(frozen=True)
class TrainedProjections:
    """Projections and how they came about.

    Attributes:
        projections: of the best evaluation, or of the last step without one.
        step: that they are of.
        scores: by step; empty without `score`.
    """

    projections: Projections
    step: int
    scores: dict[int, float]


def train_projections(
    pairs: ImageTextPairs,
    settings: ProjectionSettings | None = None,
    score: Callable[[Projections], float] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> TrainedProjections:
    """Projections trained on cached features, from a ridge regression on.

    The draws of a step depend on the seed and the step alone. So a run that was killed and started again with the same
    `folder` gives what an undisturbed one gives, bit for bit on the same CPU.

    Args:
        pairs: see `ImageTextPairs`.
        settings: the usual ones when `None`.
        score: of projections, the larger the better: decides which step is kept, and when to stop. The start is
            scored too, so training never ends below it.
        folder: for the state of a run, written at each evaluation; nothing is kept when `None`.

    Raises:
        ValueError: `folder` holds the state of a run on other pairs or with other settings.
        FloatingPointError: the loss or a score is not finite.
    """
    settings = settings or ProjectionSettings()
    projections = ridge_projections(pairs, settings.width, settings.ridge)
    run = _Run(projections, settings)
    state = None if folder is None else Path(folder) / STATE
    identity = _identity(pairs, settings)
    if state is not None:
        run.resume(state, identity)
    images, texts = torch.tensor(pairs.images).float(), torch.tensor(pairs.texts).float()
    groups = torch.from_numpy(pairs.image_groups.astype(np.int64))
    while True:
        if score is not None and (run.step % settings.evaluation_steps == 0 or run.step == settings.steps):
            run.evaluate(score)
        if run.step % settings.evaluation_steps == 0 and state is not None:
            run.save(state, identity)
        if run.step >= settings.steps or run.is_over():
            break
        chosen, their_texts = pairs.draw(settings.batch_size, np.random.default_rng([settings.seed, run.step]))
        run.advance(images[chosen], texts[their_texts], groups[chosen])
    return run.result(score is not None)


class _Run:
    """State of a training run."""

    def __init__(self, projections: Projections, settings: ProjectionSettings):
        self.projections, self.settings, self.step = projections, settings, 0
        self.best, self.best_step = copy.deepcopy(projections.state_dict()), 0
        self.scores: dict[int, float] = {}
        decayed = [projections.visual.weight, projections.text.weight]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": [projections.logit_scale, projections.logit_bias], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
        )

    def advance(self, images: torch.Tensor, texts: torch.Tensor, groups: torch.Tensor) -> None:
        """One step."""
        projections, settings = self.projections, self.settings
        u, v, scale = projections.images(images), projections.texts(texts), projections.scale()
        if settings.loss == "clip":
            loss = clip_loss(u, v, scale, groups, settings.chunk)
        else:
            loss = siglip_loss(u, v, scale, projections.logit_bias, groups, settings.chunk)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss of step {self.step} is {loss.item()}: lower learning_rate.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1

    def evaluate(self, score: Callable[[Projections], float]) -> None:
        """Score of this step, and whether it is the best."""
        if self.step in self.scores:  # of a run that was resumed here
            return
        with torch.no_grad():
            value = float(score(self.projections))
        if not math.isfinite(value):
            raise FloatingPointError(f"The score of step {self.step} is {value}.")
        if not self.scores or value > self.scores[self.best_step]:
            self.best, self.best_step = copy.deepcopy(self.projections.state_dict()), self.step
        self.scores[self.step] = value

    def is_over(self) -> bool:
        """Whether the last evaluations brought nothing."""
        return sum(step > self.best_step for step in self.scores) >= self.settings.patience

    def result(self, chosen: bool) -> TrainedProjections:
        """Projections of the best step, or of the last where nothing chooses."""
        if chosen:
            self.projections.load_state_dict(self.best)
        step = self.best_step if chosen else self.step
        return TrainedProjections(self.projections.eval().requires_grad_(False), step, self.scores)

    def save(self, path: Path, identity: str) -> None:
        """State, written by one rename."""
        tensors = {f"{WEIGHTS}{name}": value for name, value in self.projections.state_dict().items()}
        tensors |= {f"{BEST}{name}": value for name, value in self.best.items()}
        facts = {"step": str(self.step), "best_step": str(self.best_step), "scores": json.dumps(self.scores)}
        write_training_state(path, identity, tensors | optimizer_tensors(self.optimizer), facts)

    def resume(self, path: Path, identity: str) -> None:
        """State of an earlier run, where there is one."""
        found = read_training_state(path, identity, "on other pairs or with other settings")
        if found is None:
            return
        tensors, facts = found
        self.projections.load_state_dict(under(tensors, WEIGHTS))
        self.best = under(tensors, BEST)
        self.step, self.best_step = int(facts["step"]), int(facts["best_step"])
        self.scores = {int(step): value for step, value in json.loads(facts["scores"]).items()}
        restore_optimizer(self.optimizer, tensors)


def _identity(pairs: ImageTextPairs, settings: ProjectionSettings) -> str:
    """Hash of all that a run depends on."""
    digest = hashlib.blake2b(json.dumps(asdict(settings), sort_keys=True).encode(), digest_size=16)
    assert pairs.weights is not None
    for array in (pairs.images, pairs.image_groups, pairs.texts, pairs.text_groups, pairs.weights):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
