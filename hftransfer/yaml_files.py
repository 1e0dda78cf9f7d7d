"""YAML files of options: maps of names to values, read safely, with one clear message where they are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .messages import redacted


class _Loader(yaml.SafeLoader):
    """Loader of YAML that reads 1e-3, without a dot, as a number; YAML 1.1 takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Options of a YAML file, which maps names to values.

    Raises:
        ValueError: it is not there, is not YAML, or is no map.
    """
    if not path.is_file():
        raise ValueError(f"there is no config file {path}.")
    try:
        options = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be read"
        line = f" (line {mark.line + 1})" if mark is not None else ""  # the line itself may hold a secret
        raise ValueError(f"{path} is not valid YAML: {redacted(problem)}{line}.") from None
    if not isinstance(options, dict):
        raise ValueError(f"{path} must map option names to values.")
    return options
