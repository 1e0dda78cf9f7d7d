"""Feature extractor: a model, its processor and how its hidden states are pooled, known by content before loading."""

from __future__ import annotations

import copy
import os
from functools import cached_property
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from ..messages import nearest, shown
from ..models.adapters import is_peft, merged_copy, plain_model
from ..models.content_identity import checkpoint_identity, model_identity, processing_identity
from ..models.pretrained import load_processing, load_quietly, local_folder
from ..models.processing_class import check_processing_class
from ..setting_ranges import COUNT
from .frozen_backbone import IMAGES, FrozenBackbone, load_backbone
from .pooling import check_poolings

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


class FeatureExtractor:
    """Extractor of frozen features. A checkpoint is loaded when something has to be computed, and then kept.

    Args:
        model: Hub id, folder, or a loaded model, with a head or without, PEFT-wrapped or not.
        pooling, layer: see `embed`.
        max_length: in tokens; the model's own limit when `None`.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`; when `None`, a loaded model's own, else bfloat16 on an
            accelerator that has it, and float32 elsewhere.
        device: of a checkpoint that is loaded; the accelerator if there is one. A loaded model stays where it is.
        processing_class: tokenizer or image processor, or the name of one; the checkpoint's own when `None`.
        revision: branch, tag or commit on the Hub.

    Raises:
        TypeError, ValueError: a setting that is not known.
    """

    def __init__(
        self,
        model: Any,
        pooling: Any = "mean",
        layer: Any = -1,
        max_length: int | None = None,
        dtype: Any = None,
        device: Any = None,
        processing_class: Any = None,
        revision: str | None = None,
    ):
        model = os.fspath(model) if isinstance(model, os.PathLike) else model
        if not isinstance(model, str) and not (isinstance(model, torch.nn.Module) and hasattr(model, "config")):
            raise TypeError(f"model={shown(model)} must be a Hub id, a folder or a loaded transformers model.")
        self.model: Any = model
        self.processing_class, self.revision = processing_class, revision
        self.poolings, self.layers = check_poolings(pooling, layer)
        self.max_length = None if max_length is None else int(COUNT.read("max_length", max_length))
        self.dtype, self.given_device = _dtype(dtype), _device(device, isinstance(model, str))
        if not isinstance(model, str) and self.given_device and self.given_device.type != model.device.type:
            raise ValueError(f"device={str(device)!r}, but the model is on {model.device}: move it there yourself.")
        self._commit: dict[str, str] | None = None
        self._processing: dict[str, Any] = {}
        self._loaded: dict[Any, FrozenBackbone] = {}

    @cached_property
    def _checkpoint(self) -> tuple[str, str | None]:
        """Folder of the checkpoint, or its Hub id and revision; asked for once, since it is said where it comes
        from."""
        folder = local_folder(self.model, self.revision)
        return (self.model, self.revision) if folder is None else (folder, None)

    @property
    def device(self) -> torch.device:
        """Device that the model is on, or will be."""
        if not isinstance(self.model, str):
            return torch.device(self.model.device)
        if self.given_device is not None:
            return self.given_device
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if accelerator is None:
            return torch.device("cpu")
        return torch.device(accelerator.type, torch.accelerator.current_device_index())

    @property
    def compute_dtype(self) -> torch.dtype:
        """Precision that the model computes in."""
        if self.dtype is not None:
            return self.dtype
        if not isinstance(self.model, str):
            model_dtype: torch.dtype = self.model.dtype
            return model_dtype
        device = self.device
        has_bfloat16 = device.type != "cpu" and (device.type != "cuda" or torch.cuda.is_bf16_supported())
        return torch.bfloat16 if has_bfloat16 else torch.float32

    @property
    def modality(self) -> str | None:
        """What the model reads, `"text"` or `"image"`; `None` where it is both, or not known before it is loaded."""
        if isinstance(self.model, str):
            try:
                config = load_quietly(AutoConfig, *self._checkpoint)
                source: Any = transformers.MODEL_MAPPING[type(config)]
            except (FileNotFoundError, ValueError, KeyError):  # an adapter's folder; whatever it is, loading says so
                return None
        else:
            source = plain_model(self.model)
            config = source.config
        if hasattr(config, "vision_config") and hasattr(config, "text_config"):
            return None
        return "image" if getattr(source, "main_input_name", "") == IMAGES else "text"

    def processing(self, kind: str) -> Any:
        """Tokenizer or image processor for inputs of a kind.

        Raises:
            FileNotFoundError: the checkpoint has none.
            TypeError: `processing_class` is for other inputs.
            ValueError: a loaded model without `processing_class`, whose checkpoint is not known.
        """
        modality = "image" if kind == "image" else "text"
        given = self.processing_class
        if given is not None and not isinstance(given, (str, os.PathLike)):
            return check_processing_class(given, modality)
        if given is not None and kind not in self._processing:
            self._processing[kind] = load_processing(os.fspath(given), None, modality, words=kind == "tokens")
        if kind not in self._processing:
            is_name = isinstance(self.model, str)
            name = "" if is_name else getattr(self.model.config, "_name_or_path", "")
            if not is_name and not name:
                raise ValueError("The model was not loaded from a checkpoint: pass its processor as processing_class.")
            source, revision = self._checkpoint if is_name else (name, self.revision)
            self._processing[kind] = load_processing(source, revision, modality, words=kind == "tokens")
        return self._processing[kind]

    def recipe(self, kind: str) -> dict[str, Any]:
        """Facts on which features depend, as JSON can hold them: equal recipes give equal features of equal rows.

        Args:
            kind: of the inputs.
        """
        return {
            "model": self._identity(),
            "processor": processing_identity(self.processing(kind)),
            "kind": kind,
            "poolings": list(self.poolings),
            "layers": list(self.layers),
            "max_length": self.max_length,
            "dtype": str(self.compute_dtype).removeprefix("torch."),
            "transformers": transformers.__version__,
        }

    def about(self) -> dict[str, Any]:
        """Facts for people: what the model is called."""
        is_name = isinstance(self.model, str)
        name = self.model if is_name else getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__
        return {"model": name, "revision": self.revision}

    def backbone(self, kind: str) -> FrozenBackbone:
        """Frozen backbone for inputs of a kind; a checkpoint is loaded once.

        Raises:
            FileNotFoundError, ValueError: as `load_backbone`.
        """
        if kind == "tokens" or "token" not in self.poolings:
            identity = (kind, str(self._identity()) if isinstance(self.model, str) else "")
            if identity not in self._loaded:
                self._loaded = {identity: self._make(kind)}  # of a folder whose weights have changed, the new ones
            return self._loaded[identity]
        raise ValueError('pooling="token" gives a vector a word: pass lists of words, such as a column `tokens`.')

    def _make(self, kind: str) -> FrozenBackbone:
        autocast = None
        if isinstance(self.model, str):
            name, revision = self._checkpoint
            revision = self._identity().get("commit", revision)  # what the features are kept under is what is loaded
            model = load_backbone(name, revision, kind, self.poolings, self.compute_dtype)
            model = model.to(self.device)
        else:
            model = self.model
            autocast = None if self.compute_dtype == model.dtype else self.compute_dtype
            if autocast is torch.float32:
                raise ValueError(f"dtype='float32', and the model was loaded as {model.dtype}: load it in float32.")
        processing = self.processing(kind)
        return FrozenBackbone(model, processing, kind, self.poolings, self.layers, self.max_length, autocast)

    def trainable(self, kind: str) -> FrozenBackbone:
        """Backbone on a copy of the model, in single precision, that may be trained; an adapter is merged into it.

        Raises:
            FileNotFoundError, ValueError: as `load_backbone`.
        """
        frozen = self.backbone(kind)  # with all its checks
        if isinstance(self.model, str):
            name, revision = self._checkpoint
            revision = self._identity().get("commit", revision)
            model = load_backbone(name, revision, kind, self.poolings, torch.float32)
        else:
            model = merged_copy(self.model) if is_peft(self.model) else copy.deepcopy(self.model)
        model = model.float().to(self.device)
        return FrozenBackbone(model, frozen.processing, kind, self.poolings, self.layers, frozen.max_length)

    @property
    def commit_or_revision(self) -> str | None:
        """Commit that the features are kept under, so that it is that which is loaded."""
        return self._identity().get("commit", self.revision)

    def _identity(self) -> dict[str, str]:
        if not isinstance(self.model, str):
            return model_identity(self.model)
        if self._commit is not None:  # asked for once: the branch may move on meanwhile
            return self._commit
        identity = checkpoint_identity(*self._checkpoint)
        self._commit = identity if "commit" in identity else None
        return identity


def _device(device: Any, needed: bool) -> torch.device | None:
    """Device by its name; raises `ValueError` for no name of one, and where it is needed and not on this machine."""
    if device is None:
        return None
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={shown(device)} is none that torch knows, such as 'cpu' or 'cuda:0'.") from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if needed and found.type not in ("cpu", "" if accelerator is None else accelerator.type):
        raise ValueError(f"device={str(device)!r} is not on this machine. Leave it out, or say 'cpu'.")
    return found


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None:
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be {', '.join(DTYPES)} or None.{nearest(name, DTYPES)}")
    return DTYPES[name]
