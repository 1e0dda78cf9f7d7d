"""Option listings read from source text: `--help` without importing torch and transformers, which takes seconds.

The real parser is built from the dataclasses themselves; a test holds both to the same names.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path


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


def read_options(path: Path, class_name: str, group: str) -> list[Option]:
    """Fields of a dataclass in source order.

    Args:
        path: the file.
        class_name: the class in it.
        group: of fields that name none.
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
        options.append(_option(node, group))
    return options


def _option(node: ast.AnnAssign, group: str) -> Option:
    assert isinstance(node.target, ast.Name)
    name, value = node.target.id, node.value
    default, text = "", ""
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
