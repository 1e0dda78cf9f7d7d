"""Check that published statistics are of the encoder that a run starts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ...models.encoder_identity import encoder_hash
from ...models.layer_hook import HEAD
from ...objectives.specification import ObjectiveSpec


def check_published_encoder(model: Any, head: str, objectives: nn.ModuleDict, specs: Iterable[ObjectiveSpec]) -> None:
    """Check of the objectives that read published statistics.

    Args:
        model: before training.
        head: full name of its final linear.
        objectives: by name.
        specs: theirs.

    Raises:
        ValueError: statistics of another encoder, or of another width or layer than the objective reads.
    """
    layers = {spec.name: spec.features for spec in specs}
    own: str | None = None
    for name, objective in objectives.items():
        published = getattr(objective, "published", None)
        if published is None:
            continue
        if layers.get(name, HEAD) != HEAD:
            raise ValueError(
                f"Objective {name!r}: features={layers[name]!r}, and published statistics are of what the final layer "
                "sees: leave features at 'head'."
            )
        own = own or encoder_hash(model, head)
        if own != published.facts["encoder"]:
            raise ValueError(
                f"Objective {name!r}: the published statistics are of another encoder "
                f"({published.facts.get('architecture')}, hash {published.facts['encoder'][:12]}) than this run's "
                f"model (hash {own[:12]}), so their features cannot be compared. Start from the very checkpoint that "
                "the site published with, below the head, in its precision."
            )
