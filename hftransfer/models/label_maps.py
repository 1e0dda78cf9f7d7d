"""Label maps: class names in a model's config, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def label_maps(names: Sequence[str]) -> dict[str, Any]:
    """The config's two maps between class numbers and names.

    Example:
        >>> label_maps(["down", "up"])
        {'id2label': {0: 'down', 1: 'up'}, 'label2id': {'down': 0, 'up': 1}}
    """
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def label_names(config: Any) -> tuple[str, ...]:
    """Class names of a config in the order of the logits; none if it has none."""
    id2label = getattr(config, "id2label", None) or {}
    return tuple(str(id2label[i]) for i in sorted(id2label))
