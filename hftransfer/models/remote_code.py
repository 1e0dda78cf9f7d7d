"""Remote code in configs: pointers to it are dropped from what is saved of a model that was not trusted."""

from __future__ import annotations

import logging
from typing import Any

from transformers import PreTrainedConfig

from .adapters import plain_model

logger = logging.getLogger(__name__)
POINTERS = ("auto_map", "custom_pipelines")  # what makes another machine run files that come with a model
DYNAMIC = "transformers_modules"  # the package in which transformers runs such files


def drop_remote_code(loaded: Any, name: str, trusted: bool = False) -> None:
    """Removal of the pointers to code from what will be saved, with a line in the log.

    What is loaded here is a class of transformers, so its own code is all that a copy needs. With the pointers in, who
    loads the copy with `trust_remote_code=True` would run files that are not in it, of whoever made the original.

    Args:
        loaded: a model, tokenizer, image processor or config.
        name: how messages call it.
        trusted: the user has said `trust_remote_code=True`.
    """
    inner = plain_model(loaded)
    if trusted or type(inner).__module__.startswith(DYNAMIC):
        return
    dropped = {
        pointer
        for holder in _settings_dictionaries(inner)
        for pointer in POINTERS
        if holder.pop(pointer, None) is not None
    }
    if dropped:
        logger.warning(
            "%s points to code of its own (%s), which was not run and is left out of what is saved.",
            name,
            ", ".join(sorted(dropped)),
        )


def _settings_dictionaries(loaded: Any) -> list[dict[str, Any]]:
    """The dictionaries in which settings are kept until they are saved."""
    config = loaded if isinstance(loaded, PreTrainedConfig) else getattr(loaded, "config", None)
    if isinstance(config, PreTrainedConfig):
        nested = [value for value in vars(config).values() if isinstance(value, PreTrainedConfig)]
        return [vars(config), *(holder for inner in nested for holder in _settings_dictionaries(inner))]
    settings = getattr(loaded, "init_kwargs", None)  # a tokenizer's
    nested_processors = [getattr(loaded, name, None) for name in ("tokenizer", "image_processor")]
    dictionaries = [vars(loaded), *([settings] if isinstance(settings, dict) else [])]
    return dictionaries + [
        holder for name in nested_processors if name is not None for holder in _settings_dictionaries(name)
    ]
