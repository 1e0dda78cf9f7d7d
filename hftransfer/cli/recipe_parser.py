"""Parser of recipes: command line over YAML over defaults, unknown keys refused with the nearest name."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..former_names import SETTINGS
from ..messages import nearest, redacted
from ..settings import Help
from ..yaml_files import read_yaml
from .one_line_error_parser import unknown_argument

TRUST = "trust_config_code"


class RecipeParser:
    """Parser of a recipe: command line over `--config` file over defaults, into dataclasses of settings.

    Whatever is wrong is said in one line that names the option, with the nearest name, and shows no token.

    Args:
        dataclasses: such as `FinetuneArguments` and `AdaptationConfig`. A field's help text may be a `Help`, which
            names the group of its option.
        prog: what messages begin with.

    Attributes:
        given: names of the fields that the command line or the file named, when it was last parsed; all others have
            their defaults.

    Example:
        >>> parser = RecipeParser((FinetuneArguments, AdaptationConfig))
        >>> script, config = parser.parse_args_and_config(["--source", "news.csv", "--output_dir", "out"])
        >>> script.source, config.output_dir
        (['news.csv'], 'out')
        >>> sorted(parser.given)
        ['output_dir', 'source']
    """

    def __init__(self, dataclasses: Sequence[Any], prog: str = "hftransfer finetune"):
        self.dataclasses, self.prog = tuple(dataclasses), prog
        self.given: frozenset[str] = frozenset()

    def parse_args_and_config(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Dataclass instances, one of each, from a command line.

        Args:
            argv: the options; `--config file.yaml` among them stands for the file's.

        Raises:
            SystemExit: with one message and status 2.
        """
        parser = self.make_parser()
        config, rest = _split_config(list(argv), parser)
        options: dict[str, Any] = {}
        if config is not None:
            try:
                options = read_yaml(config)
            except ValueError as error:
                parser.error(str(error))
            if TRUST in options:
                parser.error(
                    f"{config}: {TRUST} stands on the command line alone: a file cannot say that it is trusted."
                )
            rest = [*_words(options, str(config), rest, parser), *rest]
        return self._fill(parser, rest, options)

    def parse_dict(self, options: Mapping[str, Any], name: str) -> tuple[Any, ...]:
        """Dataclass instances, one of each, from a map whose values are read and checked as those of a file.

        Args:
            options: field names to values.
            name: how messages call the map.

        Raises:
            ValueError: with one message.
        """
        parser = self.make_parser()

        def refuse(message: str) -> NoReturn:
            raise ValueError(f"{name}: {message.removeprefix(f'{name}: ')}")

        parser.error = refuse  # type: ignore[method-assign]
        return self._fill(parser, _words(options, name, [], parser), options)

    def make_parser(self) -> argparse.ArgumentParser:
        """Argument parser, an `HfArgumentParser`, with a group of options for each group of fields."""
        return _make_parser(self.dataclasses, self.prog)

    def _fill(self, parser: argparse.ArgumentParser, words: list[str], options: Mapping[str, Any]) -> tuple[Any, ...]:
        """Instances, with what was given noted: words of either origin, and the file's maps and lists."""
        instances = _fill(parser, words, self.dataclasses)
        self.given = _named(parser, words) | {name for name, value in options.items() if value is not None}
        return instances


def _named(parser: argparse.ArgumentParser, words: list[str]) -> frozenset[str]:
    """Fields that words name: those that a second reading without defaults finds. The parser has none afterwards."""
    parser._defaults.clear()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return frozenset(vars(parser.parse_known_args(words)[0]))


