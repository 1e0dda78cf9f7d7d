"""Processor cores and threads: a launcher gives each process one thread unless it is told otherwise."""

from __future__ import annotations

import os


def cores() -> int:
    """Physical cores that this process may use, at least one: what PyTorch itself would take.

    Example:
        >>> os.environ["OMP_NUM_THREADS"] = str(cores())  # before torch is imported
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed or 1))


def describe_device(device: str, processes: int, threads: int, available: int) -> str:
    """What a run computes on, in a line; on processors, how to use those that idle.

    Args:
        device: a torch device's type.
        processes: how many there are.
        threads: of each.
        available: cores.
    """
    each = f"{processes} processes, each on " if processes > 1 else ""
    if device != "cpu":
        return f"{each}{device}"
    words = f"{each}{threads} CPU thread{'s' * (threads > 1)}"
    share = available // processes
    return f"{words}; OMP_NUM_THREADS={share} would use all {available} cores" if threads < share else words
