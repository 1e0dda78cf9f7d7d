"""Frozen layers of a run, read from the cache: filled before training, left out of each step, let go of afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.collation import NUM_SOURCE, SPANS, stack_states
from ..data.pairing import FROZEN_STATES, PairedDataset
from ..data.soft_label_column import SOFT_LABELS
from ..data.text_encoder import WORD_MASK, without_other_tokenizations
from ..data.weight_column import ROW_WEIGHTS
from ..embeddings.cache_folder import cache_folder, cache_size, trim
from ..embeddings.feature_pass import PassStatistics
from ..embeddings.frozen_states import StatesCache, StateShape, StatesPass, states_bytes
from ..models.disk_space import readable_size
from ..models.frozen_layers import FrozenLayers, NoFrozenLayers, find_frozen_layers
from .setup.frozen_layers_check import NotCached, StatesProbe, check_layers_read, check_run
from .setup.preparation import Prepared
from .trainer_access import config_of, joint_model_of

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)
# Of a batch: what the collator says about the rows, which no model reads.
NOT_READ = ("labels", "domain", NUM_SOURCE, SPANS, WORD_MASK, ROW_WEIGHTS, SOFT_LABELS, FROZEN_STATES)


class FrozenLayerCache:
    """Frozen layers of a run in the cache, as `cache_frozen_layers` asks.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: its model and data.

    Attributes:
        layers: the frozen layers whose states the run reads; `None` while it reads none.
        why_off: why the last run read none though the setting asked for it, in words; empty otherwise.
        statistics: rows that this process computed for the last run, and rows that were in the cache.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.layers: FrozenLayers | None = None
        self.why_off = ""
        self.statistics = PassStatistics()

    def fill(self) -> None:
        """Stored states for the run's batches, computed as far as they are not in the cache; or a line that says why
        there are none."""
        dtype = config_of(self.trainer).cache_frozen_layers
        self.clear()
        self.why_off, self.statistics = "", PassStatistics()
        if dtype == "none":
            return
        try:
            self._fill(dtype)
        except NotCached as reason:
            self.clear()
            self.why_off = str(reason)
            if self.trainer.is_world_process_zero():
                logger.warning("cache_frozen_layers=%r is off: %s.", dtype, self.why_off)

    def clear(self) -> None:
        """Nothing is read from the cache any more."""
        if isinstance(self.prepared.train, PairedDataset):
            self.prepared.train.frozen_states = None
        if self.layers is not None:
            joint_model_of(self.trainer).joint_forward.from_states.layers = self.layers = None

    def _fill(self, dtype: str) -> None:
        plan: tuple[StatesProbe, StatesCache] | None = None
        reason = ""
        try:
            plan = self._plan(dtype)
        except NotCached as error:
            reason = str(error)
        if self.trainer.args.world_size > 1:
            from accelerate.utils import gather_object

            reason = next(filter(None, gather_object([reason])), "")
        if reason or plan is None:
            raise NotCached(reason)
        probe, cache = plan
        prepared, args, train = self.prepared, config_of(self.trainer), self._train
        longest = 1 if train.lengths is None else int(train.lengths.max())
        try:
            train.frozen_states = [cache.of(rows, longest, not args.disable_tqdm) for rows in train.domain_rows]
        except (OSError, FloatingPointError) as error:
            if args.world_size > 1:
                raise  # other processes wait
            raise (_not_kept(error) if isinstance(error, OSError) else _not_finite(dtype)) from error
        self.statistics = cache.statistics
        root = cache_folder()
        if self.trainer.is_world_process_zero():
            trim(root, cache_size(), [states.folder for states in train.frozen_states])
        batch = self._batch()
        probe.compare(batch[FROZEN_STATES].to(next(prepared.model.parameters()).device))
        link = joint_model_of(self.trainer).joint_forward.from_states
        link.layers, link.dtype = probe.layers, probe.live().dtype
        self.layers = probe.layers
        logger.info(
            "The first %d of %d layers are read from %s: %d rows were computed, %d were there.",
            probe.layers.count,
            probe.layers.total,
            root,
            cache.statistics.computed,
            cache.statistics.read,
        )

    @property
    def _train(self) -> PairedDataset:
        train = self.prepared.train
        assert isinstance(train, PairedDataset)
        return train

    def _plan(self, dtype: str) -> tuple[StatesProbe, StatesCache]:
        """What is stored, and where, after all that speaks against it was looked at.

        Raises:
            NotCached: something does.
        """
        trainer: Any = self.trainer
        prepared, args = self.prepared, config_of(trainer)
        check_run(args, prepared, trainer.data_collator is prepared.collator, trainer.train_dataset is prepared.train)
        joint = joint_model_of(trainer)
        device = next(prepared.model.parameters()).device
        inputs = {k: v.to(device) for k, v in self._inputs(self._batch()).items()}
        try:
            layers = find_frozen_layers(joint.model, inputs)
        except NoFrozenLayers as error:
            hint = ""
            if args.unfreeze or args.lp_epochs:
                hint = f"; {'unfreeze' if args.unfreeze else 'lp_epochs'} lets it train by the end"
            raise NotCached(f"{error}{hint}") from error
        check_layers_read(layers, joint)
        probe = StatesProbe(joint, layers, inputs, trainer.accelerator.autocast, dtype)
        shape = self._shape(probe.live(), inputs.get("attention_mask"))
        self._check_size(layers, shape, dtype)
        probe.compare(self._computed(probe, shape))
        return probe, self._opened(self._pass(probe, shape))

    def _opened(self, states: StatesPass) -> StatesCache:
        prepared, rows = self.prepared, config_of(self.trainer).per_device_eval_batch_size
        name = str(getattr(prepared.model.config, "_name_or_path", "") or type(prepared.model).__name__)
        try:
            return StatesCache(
                cache_folder(), states, prepared.processing_class, prepared.encoder.modality, name, rows
            )
        except OSError as error:
            raise _not_kept(error) from error

    def _shape(self, live: torch.Tensor, mask: torch.Tensor | None) -> StateShape:
        if mask is None and self.prepared.encoder.modality == "text":
            raise NotCached("the tokenizer makes no attention mask, which says what is padding")
        if mask is None:
            return StateShape(False, tuple(live.shape[1:]))
        if live.ndim != 3 or live.shape[:2] != mask.shape:
            raise NotCached("what the frozen layers give is not a vector a token")
        return StateShape(True, (int(live.shape[2]),))

    def _check_size(self, layers: FrozenLayers, shape: StateShape, dtype: str) -> None:
        args, train = config_of(self.trainer), self._train
        tokens = len(train) if train.lengths is None else int(train.lengths.sum())
        needed, limit = states_bytes(len(train), tokens, shape, dtype), min(args.frozen_cache_gb * 1e9, cache_size())
        if needed <= limit:
            return
        bound = f"frozen_cache_gb={args.frozen_cache_gb:g}" if limit < cache_size() else "HFTRANSFER_CACHE_SIZE"
        half = "; float16 takes half" if dtype == "float32" else ""
        raise NotCached(
            f"what {layers.count} layers give for {len(train):,} rows takes {readable_size(needed)}, and {bound} "
            f"allows {readable_size(int(limit))}{half}"
        )

    def _computed(self, probe: StatesProbe, shape: StateShape) -> torch.Tensor:
        """States of the probe's rows, each computed by itself, as they would be read."""
        states = self._pass(probe, shape)
        rows = self._train.__getitems__(self._probe_rows())
        with states.running():
            computed = [states.pooled(states.stack([row]), [row])[0].cpu().numpy() for row in rows]
        if not all(np.isfinite(array).all() for array in computed):
            raise _not_finite(probe.stored_in)
        if not shape.by_token:
            computed = [array.reshape(shape.of_row) for array in computed]
        mask = probe.inputs.get("attention_mask")
        device = next(probe.model.parameters()).device
        return stack_states(computed, None if mask is None else mask.cpu()).to(device)

    def _pass(self, probe: StatesProbe, shape: StateShape) -> StatesPass:
        def stack(rows: Any) -> dict[str, Any]:
            return self.prepared.encoder.stack(rows, [None] * len(rows))

        return StatesPass(probe.model, probe.layers, stack, shape, probe.stored_in, probe.precision)

    def _probe_rows(self) -> list[int]:
        """Numbers of the shortest and the longest row of the sources, and of the target: padding is in it."""
        train = self._train
        halves = [range(train.num_source), range(train.num_source, len(train))]
        if train.lengths is None:
            return [row for half in halves for row in half[:2]]
        ends = [half[at(train.lengths[half])] for half in halves if len(half) for at in (np.argmin, np.argmax)]
        return list(map(int, ends))

    def _batch(self) -> dict[str, Any]:
        return self.prepared.collator(self._train.__getitems__(self._probe_rows()))

    @staticmethod
    def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
        """What of a batch the model reads."""
        return {key: value for key, value in without_other_tokenizations(batch).items() if key not in NOT_READ}


def _not_kept(error: OSError) -> NotCached:
    """Reason of a folder of the cache that is full, may not be written to, or was cleared meanwhile."""
    return NotCached(str(error).rstrip("."))


def _not_finite(dtype: str) -> NotCached:
    hint = "; float32 may hold it" if dtype == "float16" else ""
    return NotCached(f"what the frozen layers give is not finite in {dtype}{hint}")
