"""Frozen backbone: batches of inputs in, pooled hidden states out."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, DataCollatorWithPadding, PreTrainedModel

from ..data.image_encoder import ImageEncoder
from ..data.label_space import LabelSpace
from ..data.text_encoder import WORD_MASK, tokenized_rows
from ..models.adapters import plain_model
from ..models.batch_norm_statistics import freeze_batch_norms
from ..models.feature_hook import FeatureHook, Head, find_head
from ..models.module_mode import module_mode
from ..models.pretrained import load_model, load_quietly
from ..models.processing_class import fit_processing_class, max_input_length
from ..models.weight_checks import modules_of_weights
from .pooling import Pooling, pool

logger = logging.getLogger(__name__)
IMAGES = "pixel_values"
WORDS = "words"  # of a row: numbers of the words that are read
NO_LABELS = LabelSpace("sequence-classification", ("a", "b"))


class FrozenBackbone:
    """Model without gradients that gives pooled hidden states.

    Args:
        model: a loaded model, with a head or without.
        processing: its tokenizer or image processor.
        kind: of the inputs, `"text"`, `"tokens"` or `"image"`.
        poolings, layers: from `check_poolings`.
        max_length: in tokens; the model's own limit when `None`.
        autocast: computes in this precision; in the model's own when `None`.

    Raises:
        ValueError: the model and the processor, or the model and the inputs, do not go together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processing: Any,
        kind: str,
        poolings: Sequence[Pooling] = ("mean",),
        layers: Sequence[int] = (-1,),
        max_length: int | None = None,
        autocast: torch.dtype | None = None,
    ):
        self.model, self.kind, self.poolings, self.layers = model, kind, tuple(poolings), tuple(layers)
        self.autocast = autocast
        self.backbone = model if self.poolings == ("head",) else find_backbone(model, kind)
        modality = "image" if kind == "image" else "text"
        with _config_kept(model):
            processing = fit_processing_class(copy.deepcopy(processing), model, modality, kind == "tokens")
        self.max_length = max_input_length(processing, model, modality, max_length)
        self.processing = processing
        if kind == "image":
            self.images = ImageEncoder(processing, NO_LABELS, augment="none")
        else:
            processing.padding_side = "right"  # positions are counted from the first token
            self.pad = DataCollatorWithPadding(processing)
        self._hook: FeatureHook | None = None  # on the head
        self._below: OutputHook | None = None  # on the backbone, where the whole model runs

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, values: Sequence[Any], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
        """Rows as `stack` takes them, and their lengths; images are not opened yet.

        Args:
            values: checked inputs of the backbone's kind.
            names: of the rows, for messages.
        """
        if self.kind == "image":
            rows = [{"image": value, "origin": name} for value, name in zip(values, names, strict=True)]
            return rows, [1] * len(rows)
        is_split = self.kind == "tokens"
        columns, word_ids = tokenized_rows(self.processing, list(values), None, is_split, is_split, self.max_length)
        if is_split:
            columns[WORDS] = [[word for word in of_row if word is not None] for of_row in word_ids]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return rows, [len(row["input_ids"]) for row in rows]

    def stack(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Model inputs of encoded rows, padded to the longest."""
        if self.kind == "image":
            return self.images.stack(rows, [None] * len(rows))
        return dict(
            self.pad([{key: value for key, value in row.items() if key not in (WORD_MASK, WORDS)} for row in rows])
        )

    @staticmethod
    def words(rows: Sequence[dict[str, Any]], indices: Sequence[int]) -> np.ndarray:
        """(words, 2) row and number of each word that was read, as `pooled` gives them with `"token"`."""
        read = [(row, word) for row in indices for word in rows[row][WORDS]]
        return np.array(read, dtype=np.int64).reshape(-1, 2)

    @contextmanager
    def running(self, training: bool = False) -> Iterator[None]:
        """Evaluation mode without gradients, and the features of the head kept; all as it was afterwards.

        Args:
            training: training mode with gradients instead, in which batch norms keep their running statistics.
        """
        device = self.device.type
        precision = nullcontext() if self.autocast is None else torch.autocast(device, dtype=self.autocast)
        mode = module_mode(self.model, training)
        with torch.set_grad_enabled(training), mode, precision, _config_kept(self.model):
            if training:
                freeze_batch_norms(self.model, everywhere=True)
            if self.kind != "image" and getattr(self.model.config, "pad_token_id", None) is None:
                self.model.config.pad_token_id = self.processing.pad_token_id
            try:
                yield
            finally:
                for hook in (self._hook, self._below):
                    if hook is not None:
                        hook.remove()
                self._hook = self._below = None

    def pooled(self, batch: dict[str, torch.Tensor], rows: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
        """Pooled hidden states of a batch, by layer and then by pooling, each (rows, width); of `"token"`, (words,
        width): the first sub-word of each word that was read, row by row.

        Args:
            batch: from `stack`.
            rows: that it was made of.
        """
        inputs = {key: value.to(self.device) for key, value in batch.items()}
        with_head = "head" in self.poolings
        if with_head and self._hook is None:
            self._hook = FeatureHook(self.model, self._find_head({key: value[:1] for key, value in batch.items()}))
            self._below = OutputHook(self.backbone)
        runs = self.model if with_head else self.backbone
        inner = [layer for layer in self.layers if layer != -1]
        options = {"output_hidden_states": True} if inner else {}
        accepted = inspect.signature(runs.forward).parameters
        if "use_cache" in accepted:
            options["use_cache"] = False
        known = {k: v for k, v in inputs.items() if k in accepted or "kwargs" in accepted}
        outputs = runs(**known, **options)
        if with_head:
            assert self._below is not None
            outputs = self._below.outputs
        mask = inputs.get("attention_mask")
        pooled: list[torch.Tensor] = []
        for layer in self.layers:
            for pooling in self.poolings:
                if pooling == "head":
                    assert self._hook is not None
                    pooled.append(self._hook.take(inputs).float())
                    continue
                if pooling == "pooler":
                    pooled.append(pooler_output(outputs, type(self.backbone).__name__).float().flatten(1))
                    continue
                hidden = self._hidden(outputs, layer)
                if pooling == "token":
                    width = hidden.shape[1]
                    words = torch.tensor([row[WORD_MASK] + [0] * (width - len(row[WORD_MASK])) for row in rows])
                    pooled.append(hidden[words.bool().to(hidden.device)].float())
                else:
                    pooled.append(pool(hidden, mask, pooling))
        return pooled

    def _find_head(self, sample: dict[str, torch.Tensor]) -> Head:
        """Head of the model, none of whose weights below its final layer is drawn at random."""
        if not type(plain_model(self.model)).__name__.endswith("Classification"):
            raise ValueError(
                f'pooling="head" is what the last layer of a classifier reads, and {type(self.model).__name__} has '
                "none: pass the checkpoint's name, or a model with a head."
            )
        head = find_head(self.model, sample)
        fresh = set(getattr(self.model, "fresh_weights", ())) - {f"{head.name}.weight", f"{head.name}.bias"}
        if fresh:
            raise ValueError(
                f'pooling="head": the checkpoint lacks {modules_of_weights(fresh)}, which comes before the last layer '
                "and would be drawn at random. Take another pooling, or a checkpoint that was fine-tuned."
            )
        return head

    def _hidden(self, outputs: Any, layer: int) -> torch.Tensor:
        if layer == -1:
            hidden = getattr(outputs, "last_hidden_state", None)
            if hidden is None:
                raise ValueError(f"{type(self.backbone).__name__} gives no last hidden state to pool.")
            return hidden
        states = outputs.hidden_states
        if not -len(states) <= layer < len(states):
            raise ValueError(f"layer={layer}: the model has {len(states) - 1} layers; 0 is its embeddings.")
        return states[layer]


class OutputHook:
    """Hook that keeps what a module gave last.

    Args:
        module: any.
    """

    def __init__(self, module: torch.nn.Module):
        self.outputs: Any = None
        self._handle = module.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        self.outputs = outputs

    def remove(self) -> None:
        """Module as it was."""
        self._handle.remove()


def find_backbone(model: Any, kind: str) -> Any:
    """Part of a model that gives hidden states: what is below its head, of two towers the one for such inputs, of an
    encoder and a decoder the encoder.

    Args:
        model: a loaded model, PEFT-wrapped or not.
        kind: of the inputs.

    Raises:
        ValueError: the model does not read such inputs.
    """
    plain = plain_model(model)
    backbone = plain.base_model
    tower = getattr(backbone, "vision_model" if kind == "image" else "text_model", None)
    if tower is not None:
        backbone = tower
    elif getattr(plain.config, "is_encoder_decoder", False):
        backbone = plain.get_encoder()
    reads_images = getattr(backbone, "main_input_name", "input_ids") == IMAGES
    if reads_images != (kind == "image"):
        wanted, given = ("images", "text") if reads_images else ("text", "images")
        raise ValueError(f"{type(plain).__name__} reads {wanted}, and the rows hold {given}: give another model.")
    return backbone


def load_backbone(name: str, revision: str | None, kind: str, poolings: Sequence[Pooling], dtype: torch.dtype) -> Any:
    """Model of a checkpoint: a bare one, or with its head where the head's features are wanted.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, or it lacks weights that the features depend on.
    """
    if "head" not in poolings:
        model, report = load_quietly(AutoModel, name, revision, dtype=dtype, output_loading_info=True)
        fresh = set(report["missing_keys"])
        if "pooler" in poolings and fresh:
            raise ValueError(
                f'pooling="pooler": the checkpoint lacks {modules_of_weights(fresh)}, which would be drawn at random. '
                "Take another pooling, or a checkpoint that has it."
            )
        return model
    modality = "image" if kind == "image" else "text"
    model = load_model(name, "sequence-classification", ("a", "b"), revision, modality, quiet=True, dtype=dtype)
    return model


def pooler_output(outputs: Any, name: str) -> torch.Tensor:
    """Pooled output that a model itself gives.

    Args:
        outputs: of the model.
        name: of the model, for the message.

    Raises:
        ValueError: it gives none.
    """
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is None:
        raise ValueError(f"{name} has no pooled output of its own (`pooler_output`): take another model or pooling.")
    return pooled


@contextmanager
def _config_kept(model: Any) -> Iterator[None]:
    """The padding token of a model's config as it was before a `with` block."""
    former = getattr(model.config, "pad_token_id", None)
    try:
        yield
    finally:
        if getattr(model.config, "pad_token_id", None) != former:
            model.config.pad_token_id = former
