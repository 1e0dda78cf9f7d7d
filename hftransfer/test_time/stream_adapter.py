"""`TestTimeAdapter`: a classifier that follows a stream of unlabelled batches, and remembers where it started."""

from __future__ import annotations

import copy as copying
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..messages import first_line, shown
from ..models.batch_norm_statistics import batch_norms
from ..models.content_identity import model_identity
from .adapted_weights import AdaptedWeights, find_parameters
from .adapter_state import COUNTS, apply_state, check_finite, collect_state
from .reliable_rows import SelectedRows, mean_entropy, select_rows, weighted_entropy
from .stream_forwards import StreamForwards, estimate_fisher
from .stream_inputs import load_stream_model, stream_inputs
from .stream_monitor import StreamMonitor
from .stream_settings import Method, StreamSettings, read_settings
from .stream_state import read_state, write_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestTimePrediction:
    """Prediction for a batch, made before the step that the batch leads to.

    Attributes:
        logits: (n, K) log-probabilities, single precision.
        predictions: (n,) class ids.
        learned_rows: rows of the batch that were learned from.
        reset: reason for which the adapter started again after this batch; `None` where it did not.

    Example:
        >>> TestTimeAdapter(model).adapt_and_predict(batch).predictions.shape
        torch.Size([2])
    """

    __test__ = False  # for pytest, which collects classes of such names

    logits: torch.Tensor
    predictions: torch.Tensor
    learned_rows: int = 0
    reset: str | None = None


