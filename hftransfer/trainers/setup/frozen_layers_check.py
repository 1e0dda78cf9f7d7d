"""Checks of a run whose frozen layers are to be read from the cache: settings, then stored states beside live ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env

from ...data.pairing import PairedDataset
from ...models.batch_norm_statistics import running_statistics_kept
from ...models.frozen_layers import FrozenLayers
from ...models.layer_hook import HEAD, MEAN
from ...models.module_mode import module_mode
from ..config import AdaptationConfig
from ..step.joint_model import JointModel
from .preparation import Prepared

# Largest difference that rounding makes, as a share of the largest value.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float64: 1e-4}
OF_FLOAT16 = 5e-3  # of states that are kept in float16


class NotCached(Exception):
    """Reason why frozen layers are not read from the cache, in words that go on from "is off: "."""


def check_run(args: AdaptationConfig, prepared: Prepared, own_collator: bool, own_dataset: bool) -> None:
    """Check of settings and data against stored states.

    Args:
        args: the run's settings.
        prepared: its model and data.
        own_collator, own_dataset: batches are made by ours, of our rows.

    Raises:
        NotCached: what is not the same in each epoch, or cannot be stored.
    """
    model: Any = prepared.model
    if not isinstance(prepared.train, PairedDataset):
        raise NotCached("a stream's rows have no numbers to store anything under")
    if prepared.encoder.draws:
        raise NotCached(f"augment={args.augment or 'weak'!r} changes images in each epoch; augment='none' does not")
    if not own_collator:
        raise NotCached("a data_collator of yours makes the batches")
    if not own_dataset:
        raise NotCached("the trainer's train_dataset was replaced")
    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise NotCached("FSDP shards the layers")
    if args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        raise NotCached("DeepSpeed runs the layers")
    if args.torch_compile:
        raise NotCached("torch_compile has compiled the layers")
    checkpointing = [getattr(args, f"{kind}_checkpointing_kwargs", None) for kind in ("activation", "gradient")]
    if args.recomputes_activations and any(isinstance(x, Mapping) and x.get("use_reentrant") for x in checkpointing):
        raise NotCached("use_reentrant=True recomputes layers only where gradients reach their inputs")
    if args.neftune_noise_alpha:
        raise NotCached(f"neftune_noise_alpha={args.neftune_noise_alpha:g} moves embeddings at random")
    if len({str(device) for device in (getattr(model, "hf_device_map", None) or {}).values()}) > 1:
        raise NotCached("the model is spread over several devices")


def check_layers_read(layers: FrozenLayers, joint: JointModel) -> None:
    """Check that no objective reads a layer below the last frozen one, or changes what goes into it.

    Raises:
        NotCached: one does; it is named.
    """
    if joint.strong_views is not None:
        raise NotCached("strong views of the target are other inputs in each epoch")
    read = {
        name: [-1 if layer == MEAN else int(layer.split(":")[1])]
        for name, layer in joint.objectives.feature_layers.items()
        if layer != HEAD
    }
    if joint.teachers is not None:
        for name, indices in joint.teachers.compared_layers.items():
            read[name] = [*read.get(name, []), *indices]
        if joint.teachers.attention:
            raise NotCached("attention is compared with a teacher's, and layers that do not run have none")
    for name, indices in read.items():
        below = [index for index in (i % layers.total for i in indices) if index < layers.count - 1]
        if below:
            raise NotCached(f"{name} reads layer {below[0]}, which would not run")


@dataclass(frozen=True)
class StatesProbe:
    """Comparison of stored states with live ones, on a few rows.

    Args:
        joint: the run's joint model.
        layers: its frozen layers.
        inputs: model inputs of the rows, on the model's device.
        precision: context of the run's forward.
        stored_in: `"float16"` or `"float32"`.
    """

    joint: JointModel
    layers: FrozenLayers
    inputs: Mapping[str, Any]
    precision: Callable[[], AbstractContextManager[Any]]
    stored_in: str

    def live(self) -> torch.Tensor:
        """States of the rows as evaluation makes them."""
        with torch.no_grad(), module_mode(self.joint), self.precision():
            return self.layers.states(self.model, self.inputs)

    @property
    def model(self) -> Any:
        return self.joint.model

    def compare(self, stored: torch.Tensor) -> None:
        """Check of stored states: training makes the same, and the layers above give the same for them.

        Args:
            stored: (rows, …) as the live ones, with zeros in the padding.

        Raises:
            NotCached: they differ by more than rounding; the message says what is to blame.
        """
        device = stored.device
        kept = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with kept, torch.no_grad(), self.precision():
            with module_mode(self.joint, training=True), running_statistics_kept(self.model):
                random = self.layers.random_modules(self.model)
                trained = self.layers.states(self.model, self.inputs)
            tolerance = TOLERANCES.get(trained.dtype, max(TOLERANCES.values()))
            if torch.is_autocast_enabled(device.type):
                tolerance = max(tolerance, TOLERANCES[torch.get_autocast_dtype(device.type)])
            tolerance = max(tolerance, OF_FLOAT16) if self.stored_in == "float16" else tolerance
            if not self._alike(trained, stored, tolerance):
                if random:
                    kind = type(self.model.get_submodule(random[0])).__name__
                    raise NotCached(f"{random[0]} ({kind}) is in training mode below the first layer that trains")
                raise NotCached("what the frozen layers give depends on padding, or on the other rows of a batch")
            with module_mode(self.joint):
                live = self._above()
                with self.layers.replaced(self.model, stored.to(trained.dtype)):
                    from_stored = self._above()
        if not all(self._alike(a, b, 4 * tolerance) for a, b in zip(live, from_stored, strict=True)):
            raise NotCached("the layers above them read padding, or more than their hidden states")

    def _above(self) -> list[torch.Tensor]:
        """Hidden states of the last layer, and logits."""
        kept: list[torch.Tensor] = []
        stack: Any = self.model.get_submodule(self.layers.stack)
        hook = stack[-1].register_forward_hook(
            lambda module, args, output: kept.append(output[0] if isinstance(output, tuple) else output)
        )
        try:
            logits = self.model(**self.inputs).logits
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            reason = str(error).partition("\n")[0][:80]
            raise NotCached(f"{type(self.model).__name__} does not run from stored states ({reason})") from error
        finally:
            hook.remove()
        return [*kept, logits]

    def _alike(self, live: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
        """Whether two results are equal but for rounding, padding aside."""
        mask = self.inputs.get("attention_mask")
        live, other = live.float(), other.float()
        if live.shape != other.shape:
            return False
        if mask is not None and live.ndim == 3 and live.shape[:2] == mask.shape:
            live, other = live[mask.bool()], other[mask.bool()]
        return bool((live - other).abs().amax() <= tolerance * live.abs().amax().clamp_min(1e-12))
