"""An adapter in a run: the head of the adapted model, and whether it is saved merged into a plain one."""

from __future__ import annotations

import logging
from typing import Any

from ...models import adapter_checks, adapters
from ...models.feature_hook import Head, find_head
from ..config import AdaptationConfig

logger = logging.getLogger(__name__)


def head_of(model: Any, batch: dict[str, Any]) -> Head:
    """The head of a model, as `find_head`; an adapter that stands in its way is named."""
    try:
        return find_head(model, batch)
    except ValueError as error:
        name = adapter_checks.adapter_on_head(model) if adapters.is_peft(model) else None
        if name is None:
            raise
        raise ValueError(
            f"The adapter was put on the head {name!r} itself, whose own weights would be neither trained nor saved. "
            f"Make it with exclude_modules=[{name!r}] and modules_to_save=[{name!r}], or pass the plain model and "
            "`peft_config`."
        ) from error


def merges_on_save(model: Any, args: AdaptationConfig, peft_config: Any) -> bool:
    """Whether the adapter is saved merged: as `merge_adapter` says; when it is open, one that `peft_config` adds,
    where that can be.

    Raises:
        ValueError: it is asked for and cannot be.
    """
    if not adapters.is_peft(model):
        return False
    if args.merge_adapter:
        adapters.check_mergeable(model)
    if args.merge_adapter is not None or peft_config is None:
        return bool(args.merge_adapter)
    reason = adapters.merge_obstacle(model)
    if reason is not None and args.adabn:
        raise ValueError(f"adabn=True changes statistics of the base model, which an adapter does not save: {reason}")
    if reason is not None:
        logger.warning("The adapter will be saved as one, not as a plain model: %s", reason)
    return reason is None
