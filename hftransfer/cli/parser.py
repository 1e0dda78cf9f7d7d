"""Command line over YAML over defaults, unknown keys refused with the nearest name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..messages import nearest


def parse(argv: Sequence[str], dataclasses: Sequence[Any]) -> tuple[Any, ...]:
    """Parses arguments into dataclasses.

    Args:
        argv: the command line; `--config file.yaml` in it stands for the file's options.
        dataclasses: such as `FinetuneArguments` and `AdaptationConfig`.

    Raises:
        SystemExit: with one clear message and status 2.
    """
    parser = _make_parser(dataclasses)
    config, rest = _split_config(list(argv), parser)
    if config is not None:
        rest = [*_yaml_arguments(config, rest, parser), *rest]
    namespace, unknown = parser.parse_known_args(rest)
    if unknown:
        word = next((u for u in unknown if u.startswith("--")), unknown[0])
        known = [o for a in parser._actions for o in a.option_strings if "-" not in o.removeprefix("--")]
        parser.error(f"unknown argument {word}.{nearest(word.split('=')[0], known)}")
    values = vars(namespace)
    out = []
    for cls in dataclasses:
        names = {f for f in cls.__dataclass_fields__ if cls.__dataclass_fields__[f].init}
        try:
            out.append(cls(**{k: v for k, v in values.items() if k in names}))
        except ValueError as error:
            parser.error(str(error))
    return tuple(out)


def _make_parser(dataclasses: Sequence[Any]) -> argparse.ArgumentParser:
    from transformers import HfArgumentParser

    class GroupedParser(HfArgumentParser):
        """HfArgumentParser whose fields say in their metadata which group they belong to."""

        groups: dict[str, Any]

        @staticmethod
        def _parse_dataclass_field(parser: Any, field: Any) -> None:
            metadata = dict(field.metadata)
            group = metadata.pop("group", "Training")
            metadata["help"] = str(metadata.get("help", "")).replace("%", "%%")
            field.metadata = metadata
            if field.name in ("source", "lora_target_modules"):
                where = _group(parser, group)
                style: dict[str, Any] = {"action": "append"} if field.name == "source" else {"nargs": "+"}
                where.add_argument(f"--{field.name}", default=[], type=str, **style, **metadata)
                return
            HfArgumentParser._parse_dataclass_field(_group(parser, group), field)

    def _group(parser: Any, name: str) -> Any:
        if not hasattr(parser, "groups"):
            parser.groups = {}
        if name not in parser.groups:
            parser.groups[name] = parser.add_argument_group(name)
        return parser.groups[name]

    return GroupedParser(dataclasses, allow_abbrev=False, prog="hftransfer finetune")


def _split_config(argv: list[str], parser: argparse.ArgumentParser) -> tuple[Path | None, list[str]]:
    for i, word in enumerate(argv):
        if word == "--config":
            if i + 1 == len(argv):
                parser.error("--config needs a YAML file.")
            return Path(argv[i + 1]), argv[:i] + argv[i + 2 :]
        if word.startswith("--config="):
            return Path(word.split("=", 1)[1]), argv[:i] + argv[i + 1 :]
    return None, argv


def _yaml_arguments(path: Path, given: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The file's options as words, without those that the command line gives."""
    import yaml

    if not path.is_file():
        parser.error(f"there is no config file {path}.")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        parser.error(f"{path} is not valid YAML: {error}")
    if not isinstance(options, dict):
        parser.error(f"{path} must map option names to values.")
    known = {a.dest for a in parser._actions}
    on_command_line = {w.split("=")[0].lstrip("-").replace("-", "_") for w in given if w.startswith("--")}
    on_command_line |= {w.removeprefix("no_") for w in on_command_line}
    words: list[str] = []
    for key, value in options.items():
        if key not in known:
            parser.error(f"{path}: unknown key {key!r}.{nearest(key, known)}")
        if key in on_command_line or value is None:
            continue
        if isinstance(value, dict):
            words += [f"--{key}", json.dumps(value)]
        elif isinstance(value, list) and key == "source":
            words += [w for item in value for w in (f"--{key}", str(item))]
        elif isinstance(value, list):
            words += [f"--{key}", *map(str, value)]
        else:
            words += [f"--{key}", str(value)]
    return words
