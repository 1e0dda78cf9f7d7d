"""Batch norm in a run: checked settings, stochastic batch norm, AdaBN after training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ...data.pairing import PairedDataset
from ...data.text_encoder import without_other_tokenizations
from ...models.adapters import is_peft
from ...models.batch_norm_statistics import adapt_batch_norm, batch_norms, has_frozen_parameters
from ...models.parameter_sets import describe_choice, is_default_choice
from ...models.stochastic_norm import ChannelMix
from ...models.tensorflow_conventions import convert_tensorflow_conventions
from ..config import AdaptationConfig
from ..trainer_access import joint_model_of

MOST_ROWS = 4096  # of a stream


def prepare_batch_norm(model: Any, args: AdaptationConfig, target: Any, adapter: bool) -> None:
    """Batch norm as the settings ask for it, checked, with TensorFlow's conventions mended.

    Args:
        model: changed in place.
        args: the run's settings.
        target: the target's rows; `None` without.
        adapter: an adapter is trained, so that batch norm's statistics are not saved unless it is merged.

    Raises:
        ValueError: the model has no batch norm, or AdaBN has no rows or would not be saved.
    """
    convert_tensorflow_conventions(model, args.batch_norm_momentum)
    settings = {"batch_norm": args.batch_norm, "batch_norm_momentum": args.batch_norm_momentum, "adabn": args.adabn}
    setting = next((f"{k}={v!r}" for k, v in settings.items() if v not in ("joint", None, False)), None)
    if setting and not batch_norms(model):
        raise ValueError(
            f"{setting}, but {type(model).__name__} has no batch norm with running statistics. Leave it out."
        )
    if args.adabn and target is None:
        raise ValueError("adabn=True estimates statistics on target rows: pass a target_dataset.")
    merged = args.merge_adapter or (args.merge_adapter is None and adapter)
    if args.adabn and (adapter or is_peft(model)) and not merged:
        raise ValueError(
            "adabn=True changes statistics of the base model, which an adapter does not save: set merge_adapter=True."
        )


def build_mix(model: Any, args: AdaptationConfig) -> ChannelMix | None:
    """The channel mix of `batch_norm="stochastic"`; `None` for the other settings.

    Args:
        model: after `trainable` and `freeze`, or the adapter, have decided what trains.
        args: the run's settings.

    Raises:
        ValueError: no batch norm of the model trains.
    """
    if args.batch_norm != "stochastic":
        return None
    if all(has_frozen_parameters(module) for module in batch_norms(model).values()):
        by = "an adapter" if is_peft(model) else "its owner"
        if not is_default_choice(args.trainable, args.freeze):
            by = describe_choice(args.trainable, args.freeze)
        raise ValueError(
            f"batch_norm='stochastic' has no effect: every batch norm of the model is frozen by {by}, and uses its "
            "running statistics anyway. Leave it out, or let batch norms train."
        )
    return ChannelMix(args.batch_norm_mix, args.seed)


def adapt_to_target(trainer: Any) -> int:
    """AdaBN on the run's target rows, unchanged by augmentation, each process its share; returns the rows seen."""
    args, prepared = trainer.args, trainer.prepared
    batches = _batches(_target_rows(prepared.train, args), args.per_device_eval_batch_size)
    model = joint_model_of(trainer).model
    return adapt_batch_norm(model, (without_other_tokenizations(prepared.collator(batch)) for batch in batches))


def _target_rows(train: Any, args: AdaptationConfig) -> Iterator[dict[str, Any]]:
    """Target rows of this process, shuffled: a batch of one class would not look like the domain."""
    rank, processes = args.process_index, args.world_size
    if isinstance(train, PairedDataset):
        target = train.domain_rows[-1]
        order = np.random.default_rng((args.seed, 4)).permutation(len(target))
        rows: Iterable[Any] = (target[int(i)] for i in order[rank::processes])
    else:
        rows = (row for i, row in enumerate(islice(train.target, MOST_ROWS)) if i % processes == rank)
    for row in rows:
        yield {name: value for name, value in row.items() if name != "labels"}


def _batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Batches of `size`; the last has two rows or more, since one row has no variance."""
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size + 2:
            yield batch[:size]
            batch = batch[size:]
    if batch:
        yield batch
