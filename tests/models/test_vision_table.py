"""The table of models in the documentation: each cell is what the code finds in a tiny model of the family."""

from __future__ import annotations

import re
from pathlib import Path

import families
import pytest
from families import FAMILIES, RECURRENT, VISION
from peft import LoraConfig
from test_adapter_methods import METHODS, REFUSALS
from torch import nn

from hftransfer.models.adapters import attach_adapter
from hftransfer.models.batch_norm_statistics import batch_norms
from hftransfer.models.feature_hook import find_head
from hftransfer.models.model_structure import embedding_modules, layer_stack

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.split("| `model_type`", 1)[1].split("\n## ")[0].splitlines()
    if line.startswith("| `") and not line.startswith("| `model_type`")
    for cells in [[cell.strip() for cell in line.strip("| ").split(" | ")]]
}


def found(family: str) -> list[str]:
    """The cells of a family's row."""
    model = families.build_vision(family) if family in VISION else families.build(family)
    batch = families.images() if family in VISION else families.batch()
    head = find_head(model, batch)
    first = ", ".join(f"`{name}`" for name in embedding_modules(model))
    norms = "yes" if batch_norms(model) else "–"
    stack = layer_stack(model)[0]
    try:
        wrapped = attach_adapter(model, LoraConfig(r=2), head, batch)
    except ValueError:
        return [f"`{stack}`", first, "nothing", norms]
    kinds = {type(module.base_layer) for module in wrapped.modules() if hasattr(module, "lora_A")}
    return [f"`{stack}`", first, "convolutions" if nn.Conv2d in kinds else "linears", norms]


def row(family: str) -> str:
    return "| " + " | ".join([f"`{family}`", *found(family)]) + " |"


def test_every_tested_family_is_in_the_table():
    assert list(ROWS) == [*FAMILIES, *RECURRENT, *VISION]


@pytest.mark.parametrize("family", [*FAMILIES, *RECURRENT, *VISION])
def test_a_row_says_what_the_code_finds(family):
    assert ROWS[family] == found(family)


def test_the_methods_are_those_that_are_tested():
    section = PAGE.split("## PEFT's other methods")[1].split("\n## ")[0]
    named = re.sub(r"\s+", " ", section.split("\n\n")[2]).rstrip(".").split(", ")
    assert named == list(METHODS)
    on_convolutions = re.search(r"On convolutions \(ResNet\), PEFT supports (.*?)\.", section.replace("\n", " "))[1]
    assert re.split(", | and ", on_convolutions) == [name for name in METHODS if name not in REFUSALS]
