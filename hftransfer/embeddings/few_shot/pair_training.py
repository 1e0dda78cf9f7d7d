"""Pair training: an encoder tuned on pairs of labelled rows, by the cosines of their features; resumable."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, mse_loss
from transformers import get_linear_schedule_with_warmup

from ...models.content_identity import hash_of, model_identity, processing_identity
from ...setting_ranges import COUNT, FROM_ZERO, POSITIVE, SEED, Bounds
from ...settings import read_choice
from ..feature_extractor import FeatureExtractor
from ..frozen_backbone import FrozenBackbone
from ..input_rows import InputRows
from ..pass_progress import PassProgress
from ..training_state import (
    WEIGHTS,
    optimizer_tensors,
    read_training_state,
    restore_optimizer,
    under,
    write_training_state,
)
from .pair_sampling import SAMPLINGS, Pairs, Sampling, draw_pairs, kept_pairs

MAX_NORM = 1.0  # to which gradients are clipped, as transformers' Trainer does
IMAGE_BYTES = 2**30  # of decoded images that are kept
STATE = "pair_training.safetensors"
BOUNDS = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": POSITIVE,
    "warmup": Bounds(0, 1, below=True, hint="It is a share of all steps."),
    "weight_decay": FROM_ZERO,
    "max_pairs": COUNT,
    "save_steps": COUNT,
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
        save_steps: steps between two states that a run which was stopped goes on from, where there is a folder for
            them.
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
    save_steps: int = 50
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
        earlier_steps: of them, made by a run that was stopped.
    """

    model: Any
    steps: int
    losses: np.ndarray
    earlier_steps: int = 0


def train_on_pairs(
    extractor: FeatureExtractor,
    inputs: InputRows,
    classes: np.ndarray,
    settings: PairSettings | None = None,
    progress: bool = True,
    folder: str | os.PathLike[str] | None = None,
) -> PairTraining:
    r"""Copy of an encoder, tuned so that rows of one class have like features and rows of two classes have not.

    \[L = \frac1n \sum_i \big(\cos(f(x_i), f(x_i')) - [y_i = y_i']\big)^2\]

    over the pairs of a batch. A row that is in several pairs of a batch is run once. Batch norms keep their running
    statistics, which a handful of rows could only spoil; dropout is the model's own. The given model stays as it is.

    A run that was killed and started again with the same `folder` gives what an undisturbed one gives, bit for bit on
    the same CPU.

    Args:
        extractor: says which model, and how its hidden states become features.
        inputs: the labelled rows, few enough to be in memory.
        classes: (n,) class of each row.
        settings: the usual ones when `None`.
        progress: show how far it is.
        folder: for the state of a run, written every `save_steps` steps and at the end; nothing is kept when `None`.

    Raises:
        ValueError: there is no pair, a row that cannot be read, or `folder` holds the state of another run.
        FloatingPointError: a loss or weights that are not finite.
        DiskFullError: there is no room for the state.

    Paper: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022 (SetFit).
    """
    settings = settings or PairSettings()
    pairs_of_epoch = sum(kept_pairs(classes, settings.sampling, settings.max_pairs))
    steps_of_epoch = math.ceil(pairs_of_epoch / settings.batch_size)
    steps = settings.epochs * steps_of_epoch
    encoder = extractor.trainable(inputs.kind)
    rows = EncodedRows(encoder, inputs)
    run = _Run(encoder, settings, steps)
    done = 0
    pairs: Pairs | None = None
    with _training(encoder, settings.seed):
        if folder is not None:
            run.resume(Path(folder) / STATE, _identity(rows, classes, settings))
            epochs, batches = divmod(run.step, steps_of_epoch)
            done = epochs * pairs_of_epoch + batches * settings.batch_size
        left = settings.epochs * pairs_of_epoch - done
        with PassProgress(left, progress, what="training on pairs", unit="pairs") as shown:
            while run.step < steps:
                epoch, place = divmod(run.step, steps_of_epoch)
                if pairs is None or not place:
                    pairs = draw_pairs(classes, settings.sampling, settings.max_pairs, settings.seed + epoch)
                batch = pairs.part(place * settings.batch_size, (place + 1) * settings.batch_size)
                run.advance(pair_loss_of(rows, batch))
                shown.advance(len(batch))
                if run.step % settings.save_steps == 0 or run.step == steps:
                    run.save()
    return PairTraining(encoder.model.eval().requires_grad_(False), steps, np.array(run.losses), run.earlier_steps)


class _Run:
    """State of a training run."""

    def __init__(self, encoder: FrozenBackbone, settings: PairSettings, steps: int):
        self.model, self.device = encoder.model, encoder.device
        parameters = self.model.requires_grad_(True).parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        warmup_steps = math.ceil(settings.warmup * steps)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup_steps, steps)
        self.losses: list[float] = []
        self.earlier_steps = 0
        self.path: Path | None = None
        self.identity = ""

    @property
    def step(self) -> int:
        return len(self.losses)

    def advance(self, loss: torch.Tensor) -> None:
        """One step."""
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The loss of step {self.step + 1} of pair training is {value}: lower learning_rate."
            )
        self.losses.append(value)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.schedule.step()

    def save(self) -> None:
        """State, where it is kept: weights, optimizer, random numbers and losses, whose number is the position."""
        if self.path is None:
            return
        tensors: dict[str, torch.Tensor] = {}
        tensors |= {f"{WEIGHTS}{name}": value for name, value in self.model.named_parameters()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"random.{name}": value for name, value in _random_states(self.device).items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        write_training_state(self.path, self.identity, tensors, {"schedule": json.dumps(self.schedule.state_dict())})

    def resume(self, path: Path, identity: str) -> None:
        """State of an earlier run, where there is one; later ones are kept there too."""
        self.path, self.identity = path, identity
        found = read_training_state(path, identity, "on other rows, from another encoder or with other settings")
        if found is None:
            return
        tensors, facts = found
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                value.copy_(tensors[f"{WEIGHTS}{name}"])
        restore_optimizer(self.optimizer, tensors)
        self.schedule.load_state_dict(json.loads(facts["schedule"]))
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        _restore_random_states(self.device, under(tensors, "random."))
        self.losses = tensors["losses"].tolist()
        self.earlier_steps = self.step


class EncodedRows:
    """Labelled rows, encoded once; images are decoded once too, where they fit into memory.

    Args:
        encoder: that reads them.
        inputs: the rows.
    """

    def __init__(self, encoder: FrozenBackbone, inputs: InputRows):
        self.encoder = encoder
        self.rows: list[dict[str, Any]] = []
        self.keys: list[str] = []  # of what is in them
        for chunk in inputs.chunks():
            self.keys.append(chunk.key)
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


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """States of torch's random numbers that dropout is drawn from."""
    states = {"cpu": torch.random.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state(device)
    return states


def _restore_random_states(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    torch.random.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states["device"], device)


def _identity(rows: EncodedRows, classes: np.ndarray, settings: PairSettings) -> str:
    """Hash of all that a run depends on, before its first step."""
    encoder = rows.encoder
    facts = {
        "settings": {name: value for name, value in asdict(settings).items() if name != "save_steps"},
        "encoder": model_identity(encoder.model),
        "processor": processing_identity(encoder.processing),
        "poolings": encoder.poolings,
        "max_length": encoder.max_length,
        "device": encoder.device.type,
        "rows": rows.keys,
        "classes": classes.tolist(),
    }
    return hash_of(facts)
