"""`PreparedPretraining`: all that a pre-training runs on, whatever its rows are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..models.feature_hook import Head
from ..models.freezing import TrainableReport
from .pretraining_kind import PretrainingKind
from .wrapped_model import WrappedModel


@dataclass
class PreparedPretraining:
    """All that a pre-training runs on.

    Attributes:
        kind: what is masked, and what the model is measured by.
        joint: the model with its losses.
        head: the layer that predicts: the projection onto the vocabulary, the decoder of pixels.
        processing_class: the tokenizer or image processor, which is saved beside the model.
        train: rows to train on, a `PairedDataset` or a stream.
        held_out: batches of held-out rows, masked; empty without.
        held_out_rows: how many they are.
        collator: of training batches.
        trainable: what trains.
        merge_on_save: an adapter is saved merged into a plain model.
        domain_names: of the rows.
        start: identity of the model as it was loaded.
        base_model: Hub id or folder of the model, if it has one.
        notes: sentences on what was decided: packing, masking, the head, new weights.
        masking: how much is masked, as config.json says it.
        label_space: none, since there are no labels.
    """

    kind: PretrainingKind
    joint: WrappedModel
    head: Head
    processing_class: Any
    train: Any
    held_out: Sequence[dict[str, Any]]
    held_out_rows: int
    collator: Callable[..., dict[str, Any]]
    trainable: TrainableReport
    merge_on_save: bool
    domain_names: tuple[str, ...]
    start: dict[str, str]
    base_model: str
    notes: tuple[str, ...]
    masking: Mapping[str, Any]
    label_space: None = None
