"""Launcher of a run: accelerate's, such that neither outlives the other."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from .signals import LAUNCHER

BY_SIGNAL = 128  # what a shell adds to a signal's number


@contextmanager
def ends_together() -> Iterator[None]:
    """Context of accelerate's `launch_command`: one process takes the place of this one, so that signals reach it, and
    several hear of signals through torch's launcher and are killed with it. Their own last words are all that is
    shown: no traceback of a launcher.

    Raises:
        SystemExit: with the status of the process that ended first, where it is not 0.
    """
    import torch.distributed.run  # noqa: F401  # its loggers
    from accelerate.commands import launch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    stock, launch.simple_launcher = launch.simple_launcher, replace_this_process
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith(("torch.distributed.elastic", "torch.distributed.run")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger(launch.__name__).setLevel(logging.ERROR)  # it lists its own defaults
    try:
        yield
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        sys.exit(status if status >= 0 else BY_SIGNAL - status)
    except SignalException as error:
        sys.exit(BY_SIGNAL + error.sigval)
    finally:
        launch.simple_launcher = stock


def set_port(args: Any, settings: Any) -> None:
    """Port on which the processes of one machine meet: a free one where the user names none, so that two runs beside
    each other do not ask for the same. Several machines must agree on one, and keep what they have.

    Args:
        args: of `accelerate launch`, changed in place.
        settings: the accelerate config, or None where there is none.
    """
    given = args.main_process_port is not None or getattr(settings, "main_process_port", None) is not None
    if given or (getattr(settings, "num_machines", 1) or 1) > 1:
        return
    with socket.socket() as server:
        server.bind(("", 0))
        args.main_process_port = server.getsockname()[1]


def replace_this_process(args: Any) -> NoReturn:
    """Exec of the command of accelerate's simple launcher, with its environment, as this very process.

    Args:
        args: of `accelerate launch`.
    """
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    command, env = prepare_simple_launcher_cmd_env(args)
    env.pop(LAUNCHER, None)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execvpe(command[0], command, env)
    sys.exit(subprocess.run(command, env=env).returncode)  # Windows knows no exec; Ctrl-C reaches both
