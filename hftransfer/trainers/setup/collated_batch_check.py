"""Batch checks: whether a user's collator and `compute_loss` leave what the trainer reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ...data.collation import NUM_SOURCE
from ...data.pairing import PairedDataset
from ...data.text_encoder import WORD_MASK
from ...data.weight_column import ROW_WEIGHTS
from ...ignored_label import IGNORE
from .preparation import Prepared

BATCH_KEYS = (
    "labels",
    "domain",
    NUM_SOURCE,
    WORD_MASK,
    ROW_WEIGHTS,
)  # of what our collator makes beside the model's inputs
REMEDY = (
    "Leave data_collator out, or wrap the trainer's own: call `trainer.prepared.collator(rows)`, change what it "
    "returns, and set that as `trainer.data_collator`."
)


def check_collator(collator: Callable[[list], Any] | None, prepared: Prepared) -> None:
    """Check of a user's collator on a few rows.

    Rows of a stream are not touched; `check_batch` looks at the first batch.

    Args:
        collator: `data_collator`; `None` is ours.
        prepared: from `prepare`.

    Raises:
        ValueError: it fails, or leaves out or reorders what the trainer reads of a batch.
    """
    if collator is None:
        return
    name = collator_name(collator)
    if isinstance(prepared.train, PairedDataset):
        train = prepared.train
        first_target = [train.num_source] if train.num_target else []
        rows = train.__getitems__([0, 1 % max(1, train.num_source), *first_target])
        our_batch, user_batch = prepared.collator(rows), _collated(collator, rows, name)
        check_batch(user_batch, name, tuple(key for key in BATCH_KEYS if key in our_batch))
        if (
            not torch.equal(torch.as_tensor(user_batch["domain"]), our_batch["domain"])
            or user_batch[NUM_SOURCE] != our_batch[NUM_SOURCE]
        ):
            raise ValueError(f"data_collator {name} puts the rows in another order; source rows come first. {REMEDY}")
    for set_name, rows_of_set in (prepared.evaluation or {}).items():
        if hasattr(rows_of_set, "__len__") and "labels" in rows_of_set.column_names:
            user_batch = _collated(collator, [rows_of_set[0]], name)
            if "labels" not in user_batch:
                raise ValueError(
                    f"data_collator {name} leaves 'labels' out of the batches of eval_dataset[{set_name!r}], so no "
                    f"score could be computed. {REMEDY}"
                )


def check_batch(batch: Any, name: str, needed: tuple[str, ...] = ("labels", "domain", NUM_SOURCE)) -> None:
    """Check that a training batch holds what the trainer reads; a `ValueError` names what the collator left out."""
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"data_collator {name} returns {type(batch).__name__}; a batch is a dict of tensors. {REMEDY}"
        )
    missing = [key for key in needed if key not in batch]
    if missing:
        have = ", ".join(map(str, batch))
        raise ValueError(
            f"data_collator {name} leaves {missing[0]!r} out of training batches, which hold {have}: the trainer "
            f"could not tell source rows and their labels from target rows. {REMEDY}"
        )


def check_untouched_batch(inputs: Mapping[str, Any], trainer: type, training: bool) -> None:
    """Check that a user's `compute_loss` left labels and domains in the batch; raises `ValueError`."""
    missing = next((key for key in ("labels", "domain", NUM_SOURCE) if key not in inputs), None)
    if missing is None or (missing != "labels" and not training):
        return
    raise ValueError(
        f"{trainer.__name__}.compute_loss took {missing!r} out of the batch before it called the trainer's "
        f"compute_loss, which reads it. Read `inputs[{missing!r}]` and leave it there instead of `inputs.pop`."
    )


def count_labelled(batches: Iterable[Mapping[str, Any]]) -> torch.Tensor:
    """Number of labelled items in batches: rows, or tokens in tagging."""
    labels = [batch["labels"] for batch in batches]
    is_labelled = [(~torch.isnan(y).view(len(y), -1).any(1) if y.is_floating_point() else y != IGNORE) for y in labels]
    return torch.stack([labelled.sum() for labelled in is_labelled]).sum()


def collator_name(collator: Any) -> str:
    """Name of a collator in messages."""
    return getattr(collator, "__qualname__", None) or type(collator).__name__


def _collated(collator: Callable[[list], Any], rows: list[dict[str, Any]], name: str) -> Any:
    try:
        return collator([dict(row) for row in rows])
    except Exception as error:  # whatever a user's code raises
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"data_collator {name} fails on the trainer's rows ({type(error).__name__}: {reason}). Source rows have "
            f"labels, target rows have none, and all have a domain. {REMEDY}"
        ) from error