def _fill(parser: argparse.ArgumentParser, words: list[str], dataclasses: Sequence[Any]) -> tuple[Any, ...]:
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        parser.error(unknown_argument(unknown, parser))
    values = vars(namespace)
    if not values.get(TRUST):
        from ..objectives.specification import refuse_imports

        try:
            refuse_imports(values.get("objectives"))
        except ValueError as error:
            parser.error(str(error))
    instances = []
    for cls in dataclasses:
        names = {f for f in cls.__dataclass_fields__ if cls.__dataclass_fields__[f].init}
        try:
            instances.append(cls(**{k: v for k, v in values.items() if k in names}))
        except (ValueError, TypeError, ImportError, OSError) as error:
            parser.error(str(error))
    return tuple(instances)


def _make_parser(dataclasses: Sequence[Any], prog: str) -> argparse.ArgumentParser:
    from transformers import HfArgumentParser

    class GroupedParser(HfArgumentParser):
        """HfArgumentParser whose fields say by their help text which group they belong to."""

        groups: dict[str, Any]

        def error(self, message: str) -> NoReturn:
            """Exit with one message, without tokens; the usage of two hundred options would bury it."""
            first = os.environ.get("RANK", "0") == "0"  # of several processes, one says it
            self.exit(2, f"{prog}: {redacted(message)}\n" if first else None)

        @staticmethod
        def _parse_dataclass_field(parser: Any, field: Any) -> None:
            field, metadata = copy.copy(field), dict(field.metadata)  # the class keeps its own
            text = metadata.get("help", "")
            group = text.group if isinstance(text, Help) else "Training"
            metadata["help"] = str(text).replace("%", "%%")
            field.metadata = metadata
            if isinstance(text, Help) and text.repeated:
                _group(parser, group).add_argument(
                    f"--{field.name}", default=[], type=str, action="append", **metadata
                )
                return
            HfArgumentParser._parse_dataclass_field(_group(parser, group), field)

    def _group(parser: Any, name: str) -> Any:
        if not hasattr(parser, "groups"):
            parser.groups = {}
        if name not in parser.groups:
            parser.groups[name] = parser.add_argument_group(name)
        return parser.groups[name]

    return GroupedParser(dataclasses, allow_abbrev=False, prog=prog)


def _split_config(argv: list[str], parser: argparse.ArgumentParser) -> tuple[Path | None, list[str]]:
    for i, word in enumerate(argv):
        if word == "--config":
            if i + 1 == len(argv):
                parser.error("--config needs a YAML file.")
            return Path(argv[i + 1]), argv[:i] + argv[i + 2 :]
        if word.startswith("--config="):
            return Path(word.split("=", 1)[1]), argv[:i] + argv[i + 1 :]
    return None, argv


def _words(
    options: Mapping[str, Any], name: str, command_line: list[str], parser: argparse.ArgumentParser
) -> list[str]:
    """Words of a file's options, without those that the command line gives. Maps and lists, which a word cannot hold,
    become the parser's defaults."""
    from transformers.hf_argparser import string_to_bool

    scalars = (int, float, string_to_bool)
    known = {a.dest: a for a in reversed(parser._actions) if a.dest != "help"}
    on_command_line = {w.split("=")[0].lstrip("-").replace("-", "_") for w in command_line if w.startswith("--")}
    on_command_line |= {w.removeprefix("no_") for w in on_command_line}
    words: list[str] = []
    for key, value in options.items():
        if key not in known:
            remedy = SETTINGS.get(str(key))
            parser.error(f"{name}: unknown key {key!r}{f': {remedy}.' if remedy else f'.{nearest(key, known)}'}")
        if key in on_command_line or value is None:
            continue
        action = known[key]
        if isinstance(action, argparse._AppendAction):
            items = [f"{k}={item}" for k, item in value.items()] if isinstance(value, dict) else value
            words += [f"--{key}={item}" for item in (items if isinstance(items, list) else [items])]
        elif isinstance(value, list) and action.nargs == "+":
            words += [f"--{key}", *map(str, value)]
        elif isinstance(value, (dict, list, bool)) and not action.choices and action.type not in scalars:
            parser.set_defaults(**{key: value})
        else:
            words.append(f"--{key}={value}")
    return words
