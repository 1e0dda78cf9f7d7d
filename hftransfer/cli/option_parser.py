"""A command-line parser whose refusals are one line and show no value that may be a secret."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..former_names import SETTINGS
from ..messages import nearest, redacted
from ..setting_ranges import read_number


class OptionParser(argparse.ArgumentParser):
    """argparse's own, but for its errors."""

    def error(self, message: str) -> NoReturn:
        """One line, without tokens."""
        self.exit(2, f"{self.prog}: {redacted(message)}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, which would show all words that it does not know."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_argument(unknown, self))
        return found


def unknown_argument(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What is said of words that are no option's. Their values are not shown: one of them may be a secret."""
    word = next((w for w in words if w.startswith("-")), words[0]).split("=")[0]
    known = [o for a in parser._actions for o in a.option_strings if "-" not in o.removeprefix("--")]
    now = SETTINGS.get(word.lstrip("-").replace("-", "_"))
    return f"unknown argument {redacted(word)}{f': {now}.' if now else f'.{nearest(word, known)}'}"


def number(name: str) -> Callable[[str], int | float]:
    """argparse's `type` of an option whose range is known by a name."""

    def read(text: str) -> int | float:
        try:
            return read_number(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
