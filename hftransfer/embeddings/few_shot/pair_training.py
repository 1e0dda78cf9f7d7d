"""Pair training: an encoder tuned on pairs of labelled rows, by the cosines of their features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, mse_loss
from transformers import get_linear_schedule_with_warmup

from ...setting_ranges import COUNT, FROM_ZERO, POSITIVE, SEED, Bounds
from ...settings import read_choice
from ..feature_extractor import FeatureExtractor
from ..frozen_backbone import FrozenBackbone
from ..input_rows import InputRows
from ..pass_progress import PassProgress
from .pair_sampling import SAMPLINGS, Pairs, Sampling, draw_pairs, kept_pairs

MAX_NORM = 1.0  # to which gradients are clipped, as transformers' Trainer does
IMAGE_BYTES = 2**30  # of decoded images that are kept
BOUNDS = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": POSITIVE,
    "warmup": Bounds(0, 1, below=True, hint="It is a share of all steps."),
    "weight_decay": FROM_ZERO,
    "max_pairs": COUNT,
    "seed": SEED,
}


@dataclass(frozen=True)
class PairSettings:
    """Settings of pair training; the defaults are SetFit's.

    Args:
        sampling: `"oversampling"` (as many pairs of one class as of two, the fewer repeated), `"undersampling"` (as
            many of both as there are of the fewer) or `"unique"` (each pair once).
        epochs: each draws its pairs anew.
        batch_size: pairs of a step.
        learning_rate: of AdamW, for the whole encoder; it falls to 0 linearly.
        warmup: share of the steps in which it rises.
        weight_decay: of AdamW.
        max_pairs: of an epoch, at most: of 200 rows there are some 20,000 pairs.
        seed: of pairs and dropout.

    Raises:
        ValueError: a value out of its range.

    Example:
        >>> PairSettings(sampling="unique").learning_rate
        2e-05
    """

    sampling: Sampling = "oversampling"
    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_pairs: int = 10_000
    seed: int = 42

    def __post_init__(self) -> None:
        read_choice("sampling", self.sampling, SAMPLINGS)
        for field in fields(self):
            if field.name in BOUNDS:
                object.__setattr__(self, field.name, BOUNDS[field.name].read(field.name, getattr(self, field.name)))


@dataclass(frozen=True)
class PairTraining:
    """Tuned encoder and how it came about.

    Attributes:
        model: on the device that it was trained on, in single precision.
        steps: of the optimizer.
        losses: (steps,) mean loss of each.
    """

    model: Any
    steps: int
    losses: np.ndarray


def train_on_pairs(
    extractor: FeatureExtractor,
    inputs: InputRows,
    classes: np.ndarray,
    settings: PairSettings | None = None,
    progress: bool = True,
) -> PairTraining:
    r"""Copy of an encoder, tuned so that rows of one class have like features and rows of two classes have not.

    \[L = \frac1n \sum_i \big(\cos(f(x_i), f(x_i')) - [y_i = y_i']\big)^2\]

    over the pairs of a batch. A row that is in several pairs of a batch is run once. Batch norms keep their running
    statistics, which a handful of rows could only spoil; dropout is the model's own. The given model stays as it is.

    Args:
        extractor: says which model, and how its hidden states become features.
        inputs: the labelled rows, few enough to be in memory.
        classes: (n,) class of each row.
        settings: the usual ones when `None`.
        progress: show how far it is.

    Raises:
        ValueError: there is no pair, or a row that cannot be read.
        FloatingPointError: a loss that is not finite.

    Paper: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022 (SetFit).
    """
    settings = settings or PairSettings()
    pairs_of_epoch = sum(kept_pairs(classes, settings.sampling, settings.max_pairs))
    steps_of_epoch = math.ceil(pairs_of_epoch / settings.batch_size)
    steps = settings.epochs * steps_of_epoch
    encoder = extractor.trainable(inputs.kind)
    rows = EncodedRows(encoder, inputs)
    parameters = list(encoder.model.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(settings.warmup * steps), steps)
    losses: list[float] = []
    with (
        _training(encoder, settings.seed),
        PassProgress(settings.epochs * pairs_of_epoch, progress, what="training on pairs", unit="pairs") as shown,
    ):
        for epoch in range(settings.epochs):
            pairs = draw_pairs(classes, settings.sampling, settings.max_pairs, settings.seed + epoch)
            for start in range(0, pairs_of_epoch, settings.batch_size):
                batch = pairs.part(start, start + settings.batch_size)
                loss = pair_loss_of(rows, batch)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    raise FloatingPointError(
                        f"The loss of step {len(losses)} of pair training is {losses[-1]}: lower learning_rate."
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
                optimizer.step()
                schedule.step()
                shown.advance(len(batch))
    return PairTraining(encoder.model.eval().requires_grad_(False), steps, np.array(losses))


class EncodedRows:
    """Labelled rows, encoded once; images are decoded once too, where they fit into memory.

    Args:
        encoder: that reads them.
        inputs: the rows.
    """

    def __init__(self, encoder: FrozenBackbone, inputs: InputRows):
        self.encoder = encoder
        self.rows: list[dict[str, Any]] = []
        for chunk in inputs.chunks():
            self.rows += encoder.encode(chunk.values, chunk.names())[0]
        self._images: dict[str, torch.Tensor] | None = None
        if encoder.kind == "image":
            sizes = [tensor.nbytes for tensor in encoder.stack(self.rows[:1]).values()]
            if sum(sizes) * len(self.rows) <= IMAGE_BYTES:
                self._images = encoder.stack(self.rows)

    def features(self, numbers: np.ndarray) -> torch.Tensor:
        """(rows, width) features of some of the rows, in the mode that the encoder is in.

        Args:
            numbers: of the rows.
        """
        chosen = [self.rows[number] for number in numbers]
        if self._images is None:
            batch = self.encoder.stack(chosen)
        else:
            batch = {key: tensor[torch.from_numpy(numbers)] for key, tensor in self._images.items()}
        (features,) = self.encoder.pooled(batch, chosen)
        return features


def pair_loss_of(rows: EncodedRows, pairs: Pairs) -> torch.Tensor:
    """Cosine-similarity loss of pairs, (); each row that occurs is run once.

    Args:
        rows: all of them.
        pairs: of some of them.
    """
    numbers, places = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    u, v = rows.features(numbers)[torch.from_numpy(places)].chunk(2)
    return mse_loss(cosine_similarity(u, v), torch.from_numpy(pairs.same).to(u))


@contextmanager
def _training(encoder: FrozenBackbone, seed: int) -> Iterator[None]:
    """Training mode with dropout by the seed; the process's own random state is as it was afterwards."""
    kind = encoder.device.type
    kept = torch.random.fork_rng([]) if kind == "cpu" else torch.random.fork_rng([encoder.device], device_type=kind)
    with encoder.running(training=True), kept:
        torch.manual_seed(seed)
        yield
