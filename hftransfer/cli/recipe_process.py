"""Process of a recipe: its signals, its last words, its exit status.

| status | |
|---|---|
| 0 | done |
| 1 | refused, or broken: the last line says why |
| 2 | usage: an option or a setting that cannot be |
| 130, 143 | stopped by Ctrl-C (SIGINT), by SIGTERM: the last line says what is saved and how to go on |
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from ..stages import advice_of, stage_of
from .error_messages import describe_error, is_refusal, trace_of
from .library_output import set_up_output, silence_libraries
from .signals import PATIENCE, end_with_launcher, status_of, stop_on_signals

DEBUG = "HFTRANSFER_DEBUG"
HINT = "--debug shows the trace."
Main = Callable[[list[str]], int]


def start_recipe(main: Main, name: str) -> NoReturn:
    """Process of a recipe, on the command line's options; never returns.

    Args:
        main: takes the options and returns the exit status.
        name: of the recipe, for `--help`.

    Example:
        >>> start_recipe(main, "finetune")  # doctest: +SKIP
    """
    argv = sys.argv[1:]
    if {"-h", "--help"} & set(argv):
        from .help import print_help

        print_help(name)
        sys.exit(0)
    end_with_launcher()
    stop_on_signals(_say_of_the_first)
    debug = split_debug(argv)[1]
    if debug:
        os.environ[DEBUG] = "1"  # for processes that this one starts
    set_up_output(debug)
    try:
        silence_libraries(debug)
        status = main(argv)
    except KeyboardInterrupt as error:  # before the recipe itself began
        _say("stopped before anything was read.")
        status = status_of(error)
    _leave(status)


def run_recipe(job: Main, argv: Sequence[str]) -> int:
    """Exit status of a recipe's job; whatever it raises becomes one last line.

    Args:
        job: takes the options without `--debug`.
        argv: the options.

    Returns:
        0 when it is done, 1 for an error, 130 or 143 when it was stopped.

    Example:
        >>> def job(words):
        ...     print_lines(f"Training with {' '.join(words)}")
        ...     return 0
        >>> run_recipe(job, ["--seed", "3", "--debug"])
        Training with --seed 3
        0
    """
    words, debug = split_debug(argv)
    try:
        return job(words)
    except BrokenPipeError as error:
        if _output_is_gone():  # `| head`: nobody reads any more
            return 128 + 13
        return _fail(error, debug)
    except KeyboardInterrupt as error:
        if debug:
            sys.stderr.write(trace_of(error))
        doing, advice = stage_of(error), advice_of(error)
        if _may_speak():
            how = "by SIGTERM " if status_of(error) == 143 else ""
            _say(" ".join(f"stopped {how}{f'while {doing}' if doing else ''}".split()) + f". {advice}".rstrip())
        return status_of(error)
    except Exception as error:
        return _fail(error, debug)


def split_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Options without a bare `--debug`, and whether a trace is to be shown, by it or by HFTRANSFER_DEBUG.

    `--debug underflow_overflow` is an option of `TrainingArguments` and stays.
    """
    words, debug = [], os.environ.get(DEBUG, "").lower() not in ("", "0", "false", "no")
    for i, word in enumerate(argv):
        if word == "--debug" and (i + 1 == len(argv) or argv[i + 1].startswith("-")):
            debug = True
        else:
            words.append(word)
    return words, debug


def _fail(error: BaseException, debug: bool) -> int:
    if _may_speak():
        if debug:
            sys.stderr.write(trace_of(error))
        line = describe_error(error)
        _say(line if debug or is_refusal(error) else f"{line}{'' if line.endswith('.') else '.'} {HINT}")
    return 1


def _say(line: str) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.write(f"\nhftransfer: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody listens
        pass


def _say_of_the_first(line: str) -> None:
    """Words of a process that is stuck: of several that are, the first says them."""
    if os.environ.get("RANK", "0") == "0":
        _say(line)


def _may_speak() -> bool:
    """Right to the last words: whether this process says them. Of several, the first that has some does; what others
    run into is what that one did to them."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return True
    main = os.environ.get("RANK", "0") == "0"
    try:
        from datetime import timedelta

        from torch.distributed import TCPStore

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=3), wait_for_workers=False)
        return store.add("hftransfer/last words", 1) == 1
    except Exception:  # the store went with the process that kept it
        return main


def _output_is_gone() -> bool:
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it exits
        return True
    return False


def _leave(status: int) -> NoReturn:
    """End of the process. One that broke does not wait long for uploads, other processes and their like."""
    if status:
        end = threading.Timer(PATIENCE, os._exit, [status])
        end.daemon = True
        end.start()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _output_is_gone()
    sys.exit(status)
