"""Initial weights: a copy of the trainable ones, and their distance from the current ones."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ...models.adapters import is_peft
from ...models.feature_hook import Head
from ...models.parameter_blocks import split_into_blocks

LORA = ".lora_A."


def frozen_copy(model: nn.Module) -> nn.Module:
    """Frozen copy of a model in eval mode; frozen weights are shared.

    Of a model with an adapter, only the adapter and the head are copied.
    """
    shared: dict[int, Any] = {id(p): p for p in model.parameters() if not p.requires_grad}
    copied = copy.deepcopy(model, shared)
    return copied.requires_grad_(False).eval()


@dataclass
class MovedWeight:
    """Parameter beside its initial value. Shards, under FSDP2, are compared with the same part of it."""

    current: torch.Tensor
    initial: torch.Tensor
    fresh: bool

    def squared_distance(self) -> torch.Tensor:
        current, initial = self.current.float(), _sharded_like(self.current, self.initial).float()
        if isinstance(current, DTensor):  # not every torch that is supported is known to shard mse_loss
            return _squared(current - initial)
        return F.mse_loss(current, initial, reduction="sum")  # keeps no difference of the weight's size: half the time

    def squared_norm(self) -> torch.Tensor:
        return _squared(self.current.float())


@dataclass
class MovedProduct:
    """LoRA product sBA beside its initial value. (B, A) are (out, r) and (r, in); that is 0 if B was.

    ‖s(BA − B₀A₀)‖² is the sum of the entries of (B'ᵀB') ∘ (A'A'ᵀ), with B' = s[B, −B₀] and A' = [A; A₀]: r x r.
    """

    a: torch.Tensor
    b: torch.Tensor
    initial_a: torch.Tensor
    initial_b: torch.Tensor
    scale: float
    fresh: bool = False

    def squared_distance(self) -> torch.Tensor:
        a, b = _full_tensor(self.a).flatten(1).float(), _full_tensor(self.b).flatten(1).float()
        a0, b0 = (x.to(a.device).flatten(1).float() for x in (self.initial_a, self.initial_b))
        side_b, side_a = torch.cat([b, -b0], 1), torch.cat([a, a0])
        return self.scale**2 * ((side_b.T @ side_b) * (side_a @ side_a.T)).sum()

    def squared_norm(self) -> torch.Tensor:
        a, b = _full_tensor(self.a).flatten(1).float(), _full_tensor(self.b).flatten(1).float()
        return self.scale**2 * ((b.T @ b) * (a @ a.T)).sum()


class InitialWeights:
    """Trainable weights as they were when this was made.

    Args:
        model: plain or PEFT-wrapped, before training.
        head: from `find_head`.
        copied: a `frozen_copy` of the model, if there is one: its tensors are used instead of another copy.

    Raises:
        ValueError: an adapter that moves weights in a way whose distance is not known.
    """

    def __init__(self, model: nn.Module, head: Head, copied: nn.Module | None = None):
        fresh = {name for block in split_into_blocks(model, head) if block.head for name in block.parameters}
        copies = dict(copied.named_parameters()) if copied is not None else {}
        self.values: dict[str, torch.Tensor] = {}
        self.fresh: dict[str, bool] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                self.values[name] = copies[name] if name in copies else p.detach().clone()
                self.fresh[name] = name in fresh
        if is_peft(model):
            self._check_adapter(model)
        self.scales = {name: _scale(model, name) for name in self.values if LORA in name}

    def tensors(self) -> Iterable[torch.Tensor]:
        return self.values.values()

    def pairs(self, model: nn.Module) -> list[MovedWeight | MovedProduct]:
        """Current weights beside their initial values."""
        pairs: list[MovedWeight | MovedProduct] = []
        for name, initial in self.values.items():
            if ".lora_B." in name:
                continue
            current = self._current(model, name)
            if LORA not in name:
                pairs.append(MovedWeight(current, initial, self.fresh[name]))
                continue
            name_b = name.replace(LORA, ".lora_B.")
            pairs.append(
                MovedProduct(current, self._current(model, name_b), initial, self.values[name_b], self.scales[name])
            )
        return pairs

    def _current(self, model: nn.Module, name: str) -> torch.Tensor:
        current = model.get_parameter(name)
        if self.values[name].device != current.device:
            self.values[name] = self.values[name].to(current.device)
        return current

    def _check_adapter(self, model: Any) -> None:
        for name in self.values:
            layer = name.split(LORA)[0] if LORA in name else ""
            dora = layer and len(getattr(model.get_submodule(layer), "lora_magnitude_vector", ()))
            is_known = LORA in name or ".lora_B." in name or ".modules_to_save." in name or self.fresh[name]
            if dora or not is_known:
                kinds = ", ".join(c.peft_type.value for c in model.peft_config.values())
                raise ValueError(
                    f"l2_sp measures how far weights move, which is known for full fine-tuning and plain LoRA but not "
                    f"for {name} ({kinds}). Use 'delta' or 'distill_logits', which look at what the model does."
                )


class WeightsFingerprint(nn.Module):
    """Fingerprint of the initial and teachers' weights of a run, kept in its checkpoints.

    A resumed run reads these weights again from where they came, and they must be the same.

    Args:
        tensors: the weights.
    """

    digest: torch.Tensor

    def __init__(self, tensors: Iterable[torch.Tensor]):
        super().__init__()
        hashed = hashlib.blake2b(digest_size=16)
        for tensor in tensors:
            hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        self.register_buffer("digest", torch.tensor(list(hashed.digest()), dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}digest")
        if saved is not None and not torch.equal(saved.cpu(), self.digest.cpu()):
            raise ValueError(
                "The checkpoint's run was anchored to other weights than this one: a teacher has changed, or the "
                "model that training starts from. Resume with the same `model` and `teacher` as before."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def _squared(x: torch.Tensor) -> torch.Tensor:
    return _full_tensor(x.square().sum())


def _full_tensor(x: torch.Tensor) -> torch.Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def _sharded_like(current: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    if not isinstance(current, DTensor):
        return initial
    return distribute_tensor(initial, current.device_mesh, current.placements, src_data_rank=None)


def _scale(model: nn.Module, name: str) -> float:
    layer, _, adapter = name.partition(LORA)
    scaling: Any = model.get_submodule(layer).scaling
    return float(scaling[adapter.rpartition(".")[0]])
