"""YAML files of options: maps of names to values, read safely, with one clear message where they are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .messages import redacted


class _Loader(yaml.SafeLoader):
    """Loader of YAML that reads 1e-3, without a dot, as a number (YAML 1.1 takes it for text), and that refuses a key
    that stands twice (others keep the last one and forget the first)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            is_scalar = isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge"
            if is_scalar and seen.setdefault(key.value, key) is not key:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path, names: str = "option names", values: str = "values") -> dict[Any, Any]:
    """Options of a YAML file, which maps names to values.

    Args:
        path: the file.
        names, values: what it maps to what, for messages.

    Raises:
        ValueError: it is not there, is not YAML or not UTF-8, holds a key twice, or is no map.
    """
    if not path.is_file():
        raise ValueError(f"there is no config file {path}.")
    try:
        options = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start} cannot be read. Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be read"
        line = f" (line {mark.line + 1})" if mark is not None else ""  # the line itself may hold a secret
        raise ValueError(f"{path} is not valid YAML: {redacted(problem)}{line}.") from None
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"{path} must map {names} to {values}.")
    return options or {}
