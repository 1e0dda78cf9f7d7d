"""Named stages of a run, so that an error can say what it interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Words = str | Callable[[], str]


@contextmanager
def stage(doing: Words, if_stopped: Words | None = None, takes_over: bool = False) -> Iterator[None]:
    """Context that names a stage of a run.

    An exception that leaves it carries the name; of nested stages, the innermost.

    Args:
        doing: such as "reading the source"; a function is called when something goes wrong ("training, step 12").
        if_stopped: for a run that is stopped in the block: what is saved and how to go on.
        takes_over: `if_stopped` replaces what stages inside advise, such as those of a run that is a part of this one.

    Example:
        >>> with stage("reading the source"):
        ...     text = open("news.csv").read()
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'news.csv'
    """
    try:
        yield
    except BaseException as error:
        for name, words in (("doing", doing), ("if_stopped", if_stopped)):
            replaces = takes_over and name == "if_stopped"
            if words is not None and (replaces or not getattr(error, f"_hftransfer_{name}", "")):
                _note(error, name, words)
        raise


def stage_of(error: BaseException) -> str:
    """Name of the stage in which an exception was raised; empty outside of stages."""
    return getattr(error, "_hftransfer_doing", "")


def advice_of(error: BaseException) -> str:
    """Advice for a run that was stopped: what is saved and how to go on; empty where there is none."""
    return getattr(error, "_hftransfer_if_stopped", "")


def _note(error: BaseException, name: str, text: Words) -> None:
    try:
        setattr(error, f"_hftransfer_{name}", text if isinstance(text, str) else text())
    except Exception:  # an exception with slots, words that cannot be said any more: the error itself matters
        pass
