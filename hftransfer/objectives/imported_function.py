"""Functions of the user's as settings: a callable, or the name of one to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def resolved_function(function: Any) -> Callable[..., Any]:
    """The user's function, imported if it is a name.

    Args:
        function: a callable, or `module:name`.

    Raises:
        ValueError: neither a callable nor the name of one.

    Example:
        >>> resolved_function("math:sqrt")(4)
        2.0
    """
    if callable(function):
        return function
    if isinstance(function, str) and function.count(":") == 1:
        module, name = function.split(":")
        try:
            imported = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"function={function!r} cannot be imported: {error}") from error
        if callable(imported):
            return imported
    raise ValueError(f"function={function!r} must be a Python callable or 'module:name'.")
