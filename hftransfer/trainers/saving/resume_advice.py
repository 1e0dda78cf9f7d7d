"""Advice on how a stopped training run goes on: by a setting, or by itself where it is one of several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_goes_on_by_itself: ContextVar[bool] = ContextVar("_goes_on_by_itself", default=False)


@contextmanager
def going_on_by_itself() -> Iterator[None]:
    """Block in which training runs belong to a larger one, whose next call resumes them without being told.

    Example:
        >>> with going_on_by_itself():
        ...     resume_advice("out/checkpoint-9")
        'the same call goes on with it.'
    """
    token = _goes_on_by_itself.set(True)
    try:
        yield
    finally:
        _goes_on_by_itself.reset(token)


def resume_advice(checkpoint: str) -> str:
    """How a run goes on from a checkpoint, as the end of a sentence that names it.

    Args:
        checkpoint: its folder.

    Example:
        >>> resume_advice("runs/mine/checkpoint-9")
        "resume_from_checkpoint='runs/mine/checkpoint-9' goes on with it."
    """
    if _goes_on_by_itself.get():
        return "the same call goes on with it."
    return f"resume_from_checkpoint={checkpoint!r} goes on with it."
