"""CPU cores and threads of a run.

A launcher gives each process one thread, unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import os


def cores() -> int:
    """Number of physical cores that this process may use, at least one: what PyTorch itself would take.

    Example:
        >>> os.environ["OMP_NUM_THREADS"] = str(cores())  # before torch is imported
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed or 1))


def describe_device(device: str, processes: int, threads: int, available: int) -> str:
    """Line of text on the device and threads of a run, with a remedy for idle cores.

    Args:
        device: a torch device's type.
        processes: how many there are.
        threads: of each.
        available: cores.
    """
    prefix = f"{processes} processes, each on " if processes > 1 else ""
    if device != "cpu":
        return f"{prefix}{device}"
    description = f"{prefix}{threads} CPU thread{'s' * (threads > 1)}"
    share = available // processes
    return (
        f"{description}; OMP_NUM_THREADS={share} would use all {available} cores" if threads < share else description
    )
