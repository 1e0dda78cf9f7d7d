"""Signals: a run that is told to stop, or whose launcher is gone, ends within seconds and leaves no process behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

LAUNCHER = "HFTRANSFER_LAUNCHER"  # variable: the process that started this one and waits for it
PATIENCE = 5.0  # seconds that a run that was told to stop has to end by itself
PR_SET_PDEATHSIG = 1


class Stopped(KeyboardInterrupt):
    """Interrupt of a process that was told to stop.

    Attributes:
        status: the exit status that says so to a shell: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def status_of(error: BaseException) -> int:
    """Exit status of a run that was interrupted."""
    return error.status if isinstance(error, Stopped) else 128 + signal.SIGINT


def stop_on_signals(last_words: Callable[[str], None]) -> None:
    """Signal handlers: the first SIGINT or SIGTERM raises `Stopped` in the main thread. A process that has not
    ended `PATIENCE` seconds later, stuck in a library or in a wait for another process, is ended from outside.

    Args:
        last_words: called with a line when the process had to be ended.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]

    def stop(number: int, frame: Any) -> None:
        for n in numbers:
            signal.signal(n, signal.SIG_IGN)
        raise Stopped(number)

    def watch() -> None:
        while True:
            for number in os.read(reader, 64):
                if number in numbers:
                    time.sleep(PATIENCE)
                    last_words(f"stopped by {signal.Signals(number).name}.")
                    os._exit(128 + number)

    def forget() -> None:  # a child forked from here has signals of its own
        signal.set_wakeup_fd(-1)
        for n in numbers:
            signal.signal(n, signal.default_int_handler if n == signal.SIGINT else signal.SIG_DFL)

    for n in numbers:
        signal.signal(n, stop)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
    threading.Thread(target=watch, daemon=True, name="signals").start()


def end_with_launcher() -> None:
    """Watch on the launcher: this process ends when the one that started it is gone, even by SIGKILL. Without a
    launcher, as under `nohup python recipes/finetune.py &`, the process goes on by itself."""
    parent = os.getppid()
    if not _is_launcher(parent):
        return
    if not _ask_kernel():
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True, name="launcher").start()
    elif os.getppid() != parent:  # it went in between
        os._exit(128 + signal.SIGTERM)


def _is_launcher(parent: int) -> bool:
    if os.environ.get(LAUNCHER) == str(parent) or "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    try:
        with open(f"/proc/{parent}/cmdline", "rb") as file:
            words = [os.path.basename(word.decode(errors="replace")) for word in file.read().split(b"\0")]
    except OSError:
        return False
    return bool({"accelerate", "accelerate-launch", "torchrun"} & set(words[:4])) or any(
        word in ("accelerate.commands.launch", "torch.distributed.run") for word in words[:4]
    )


def _ask_kernel() -> bool:
    """Whether the kernel will kill this process with its parent."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(128 + signal.SIGTERM)
