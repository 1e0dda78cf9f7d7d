"""Forwards of a model that follows a stream: adapted and start predictions, their mean, gradients, the Fisher
information."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ..messages import first_line, shown
from ..models.module_mode import module_mode
from .adapted_weights import AdaptedWeights, only_these_train
from .mixed_statistics import mixed_statistics
from .reliable_rows import class_mix
from .stream_inputs import read_logits, stream_inputs
from .stream_settings import StreamSettings


class StreamForwards:
    """Forwards of a model with adapted weights.

    Args:
        model: the classifier.
        weights: its adapted weights.
        settings: of the stream.
        mixes: whether batch norms use mixed statistics.
    """

    def __init__(self, model: nn.Module, weights: AdaptedWeights, settings: StreamSettings, mixes: bool):
        self.model, self.weights, self.settings, self.mixes = model, weights, settings, mixes

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @contextmanager
    def running(self, train: bool) -> Iterator[None]:
        """Evaluation mode, gradients of the adapted weights alone, the caller's modes and flags as they were after.

        Under the caller's autocast, weights are cast anew in each forward: those that are cached would be old ones.
        """
        kind = self.device.type
        precision: Any = nullcontext()
        if torch.is_autocast_enabled(kind):
            precision = torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(train),
            precision,
            module_mode(self.model),
            only_these_train(self.model, self.weights.parameters),
        ):
            yield

    def forward(self, inputs: dict[str, Any], design_effect: float = 1.0) -> torch.Tensor:
        """(n, K) log-probabilities of the adapted model.

        Args:
            inputs: of the model.
            design_effect: a batch's rows count as so many times fewer in mixed statistics.
        """
        prior = self.settings.prior_rows * design_effect if self.settings.batch_norm == "mixed" else 0.0
        with mixed_statistics(self.model, prior) if self.mixes else nullcontext():
            return self._log_p(inputs)

    def start_prediction(self, inputs: dict[str, Any]) -> torch.Tensor:
        """(n, K) log-probabilities of the start weights, on running statistics."""
        with torch.no_grad(), self.weights.as_at_start():
            log_p = self._log_p(inputs)
        if not torch.isfinite(log_p).all():
            rows = (~torch.isfinite(log_p).all(1)).nonzero().flatten().tolist()
            raise FloatingPointError(
                f"The model's logits are not finite before any adaptation, on row {rows[0]} of the batch: look at its "
                "inputs."
            )
        return log_p

    def _log_p(self, inputs: dict[str, Any]) -> torch.Tensor:
        """(n, K) log-probabilities of the model as it stands."""
        rows = next(len(value) for value in inputs.values() if value.ndim)
        held = ", ".join(f"{name} {tuple(x.shape)} of {x.dtype}" for name, x in inputs.items())
        refusal = f"{type(self.model).__name__} cannot read the batch ({held}): "
        remedy = "Give it what the model's own tokenizer or image processor makes of rows."
        try:
            outputs = self.model(**inputs)
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{refusal}{first_line(error)}. {remedy}") from error
        logits = read_logits(outputs)
        if len(logits) != rows:
            raise ValueError(f"{refusal}it gives {len(logits)} predictions for {rows} rows. {remedy}")
        return logits.log_softmax(1)

    def mixed(self, log_p: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
        """Log of the mean of both probabilities, by `start_share` and `class_mix`."""
        if start is None or not self.settings.predicts_with_start:
            return log_p
        share = log_p.new_tensor(self.settings.start_share)
        if self.settings.class_mix:
            share = share + (1 - share) * (1 - class_mix(log_p))
        return torch.logaddexp((1 - share).log() + log_p, share.log() + start)

    def gradients(self, loss: torch.Tensor) -> dict[str, torch.Tensor] | None:
        """Gradients of the adapted weights, in single precision; `None` where one is not finite."""
        parameters = self.weights.parameters
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = {
            name: torch.zeros_like(self.weights.values[name]) if g is None else g.float()
            for name, g in zip(parameters, found, strict=True)
        }
        return gradients if all(bool(torch.isfinite(g).all()) for g in gradients.values()) else None


def estimate_fisher(forwards: StreamForwards, batches: Iterable[Any]) -> dict[str, torch.Tensor]:
    """Fisher information of each adapted weight: the mean over batches of the squared gradient of the
    cross-entropy with the predicted classes."""
    total = {name: torch.zeros_like(value) for name, value in forwards.weights.values.items()}
    count = 0
    if not isinstance(batches, Iterable):
        raise TypeError(f"fisher_batches={shown(batches)} must be a list of batches, or whatever yields them.")
    for batch in batches:
        inputs, _ = stream_inputs(forwards.model, batch, forwards.device)
        with forwards.running(train=True):
            log_p = forwards.forward(inputs)
            gradients = forwards.gradients(-log_p.max(1).values.mean())
        if gradients is None:
            raise FloatingPointError(f"fisher_batches: gradients on batch {count} are not finite.")
        total = {name: value + gradients[name].square() for name, value in total.items()}
        count += 1
    if not count:
        raise ValueError("fisher_batches is empty: give unlabelled batches like those of training.")
    return {name: value / count for name, value in total.items()}
