"""Output of libraries: warnings and bars meant for their developers are off; what a user can act on is said once."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from ..messages import printable, redacted

BAR_DELAY = "2"  # seconds after which a library's bar is worth showing
# Not transformers, whose level decides whether there is progress at all: its handler is set instead.
LIBRARIES = ("datasets", "huggingface_hub", "accelerate", "evaluate", "peft", "torch", "fsspec", "httpx")


def set_up_output(debug: bool) -> None:
    """Output settings of a recipe's process, to be made before any library is imported.

    In a terminal, bars of libraries (downloads, tokenising) appear when they last; in a file or a pipe there are none.
    Warnings of libraries are left out unless `debug`. Our own go to stderr, each once, from the main process alone.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows no "·" is no reason to end a run
            stream.reconfigure(errors="replace", **({} if stream.isatty() else {"line_buffering": True}))
    if sys.stderr.isatty():
        os.environ.setdefault("TQDM_DELAY", BAR_DELAY)
    else:
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said, so that a fork is no reason for a warning
    if not debug:
        os.environ.setdefault("DATASETS_VERBOSITY", "error")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of data workers too
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("huggingface_hub.utils._http").setLevel(logging.WARNING)  # why it waits: "Retrying in 4s"
    main = os.environ.get("RANK", "0") == "0"
    logger = logging.getLogger("hftransfer")
    logger.handlers, logger.propagate = [_OnceHandler()], False
    logger.setLevel(logging.WARNING if main else logging.CRITICAL)


class _OnceHandler(logging.Handler):
    """Handler that prints to the stderr of the moment, which a live line redirects to the lines above it; nothing
    twice."""

    def __init__(self) -> None:
        super().__init__()
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = printable(redacted(record.getMessage()))
            if line not in self.printed:
                self.printed.add(line)
                sys.stderr.write(f"{record.levelname.lower()}: {line}\n")
        except Exception:
            self.handleError(record)


def silence_libraries(debug: bool) -> None:
    """Output settings of libraries that can only be made once they are imported: bars that no variable turns off, load
    reports, handlers that write into a live line."""
    try:
        import datasets
        import transformers
    except ImportError:  # the recipe will say it
        return
    if not debug:
        transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    handler: Any
    for name in ("transformers", *LIBRARIES):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setStream(_Stderr())
                handler.setLevel(logging.ERROR if name == "transformers" and not debug else logging.NOTSET)


class _Stderr:
    """Stream that writes to whatever `sys.stderr` is at that moment."""

    def write(self, text: str) -> int:
        return sys.stderr.write(redacted(text))

    def flush(self) -> None:
        sys.stderr.flush()
