"""Agreement of processes: on an error, which all raise so that none waits for another, and on what is decided."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a process which failed waits for the others to fail, too
_failures = itertools.count()


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


def decided_by_first(act: Callable[[], T], processes: int) -> T:
    """Result of a call on the first process alone, on every process; if it fails, all raise.

    Args:
        act: called once, on the first process; its result must be picklable.
        processes: how many take part; each must call this function.

    Raises:
        Exception: what `act` raised there.

    Example:
        >>> decided_by_first(lambda: "read on the first process", processes=1)
        'read on the first process'
    """
    from accelerate.state import PartialState

    first = processes == 1 or PartialState().is_main_process
    result: Any = raise_together(lambda: act() if first else None, processes)
    if processes > 1:
        from accelerate.utils import broadcast_object_list

        result = broadcast_object_list([result])[0]
    return result


def check_same_everywhere(values: Mapping[str, str], processes: int) -> None:
    """Check that all processes of a run work on the same.

    Args:
        values: what must be alike, by its name in the message; hashes, or short texts.
        processes: how many take part; each must call this function.

    Raises:
        ValueError: a value differs, on every process, with its name.

    Example:
        >>> check_same_everywhere({"the rows of the target": "3f9a"}, processes=1)
    """
    if processes == 1:
        return
    from accelerate.utils import gather_object

    everywhere: list[dict[str, str]] = gather_object([dict(values)])
    differing = [name for name in values if len({of_one.get(name) for of_one in everywhere}) > 1]
    if differing:
        others = [i for i, of_one in enumerate(everywhere) if of_one[differing[0]] != everywhere[0][differing[0]]]
        raise ValueError(
            f"The {processes} processes of this run do not work on the same: {', '.join(differing)} of process "
            f"{others[0]} differ from those of process 0. Give all of them the same data and settings; rows that are "
            "drawn or shuffled need a seed."
        )


def failed_everywhere(processes: int, patience: float = PATIENCE) -> bool:
    """Whether all processes have failed, and so can go on together with something else.

    A process calls it when it has caught an error. One that did not fail may wait for this one in an operation of
    theirs, so nothing is gathered: they count in the store that the group was made with.

    Args:
        processes: how many there are.
        patience: seconds to wait for the others.

    Example:
        >>> failed_everywhere(processes=1)
        True
    """
    if processes == 1:
        return True
    from torch import distributed

    if not distributed.is_initialized():
        return False
    store, name = distributed.distributed_c10d._get_default_store(), f"hftransfer/failure/{next(_failures)}"
    store.add(name, 1)
    deadline = time.monotonic() + patience
    while store.add(name, 0) < processes:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _rebuilt_error(kind: type[Exception], message: str) -> Exception:
    try:
        return kind(message)
    except TypeError:  # it wants more than a message
        return RuntimeError(message)
