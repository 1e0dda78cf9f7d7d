"""Processes for tests: forked from one that has imported everything, or started from scratch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).parent
PATHS = {"PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE, HERE / "distributed")))}  # this clone comes first
KILLED = -9
# A server imports the slow modules once; every child is forked from it, clean of what the test process did.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["preloaded"])


def run(command: list[str], timeout: float = 240, expect: int = 0, **env: str) -> str:
    """Runs a command with one thread a process and the tests' helpers importable."""
    settings = os.environ | PATHS | {"OMP_NUM_THREADS": "1"} | env
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == expect, f"status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout + done.stderr


def forked(target: Callable, *arguments: Any, processes: int = 1, timeout: float = 120, log: Path) -> int:
    """Calls `target(*arguments)` in forked processes; the exit status of the first that ended badly, or 0.

    With several processes they are the ranks of one gloo group. Those that wait for one that was killed are killed
    too, as a launcher would.

    Args:
        target: a function of a module that a fresh process can import.
        *arguments: of it.
        processes: how many.
        timeout: in seconds, for all of them.
        log: file that gets what they print.
    """
    port = free_port()
    with mock.patch.dict(os.environ, PATHS):  # the server looks for what it preloads before it is told of sys.path
        forkserver.ensure_running()
    workers = [
        FORKS.Process(target=_enter, args=(target, arguments, rank, processes, port, str(log)))
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    status = 0
    try:
        for worker in _in_order_of_end(workers, timeout):
            if worker.exitcode:
                status = status or worker.exitcode
                for other in workers:
                    other.kill()
    finally:  # they are no daemons, which may not have workers of their own: no exit ends them
        for worker in workers:
            worker.kill()
    return status


def heard(target: Callable, *arguments: Any, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Calls `target(*arguments)` in a forked process, in a folder and with more environment; how it ended, and what
    it and the processes that it started said."""
    with tempfile.TemporaryDirectory() as folder:
        log, *said = (Path(folder) / name for name in ("log", "out", "err"))
        status = forked(_redirected, target, arguments, str(cwd), env, list(map(str, said)), timeout=300, log=log)
        return subprocess.CompletedProcess(target.__name__, status, *(file.read_text() for file in said))


def _redirected(target: Callable, arguments: tuple, cwd: str, env: dict[str, str], files: list[str]) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ |= env
    os.chdir(cwd)
    target(*arguments)


def together(target: Callable, *arguments: Any, timeout: float = 240, log: Path) -> None:
    """Calls `target(*arguments)` on two processes, which must both end well."""
    assert forked(target, *arguments, processes=2, timeout=timeout, log=log) == 0, log.read_text()[-12000:]


def script(code: str, *arguments: Any, log: Path) -> str:
    """What a script prints in a forked process, which must end well: one that has imported much, and done nothing."""
    assert forked(_run_code, code, arguments, log=log) == 0, log.read_text()[-6000:]
    return log.read_text()


def _run_code(code: str, arguments: tuple) -> None:
    sys.argv = ["-c", *map(str, arguments)]
    exec(code, {"__name__": "__main__"})


def _in_order_of_end(workers: list, timeout: float):
    left = {worker.sentinel: worker for worker in workers}
    while left:
        ended = multiprocessing.connection.wait(left, timeout)
        if not ended:
            raise TimeoutError(f"{len(left)} of {len(workers)} processes did not end in {timeout} s.")
        for sentinel in ended:
            worker = left.pop(sentinel)
            worker.join()
            yield worker


def _enter(target: Callable, arguments: tuple, rank: int, processes: int, port: int, log: str) -> None:
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.set_start_method("fork", force=True)  # its own workers see that it was killed, and start at once
    if processes > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    target(*arguments)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
