"""Reference pages, written from the code: every public name, every setting, every input of an objective."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docstrings import escape_stars

PAGES = {  # the room that a name comes from -> page and title
    "adaptation": ("adaptation", "Adaptation"),
    "trainers": ("trainers", "Trainers"),
    "objectives": ("objectives", "Objectives"),
    "models": ("models", "Models"),
    "embeddings": ("embeddings", "Embeddings"),
    "data": ("data", "Data"),
    "pretraining": ("pretraining", "Pre-training"),
    "cli": ("recipes", "Recipes"),
    "reporting": ("recipes", "Recipes"),
    "selection": ("selection", "Selection"),
    "stages": ("recipes", "Recipes"),
}
# Methods that scikit-learn adds to an estimator for its metadata routing; their texts link to its own pages.
REQUESTING = ("fit", "transform", "predict", "predict_proba", "score", "decision_function")
REQUESTS = ", ".join(f"set_{name}_request" for name in REQUESTING)
INHERITED = "Training"  # the group of fields that transformers.TrainingArguments brings along


def public_names(stub: Path) -> dict[str, list[str]]:
    """Public names by the room they come from."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            room = node.module.split(".")[0]
            found.setdefault(room, []).extend(alias.asname or alias.name for alias in node.names)
    return found


def entries(names: Iterable[str]) -> str:
    """One entry a name, in Markdown."""
    out = []
    for name in sorted(names):
        directive = f".. autofunction:: hftransfer.{name}"
        if name[0].isupper():
            members = "" if name.endswith("Config") else f"\n   :members:\n   :exclude-members: {REQUESTS}"
            directive = f".. autoclass:: hftransfer.{name}{members}"
        out.append(f"```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(out)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def settings_page() -> str:
    """Every field of `AdaptationConfig` under its heading."""
    from hftransfer import AdaptationConfig

    groups: dict[str, list[str]] = {}
    for field in dataclasses.fields(AdaptationConfig):
        if not field.init:
            continue
        text = field.metadata.get("help", "")
        group = getattr(text, "group", INHERITED)
        made = field.default_factory is not dataclasses.MISSING
        default = "" if made else f" = `{getattr(field.default, 'value', field.default)!r}`"
        meaning = " ".join(str(text).split())
        meaning = _short(meaning) if group == INHERITED else meaning
        groups.setdefault(group, []).append(f"`{field.name}`{default}\n: {escape_stars(meaning) or '–'}\n")
    if len(groups) < 2:
        raise ValueError("No field of AdaptationConfig says its group: the page would list transformers' alone.")
    out = ["# Settings\n", "Fields of {class}`hftransfer.AdaptationConfig`, options of `hftransfer finetune`.\n"]
    for group, entries in sorted(groups.items(), key=lambda item: item[0] == INHERITED):
        out += [f"## {'As in transformers: TrainingArguments' if group == INHERITED else group}\n", *entries]
    return "\n".join(out)


def inputs_section() -> str:
    """What the `forward` of an objective may ask for."""
    from hftransfer.objectives.base import INPUTS

    rows = ((f"`{name}`", text) for name, text in INPUTS.items())
    return "## Inputs that `forward` may name\n\n" + table(("input", "what it is"), rows)


def weights_section() -> str:
    """The default weight and schedule of each objective, and where a sweep looks for the weight."""
    from hftransfer.objectives import REGISTRY
    from hftransfer.objectives.schedules import describe_schedule

    rows = []
    for name, cls in REGISTRY.items():
        what = "the reversal; its own loss counts fully" if "strength" in cls.needs() else "its loss"
        bounds: Any = cls.search["weight"]
        weight, schedule = f"{cls.default_weight:g}", describe_schedule(cls.default_schedule)
        rows.append((f"`{name}`", weight, schedule, what, f"{bounds.low:g} to {bounds.high:g}"))
    head = ("objective", "weight at the schedule's end", "schedule", "what it weighs", "searched")
    return "## What a name alone asks for\n\n" + table(head, rows)


def validators_section() -> str:
    """Each validator, by the name that `get_validator` takes."""
    from hftransfer.selection.validators import VALIDATORS

    return _registry_section("Validators", VALIDATORS)


def transferability_section() -> str:
    """Each transferability score, by the name that `get_transferability` takes."""
    from hftransfer.selection.transferability import TRANSFERABILITY

    return _registry_section("Transferability scores", TRANSFERABILITY)


def _registry_section(title: str, registry: Mapping[str, type]) -> str:
    """A heading and an entry for each class of a registry."""
    out = [f"## {title}\n"]
    for name, cls in registry.items():
        out.append(f"### {name}\n\n```{{eval-rst}}\n.. autoclass:: {cls.__module__}.{cls.__name__}\n```\n")
    return "\n".join(out)


def write_pages(app: Any) -> None:
    folder = Path(app.srcdir) / "reference"
    found = public_names(Path(app.srcdir).parent / "hftransfer" / "__init__.pyi")
    pages = {"settings": settings_page()}
    titles = dict(PAGES.values())
    for stem, title in titles.items():
        names = [name for room, page in PAGES.items() if page[0] == stem for name in found.pop(room, [])]
        pages[stem] = f"# {title}\n\n{entries(names)}"
    if found:
        raise ValueError(f"No reference page for names from {', '.join(found)}: add the room to PAGES.")
    pages["objectives"] += f"\n{weights_section()}\n{inputs_section()}"
    pages["selection"] += f"\n{validators_section()}\n{transferability_section()}"
    for stem, text in pages.items():
        path = folder / f"{stem}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # or Sphinx reads it anew
            path.write_text(text, encoding="utf-8")


def _short(text: str) -> str:
    """The first sentence."""
    return text.split(". ")[0].rstrip(".") + "." if text else ""


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
