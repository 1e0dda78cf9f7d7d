"""Held-out scores: what a model in pre-training loses on texts that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..models.module_mode import module_mode
from .pretraining_kind import PretrainingKind
from .sentence_contrast import SentenceContrast
from .sentence_measures import CONTRAST_SUMS, contrast_scores, contrast_sums
from .wrapped_model import WrappedModel


def held_out_scores(
    model: WrappedModel,
    kind: PretrainingKind,
    batches: Sequence[dict[str, Any]],
    seed: int,
    device: torch.device,
    share: slice = slice(None),
    add_up: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> dict[str, float]:
    """Scores on held-out texts, the same draws of masks, deletions and dropout each time.

    Args:
        model: in training; it is as it was afterwards, and so are the random states.
        kind: of the run.
        batches: from `held_out_batches`.
        seed: of the dropout under which texts are read twice.
        device: of the model.
        share: the batches of this process.
        add_up: sums over processes.

    Returns:
        `loss`: that of what is masked, or the weighted sum of those of sentences where nothing is.
        The score of the kind, made of it; `sentence_contrast`, `alignment` and `uniformity` with the contrast;
        `sentence_denoising`, a mean over tokens: each where the model is trained on it.
    """
    names, contrast = list(model.measured), getattr(model, "contrast", None)
    sums = torch.zeros(2 * len(names) + CONTRAST_SUMS, dtype=torch.float64, device=device)
    for number in range(*share.indices(len(batches))):
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batches[number].items()}
        counts = model.count_items(batch)
        means: dict[str, float] = {}
        if names:
            with module_mode(model), torch.no_grad():
                losses = model(**batch).losses.tolist()
            means = dict(zip(model.loss_names_in_evaluation, losses, strict=True))
        pairs = ((means[name] * counts[at], float(counts[at])) for name, at in model.measured.items())
        parts = [value for pair in pairs for value in pair]
        sums[: len(parts)] += torch.tensor(parts, dtype=torch.float64, device=device)
        if contrast is not None:
            sums[len(parts) :] += _two_readings(model, contrast, batch, seed + number, device)
    sums = add_up(sums)
    scores = {name: float(sums[2 * i] / sums[2 * i + 1].clamp_min(1)) for i, name in enumerate(names)}
    if contrast is not None:
        scores |= contrast_scores(sums[2 * len(names) :])
    masked = next((name for name, at in model.measured.items() if at == 0), None)
    if masked is None:
        loss = sum(weight * scores.get(name, 0.0) for name, weight in model.sentence_weights.items())
        return {"loss": loss, **scores}
    loss = scores.pop(masked)
    return {"loss": loss, kind.score: kind.read(loss), **scores}


def _two_readings(
    model: Any, contrast: SentenceContrast, batch: dict[str, Any], seed: int, device: torch.device
) -> torch.Tensor:
    """(5,) `contrast_sums` of a batch, read twice under dropout that the seed decides."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), module_mode(model, training=True), torch.no_grad():
        torch.manual_seed(seed)
        first, second = (model.sentence_vectors(batch, contrast.pooling) for _ in range(2))
    return contrast_sums(first, second, contrast.temperature)
