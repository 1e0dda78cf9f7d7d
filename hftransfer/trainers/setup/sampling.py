"""Sampling of a run: rows of each update, the loader, and the number of updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from ...data.pairing import PairedBatchSampler, PairedDataset
from ..config import AdaptationConfig


def paired_sampler(
    dataset: PairedDataset, args: AdaptationConfig, batch_size: int | None = None
) -> PairedBatchSampler:
    """Sampler of joint batches, as a run's settings say.

    Args:
        dataset: sources and target.
        args: the run's settings.
        batch_size: source rows per process and micro-batch; the setting's when absent.
    """
    return PairedBatchSampler(
        dataset,
        batch_size or args.per_device_train_batch_size,
        ratio=args.target_ratio,
        chunks=args.world_size * args.gradient_accumulation_steps,
        epoch_by=args.epoch_by,
        balanced=args.balance_sources,
        group_by_length=args.length_aware,
        drop_last=args.dataloader_drop_last,
        seed=args.seed if args.data_seed is None else args.data_seed,
    )


def paired_loader(
    dataset: PairedDataset, sampler: PairedBatchSampler, collator: Callable[[list], Any], args: AdaptationConfig
) -> DataLoader:
    """Loader of joint batches, with the workers of a run's settings."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
        in_order=getattr(args, "dataloader_in_order", True),
    )


def planned_updates(sampler: PairedBatchSampler, args: AdaptationConfig) -> int:
    """Number of updates of a run: `max_steps`, or those of its epochs."""
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * sampler.updates)
