"""Command-line parser whose errors are one line and show no value that may be a secret, and options that parsers
share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..former_names import SETTINGS
from ..messages import nearest, redacted
from ..setting_ranges import read_number


class OptionParser(argparse.ArgumentParser):
    """Argument parser of argparse with errors of one line.

    Args:
        recipe: name of the command, as it is typed.
        description, epilog: as in argparse; line ends stay.
    """

    def __init__(self, recipe: str, description: str, epilog: str):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(
            f"hftransfer {recipe}",
            description=description,
            epilog=epilog,
            formatter_class=formatter,
            allow_abbrev=False,
        )

    def add_shared(self, name: str, text: str | None = None) -> None:
        """Option that several recipes have.

        Args:
            name: one of `SHARED`.
            text: of its help, where it means something else here.
        """
        settings = SHARED[name]
        self.add_argument(f"--{name}", **settings | ({} if text is None else {"help": text}))

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


SHARED: dict[str, dict[str, Any]] = {  # options of several recipes
    "output_dir": {"required": True, "help": "where the model goes; it must not exist"},
    "validation_fraction": {
        "type": ranged("validation_fraction"),
        "default": 0.1,
        "help": "of a source without a validation split [0.1]",
    },
    "seed": {"type": ranged("seed"), "default": 42, "help": "of that cut [42]"},
    "encoding": {"help": "of csv, tsv, json and jsonl files that are not UTF-8, such as latin-1"},
    "per_device_eval_batch_size": {
        "type": ranged("per_device_eval_batch_size"),
        "default": 64,
        "help": "rows a device [64]",
    },
    "debug": {"action": "store_true", "help": "show the trace of what breaks; HFTRANSFER_DEBUG=1 as well"},
    "use_cpu": {"action": "store_true", "help": "even where there is an accelerator"},
}