class TestTimeAdapter:
    r"""Adaptation of a classifier at test time, batch by batch, without labels and without source rows.

    Every batch is predicted first. Then the weights of the normalisation layers (or of a LoRA adapter) take a step
    that lowers the entropy of the predictions of some of its rows,

    \[\min_\theta\; \frac{1}{|S|}\sum_{i\in S} w_i H(p_\theta(x_i)) + \frac{\alpha}{2}\lVert\theta-\theta_0\rVert^2,\]

    everything else stays frozen, and modules run in evaluation mode. Methods are values of `StreamSettings`:

    - `"stable"`, the default: EATA's and SAR's safeguards together, and ours. Rows are learned from only where the
      start weights predict the same class. The step is pulled to the start and stays near it. Predictions are the
      mean of the adapted model's and the start's, or the start's where a batch holds few classes. The adapter starts
      again when its predictions fall together to fewer classes than the start's. Where batches hold rows alike, as on
      a stream that comes class by class, they count as fewer. A batch costs three or four forward and two
      backward passes.
    - `"tent"`: Wang et al. 2021. All rows, Adam, batch statistics, no safeguard.
    - `"eata"`: Niu et al. 2022. Reliable rows that are not redundant, weighted; with `fisher_batches` the anchor.
    - `"sar"`: Niu et al. 2023. A sharpness-aware step on reliable rows, and a reset on a very low entropy.
    - `"statistics"`: batch norms use mixed statistics; nothing is learned.

    Adapted weights, averages and counts are the state; `save` and `load` continue a stream bit for bit on the same
    machine. Each process adapts by itself. Columns `labels`, `label`, `domain` and `num_source` of a batch are never
    read.

    Args:
        model: a loaded classifier, plain or PEFT-wrapped, or the folder or Hub id of a saved one.
        method: see above.
        fisher_batches: unlabelled batches like those of training, on which the Fisher information is estimated.
        copy: adapt a copy; `False` adapts the model that is given, and `reset` puts it back.
        device: to move the copy to; where the model is when `None`.
        **settings: in place of the method's values: fields of `StreamSettings`.

    Raises:
        ValueError: an unknown method or setting, a value out of its range, settings without effect on this model, or a
            model that predicts no classes.
        TypeError: no model.
        FileNotFoundError: no such folder.

    Paper: Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021; Niu et al., Efficient
    Test-Time Model Adaptation without Forgetting, ICML 2022; Niu et al., Towards Stable Test-Time Adaptation in
    Dynamic Wild World, ICLR 2023; Schneider et al., Improving robustness against common corruptions by covariate shift
    adaptation, NeurIPS 2020; Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022 (`restore`).

    Example:
        >>> adapter = TestTimeAdapter(model)
        >>> for stream_batch in (batch, batch):
        ...     prediction = adapter.adapt_and_predict(stream_batch)
        >>> prediction.logits.shape, adapter.facts["batches"]
        (torch.Size([2, 3]), 2)
        >>> adapter.save("stream.safetensors")
        >>> adapter.reset()
    """

    __test__ = False  # for pytest, which collects classes of such names

    @torch.inference_mode(False)
    def __init__(
        self,
        model: Any,
        method: Method = "stable",
        *,
        fisher_batches: Iterable[Any] | None = None,
        copy: bool = True,
        device: Any = None,
        **settings: Any,
    ):
        if not isinstance(copy, bool):
            raise ValueError(f"copy={copy!r} must be true or false.")
        self.method = method
        self.settings: StreamSettings = read_settings(method, settings, fisher_batches is not None)
        loaded = load_stream_model(model)
        if not copy and device is not None:
            raise ValueError(f"device={str(device)!r} with copy=False would move your model: move it there yourself.")
        self.model: nn.Module = copying.deepcopy(loaded) if copy and loaded is model else loaded
        if any(weight.is_inference() for weight in self.model.parameters()):
            raise ValueError(
                "The model was made under torch.inference_mode, and such weights take no step: make it outside, or "
                "leave copy=True."
            )
        if device is not None:
            self._move(device)
        self.weights = AdaptedWeights(find_parameters(self.model, self.settings.parameters))
        of_statistics = ("batch_norm", "prior_rows", "design_effect")
        mixes = self._mixes_statistics([name for name in of_statistics if name in settings])
        self.forwards = StreamForwards(self.model, self.weights, self.settings, mixes)
        self.monitor = StreamMonitor(self.settings)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.draws = torch.Generator().manual_seed(self.settings.seed)
        self._identity: dict[str, str] | None = None
        self._start_optimizer()
        self.fisher = None if fisher_batches is None else estimate_fisher(self.forwards, fisher_batches)

    def _move(self, device: Any) -> None:
        try:
            self.model.to(torch.device(device))
        except (AssertionError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"device={shown(device)} is not here: {first_line(error)}. Name another, or leave it out."
            ) from error

    def _mixes_statistics(self, given: list[str]) -> bool:
        """Whether batch norms use mixed statistics; raises `ValueError` for settings without effect."""
        has_norms = bool(batch_norms(self.model))
        mixes = has_norms and self.settings.batch_norm != "running"
        if not has_norms and given and self.settings.batch_norm != "running":
            raise ValueError(
                f"{given[0]}={getattr(self.settings, given[0])!r} has no effect: {type(self.model).__name__} has no "
                "batch norm with running statistics. Leave it out."
            )
        if self.method == "statistics" and not mixes:
            raise ValueError(
                f"method='statistics' has no effect on {type(self.model).__name__}, which has no batch norm whose "
                "statistics could follow. Use method='stable'."
            )
        return mixes

    # ---- prediction

    @torch.inference_mode(False)
    def adapt_and_predict(self, batch: Mapping[str, Any] | torch.Tensor) -> TestTimePrediction:
        """Prediction for a batch, and a step on it.

        Args:
            batch: model inputs, one row or more: a map of tensors as a tokenizer or an image processor makes it, or
                the tensor of the model's main input.

        Raises:
            TypeError, ValueError: a batch that is none.
            FloatingPointError: the start weights' logits are not finite on it; nothing has changed.
        """
        inputs, rows = stream_inputs(self.model, batch, self.forwards.device)
        with self.forwards.running(train=True):
            start = self.forwards.start_prediction(inputs) if self.settings.asks_start else None
            log_p, effect = self.forwards.forward(inputs), 1.0
            if not torch.isfinite(log_p).all():
                if start is None:
                    start = self.forwards.start_prediction(inputs)
                self._start_again("the adapted model's logits are not finite")
                log_p = self.forwards.forward(inputs)
                reset: str | None = "the adapted model's logits are not finite"
            else:
                reset = None
                if self._counts_rows:
                    self.monitor.add_spread(log_p)
                    effect = self._design_effect(rows)
                if effect > 1:
                    log_p = self.forwards.forward(inputs, effect)
            prediction = self.forwards.mixed(log_p.detach(), start)
            learned = self._learn(inputs, log_p, start, effect)
            self.monitor.add("adapted", log_p.exp().mean(0), rows)
            if start is not None:
                self.monitor.add("start", start.exp().mean(0), rows)
            self.counts["batches"] += 1
            self.counts["rows"] += rows
            collapse = self.monitor.collapse()
            if collapse is not None:
                self._start_again(collapse)
                reset = collapse
        return TestTimePrediction(prediction, prediction.argmax(1), learned, reset)

    @torch.inference_mode(False)
    def predict(self, batch: Mapping[str, Any] | torch.Tensor) -> TestTimePrediction:
        """Prediction for a batch without a step: nothing of the state changes.

        Args:
            batch: as in `adapt_and_predict`.
        """
        inputs, rows = stream_inputs(self.model, batch, self.forwards.device)
        with self.forwards.running(train=False):
            start = self.forwards.start_prediction(inputs) if self.settings.predicts_with_start else None
            prediction = self.forwards.mixed(self.forwards.forward(inputs, self._design_effect(rows)), start)
        return TestTimePrediction(prediction, prediction.argmax(1))

    @torch.inference_mode(False)
    def reset(self) -> None:
        """Start weights and no memory, as before the first batch; counts go on.

        With `copy=False` the model that was given is as it was, bit for bit.
        """
        self.forget()

    @property
    def facts(self) -> dict[str, float]:
        """Facts of the stream so far: `batches`, `rows`, `learned_rows`, `steps`, `skipped_steps` (of gradients that
        were not finite), `resets`, `drift` (distance from the start as a share of its norm), and the number of
        classes that are predicted, exp H of the moving average: `diversity`, and `start_diversity` of the start
        weights."""
        return {
            **self.counts,
            "drift": self.weights.drift(),
            "diversity": self.monitor.diversity("adapted"),
            "start_diversity": self.monitor.diversity("start"),
        }

    # ---- state

    @torch.inference_mode(False)
    def state_dict(self) -> dict[str, Any]:
        """State of the stream: `"tensors"` by name and `"facts"` that JSON can hold."""
        return collect_state(self)

    @torch.inference_mode(False)
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """State from `state_dict` of an adapter of the same model and settings.

        Raises:
            ValueError: it is of another model, has other settings, or is not whole. Nothing has changed then.
        """
        apply_state(self, state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """State written to one safetensors file, whole or not at all; an earlier state there is replaced.

        Args:
            path: the file. The model is not in it.

        Raises:
            FileExistsError: something else is there.
            ValueError: a step has led to weights that are not finite.
        """
        state = self.state_dict()
        check_finite(state["tensors"])
        write_state(path, state["tensors"], state["facts"])

    def load(self, path: str | os.PathLike[str]) -> None:
        """State read from a file that `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no such file, or as in `load_state_dict`.
        """
        tensors, facts = read_state(path)
        self.load_state_dict({"tensors": tensors, "facts": facts})

    # ---- a step

    @property
    def _counts_rows(self) -> bool:
        """Whether a batch's rows may count as fewer in mixed statistics."""
        return self.settings.design_effect and self.forwards.mixes and self.settings.batch_norm == "mixed"

    def _design_effect(self, rows: int) -> float:
        """How many times fewer a batch's rows count, from 1 on."""
        return 1 + (rows - 1) * self.monitor.correlation() if self._counts_rows else 1.0

    def _learn(self, inputs: dict[str, Any], log_p: torch.Tensor, start: torch.Tensor | None, effect: float) -> int:
        """Step on the rows of a batch that are learned from, which count as `effect` times fewer; their number."""
        rate = self._rate()
        rows = select_rows(log_p, self.settings, self.monitor.learned, start)
        if not rate or not bool(rows.chosen.any()):
            return 0
        if self.settings.redundancy_margin is not None:
            self.monitor.add("learned", log_p.detach().exp()[rows.chosen].mean(0), int(rows.chosen.sum()))
        gradients = self.forwards.gradients(weighted_entropy(log_p, rows))
        if self.settings.sharpness and gradients is not None:
            gradients, rows, log_p = self._sharp_gradients(inputs, gradients, rows, effect)
        count = int(rows.chosen.sum())
        if count and self.settings.reset_entropy is not None:
            self.monitor.add("entropy", mean_entropy(log_p, rows), count)
        if gradients is None:
            self.counts["skipped_steps"] += 1
            return 0
        if count:
            self._step(gradients, rate * min(1.0, count / (effect * self.settings.full_step_rows)))
            self.counts["steps"] += 1
            self.counts["learned_rows"] += count
        return count

    def _sharp_gradients(
        self, inputs: dict[str, Any], gradients: dict[str, torch.Tensor], rows: SelectedRows, effect: float
    ) -> tuple[dict[str, torch.Tensor] | None, SelectedRows, torch.Tensor]:
        """Gradients where the loss is highest within the radius, of the rows that are reliable there too, these rows,
        and the log-probabilities there."""
        norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt().clamp_min(1e-12)
        shifts = {name: g * (self.settings.sharpness / norm) for name, g in gradients.items()}
        with self.weights.moved(shifts):
            log_p = self.forwards.forward(inputs, effect)
            again = select_rows(log_p, self.settings)
            chosen = rows.chosen & again.chosen
            rows = SelectedRows(chosen, torch.where(chosen, rows.weights, 0), rows.bound)
            return self.forwards.gradients(weighted_entropy(log_p, rows)), rows, log_p.detach()

    @torch.no_grad()
    def _step(self, gradients: dict[str, torch.Tensor], rate: float) -> None:
        for name, value in self.weights.values.items():
            away = value - self.weights.first[name]
            pull = self.settings.anchor * away
            if self.fisher is not None:
                pull = pull + 2 * self.settings.fisher * self.fisher[name] * away
            value.grad = gradients[name] + pull
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.settings.restore:
            for name, value in self.weights.values.items():
                restored = torch.rand(value.shape, generator=self.draws) < self.settings.restore
                value.copy_(torch.where(restored.to(value.device), self.weights.first[name], value))
        if self.settings.largest_drift is not None:
            self.weights.keep_near(self.settings.largest_drift)
        self.weights.write()

    # ---- the start

    def _start_optimizer(self) -> None:
        values = list(self.weights.values.values())
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(values)
            if self.settings.optimizer == "adam"
            else torch.optim.SGD(values, momentum=self.settings.momentum)
        )

    def _rate(self) -> float:
        if self.settings.learning_rate is not None:
            return self.settings.learning_rate
        return 2.5e-4 if self.settings.parameters == "norms" and batch_norms(self.model) else 1e-3

    def forget(self) -> None:
        """Start weights, a new optimizer and no averages."""
        self.weights.reset()
        self.monitor.forget()
        self._start_optimizer()

    def _start_again(self, reason: str) -> None:
        log = logger.info if self.counts["resets"] else logger.warning  # a method may start again at every batch
        log("Test-time adaptation starts again after batch %d: %s.", self.counts["batches"], reason)
        self.forget()
        self.counts["resets"] += 1

    def start_identity(self) -> dict[str, str]:
        """Identity of the model with its start weights, computed once."""
        if self._identity is None:
            with self.weights.as_at_start():
                self._identity = model_identity(self.model)
        return self._identity
