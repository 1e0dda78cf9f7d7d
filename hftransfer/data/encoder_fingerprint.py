"""Fingerprint of the encoder that made a data set, by which encoded rows are known again.

It stands in the data set's description, which `select`, `shuffle`, pickling and `save_to_disk` keep.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .label_space import LabelSpace

PREFIX = "encoded by hftransfer: "


def fingerprint_for(modality: str, space: LabelSpace, processing_class: Any) -> str:
    """Fingerprint of an encoder: its labels, and its tokenizer or image processor."""
    size = len(processing_class) if hasattr(processing_class, "__len__") else 0
    facts = (modality, space.task, space.names, type(processing_class).__name__, size)
    return PREFIX + hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def set_fingerprint(dataset: Any, fingerprint: str) -> Any:
    """Encoded data set with its encoder's fingerprint."""
    dataset.info.description = fingerprint
    return dataset


def fingerprint_of(dataset: Any) -> str | None:
    """Fingerprint that a data set carries, or `None`.

    Encoded images have a class of their own, which holds it.
    """
    own_fingerprint = getattr(dataset, "encoder_fingerprint", None)
    if own_fingerprint is not None:
        return str(own_fingerprint)
    description = str(getattr(getattr(dataset, "info", None), "description", "") or "")
    return description if description.startswith(PREFIX) else None
