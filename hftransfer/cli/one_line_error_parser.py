"""Command-line parser whose errors are one line and show no value that may be a secret."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..former_names import SETTINGS
from ..messages import nearest, redacted
from ..setting_ranges import read_number


class OptionParser(argparse.ArgumentParser):
    """Argument parser of argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with one line, without tokens."""
        self.exit(2, f"{self.prog}: {redacted(message)}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options as argparse reads them; its own error would show all words that it does not know."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_argument(unknown, self))
        return options


def unknown_argument(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Message about words that are no option's. Their values are not shown: one of them may be a secret."""
    word = next((w for w in words if w.startswith("-")), words[0]).split("=")[0]
    known = [o for a in parser._actions for o in a.option_strings if "-" not in o.removeprefix("--")]
    remedy = SETTINGS.get(word.lstrip("-").replace("-", "_"))
    return f"unknown argument {redacted(word)}{f': {remedy}.' if remedy else f'.{nearest(word, known)}'}"


def ranged(name: str) -> Callable[[str], int | float]:
    """Type, for argparse, of an option whose range is known by a name."""

    def read(text: str) -> int | float:
        try:
            return read_number(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
