"""What a benchmark ran on, in one line, and medians as ratios."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path


def describe() -> str:
    """Processor, cores, Python, torch and its threads."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )


def median_ms(seconds: Iterable[float]) -> float:
    return 1e3 * statistics.median(seconds)


def verdict(name: str, value: float, goal: float, at_least: bool = False) -> str:
    """One line: the value beside its goal."""
    met = value >= goal if at_least else value <= goal
    return f"{name}: {value:.2f} (goal {'>=' if at_least else '<='} {goal:g}: {'met' if met else 'MISSED'})"
