"""Error messages: an exception as one line that says what was being done, what went wrong and what helps."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path

from ..messages import printable, redacted
from ..stages import advice_of, stage_of

PACKAGE = Path(__file__).parents[1]
OURS = (PACKAGE, PACKAGE.parent / "recipes")
LONGEST = 600  # characters of a message that is not ours
IN_WORKER = re.compile(r"^Caught (\w+) in .*\.\nOriginal Traceback", re.DOTALL)
MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|not enough memory", re.IGNORECASE)
KILLED_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? [\d, ]+\).*(killed|exited)", re.DOTALL)
SMALLER_BATCH = (
    "Lower per_device_train_batch_size and raise gradient_accumulation_steps by as much, or set forward_rows to run "
    "the model on fewer rows at a time; max_length and bf16 help too."
)
NOTHING = "Nothing was saved yet."  # as a stopped run says it; of one that broke it goes without saying
SMALLER_EVALUATION = "Lower per_device_eval_batch_size."


def describe_error(error: BaseException) -> str:
    """Message of an error: a refusal of ours as it stands, anything else in one line with its kind and what was being
    done. Tokens are hidden, and so is what a terminal would obey.

    Example:
        >>> describe_error(KeyError("logits"))
        "KeyError: 'logits'"
    """
    kind, text, refusal = _unwrapped(error)
    if not refusal:
        text = " ".join(text.split())
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
        doing = stage_of(error)
        full_disk = _full_disk_advice(error)
        text, help_ = (f"{kind}: {text}" if text else kind), full_disk or _remedy(kind, text, doing)
        text = f"while {doing}: {text}" if doing else text
        text = f"{text.rstrip('.')}. {help_}" if help_ else text
        advice = advice_of(error)
        if advice and advice != NOTHING:
            text = f"{text.rstrip('.')}. {advice}"
    return printable(redacted(text))


def is_refusal(error: BaseException) -> bool:
    """Whether our own code raised it with a message for the user, so that a trace has nothing to add."""
    return _unwrapped(error)[2]


def trace_of(error: BaseException) -> str:
    """Traceback of an error, without tokens."""
    return printable(redacted("".join(traceback.format_exception(type(error), error, error.__traceback__))))


def _unwrapped(error: BaseException) -> tuple[str, str, bool]:
    """Kind and message, of the original where a data worker passed it on, and whether it is a refusal of ours."""
    kind, text = type(error).__name__, str(error)
    in_worker = IN_WORKER.match(text)
    if in_worker is None:
        if isinstance(error, KeyError) and len(error.args) == 1 and " " in str(error.args[0]):
            text = str(error.args[0])  # a sentence; `str` would put it in quotes
        return kind, text, _raised_here(error)
    kind = in_worker[1]
    parts = re.split(rf"^(?:[\w.]+\.)?{kind}: ", text, flags=re.MULTILINE)
    files = re.findall(r'^  File "(.+?)", line (\d+)', parts[-2] if len(parts) > 1 else text, flags=re.MULTILINE)
    return kind, parts[-1].strip() if len(parts) > 1 else "", bool(files) and _raises(*files[-1])


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _raises(frames[-1].filename, frames[-1].lineno or 0)


def _raises(file: str, line: int | str) -> bool:
    """Whether a line of our code says `raise`: what else breaks there is no refusal."""
    path = Path(file)
    return any(folder in path.parents for folder in OURS) and "raise" in linecache.getline(file, int(line)).split()


def _full_disk_advice(error: BaseException) -> str:
    """Advice on a disk that is full; empty for any other error."""
    from ..models.disk_space import ROOM, free_bytes, is_disk_full, readable_size

    if not is_disk_full(error):
        return ""
    path = Path(str(getattr(error, "filename", None) or "."))
    return f"The disk is full: {readable_size(free_bytes(path.parent))} are free. {ROOM}"


def _remedy(kind: str, text: str, doing: str) -> str:
    if KILLED_WORKER.search(text):
        return "A process that reads data ended, most likely for lack of memory: lower dataloader_num_workers."
    if kind == "MemoryError" or "OutOfMemory" in kind or MEMORY.search(text):
        return SMALLER_EVALUATION if doing.startswith("evaluating") else SMALLER_BATCH
    return ""
