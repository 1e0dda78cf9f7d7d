"""The one way in which a setting is read from text: a command line and a YAML string hold maps and lists so."""

from __future__ import annotations

from typing import Any


def read_setting(name: str, value: Any) -> Any:
    """What JSON or YAML text says; whatever is no text comes back as it is.

    Raises:
        ValueError: text that is neither.
    """
    if not isinstance(value, str):
        return value
    import yaml  # not for those who only ask for help

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is neither JSON nor YAML: {value!r}") from error
