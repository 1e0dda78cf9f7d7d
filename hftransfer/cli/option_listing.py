"""Option listings read from source text: `--help` without importing torch and transformers, which takes seconds.

The real parser is built from the dataclasses themselves; a test holds both to the same names.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Option:
    """One option as `--help` shows it."""

    name: str
    default: str
    help: str
    group: str


def module_path(name: str) -> Path:
    """Path of a module's source, without importing it (its parent packages are not run either)."""
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return Path(spec.origin).parent.joinpath(*rest).with_suffix(".py")


def read_options(
    path: Path, class_name: str, group: str, others: Mapping[str, Sequence[Option]] = MappingProxyType({})
) -> list[Option]:
    """Fields of a dataclass in source order.

    Args:
        path: the file.
        class_name: the class in it.
        group: of fields that name none.
        others: options of the dataclasses that it shares fields with (`field_of`), by their names.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
    options = []
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation) or node.target.id.startswith("_"):
            continue
        if isinstance(node.value, ast.Call) and any(k.arg == "init" for k in node.value.keywords):
            continue
        options.append(_option(node, group, others))
    return options


def _option(node: ast.AnnAssign, group: str, others: Mapping[str, Sequence[Option]]) -> Option:
    assert isinstance(node.target, ast.Name)
    name, value = node.target.id, node.value
    default, text = "", ""
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "field_of":
        shared = next(o for o in others[ast.unparse(value.args[0])] if o.name == _literal(value.args[1]))
        return replace(shared, group=str(_literal(value.args[2]))) if len(value.args) > 2 else shared
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("_option", "option"):
        default, group, text = ast.unparse(value.args[0]), str(_literal(value.args[1])), str(_literal(value.args[2]))
    elif isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "default":
                default = ast.unparse(keyword.value)
            elif keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
                for key, item in zip(keyword.value.keys, keyword.value.values, strict=True):
                    if key is not None and _literal(key) == "help":
                        text = str(_literal(item))
    elif value is not None:
        default = ast.unparse(value)
    default_text = (
        "" if default == "None" or (default.isidentifier() and default not in ("True", "False")) else default
    )
    return Option(name, default_text.strip("'\""), " ".join(text.split()), group)


def _literal(node: ast.expr) -> object:
    """A constant, or what can be read of a text that is put together."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        return "".join(parts)
