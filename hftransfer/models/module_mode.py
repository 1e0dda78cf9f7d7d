"""Temporary training or evaluation mode: each module's own mode is restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def module_mode(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Evaluation mode, or training mode, inside a `with` block.

    Args:
        model: all its modules are switched; each is in its former mode afterwards, whatever happens inside.
        training: training mode instead.

    Example:
        >>> layer = torch.nn.Dropout()
        >>> with module_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    former = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, mode in former:
            module.training = mode
