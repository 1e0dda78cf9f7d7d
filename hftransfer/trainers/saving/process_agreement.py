"""Agreement of processes on an error: if one raises, all do, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def raise_together(act: Callable[[], T], processes: int) -> T:
    """Result of a call on every process; if it fails on one, all raise.

    Args:
        act: called once here.
        processes: how many take part; each must call this function.

    Raises:
        Exception: what `act` raised here, or else its kind and message from the first process on which it failed.

    Example:
        >>> raise_together(lambda: "read on every process", processes=1)
        'read on every process'
    """
    failed: Exception | None = None
    result: Any = None
    try:
        result = act()
    except Exception as error:
        failed = error
    if processes > 1:
        from accelerate.utils import gather_object

        failures = gather_object([None if failed is None else (type(failed), str(failed))])
        first_failure = next((failure for failure in failures if failure is not None), None)
        if failed is None and first_failure is not None:
            failed = _rebuilt_error(*first_failure)
    if failed is not None:
        raise failed
    return result


def _rebuilt_error(kind: type[Exception], message: str) -> Exception:
    try:
        return kind(message)
    except TypeError:  # it wants more than a message
        return RuntimeError(message)
