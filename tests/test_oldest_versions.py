"""The lower end of the supported versions: what pyproject.toml promises is what `make test-oldest` installs."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
USED = [*PROJECT["project"]["dependencies"], *EXTRAS["plots"], *EXTRAS["search"], *EXTRAS["transport"]]
IMAGES = EXTRAS["vision"]  # asks for a newer transformers than text does


def floors(requirements: list[str]) -> dict[str, Version]:
    """Lower ends by name; whatever has another kind of range, or none, fails."""
    versions = {}
    for requirement in map(Requirement, requirements):
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", requirement
        versions[canonicalize_name(requirement.name)] = Version(specifier.version)
    return versions


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_every_floor_is_the_version_that_is_tried():
    expected = floors([*USED, *PROJECT["build-system"]["requires"]])
    tried = pins("constraints-oldest.txt")
    assert expected == {name: tried.get(name) for name in expected}


def test_every_floor_of_images_is_the_version_that_is_tried():
    expected = floors(IMAGES)
    tried = pins("constraints-oldest.txt") | pins("constraints-oldest-images.txt")
    assert expected == {name: tried.get(name) for name in expected}


@pytest.mark.parametrize("name", ["torch", "transformers", "datasets", "accelerate", "peft"])
def test_the_documentation_names_the_floors(name):
    text = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^Python 3\.\d+ or newer, .*?\.(?=\s)", text, re.M | re.S)
    required, images = sentence.split(" or newer; images")
    assert re.search(rf"\b{name} (\d[\d.]*\d)", required)[1] == str(floors(USED)[name])
    assert re.search(r"transformers (\d[\d.]*\d)", images)[1] == str(floors(IMAGES)["transformers"])


def test_the_documentation_names_the_oldest_python():
    floor = PROJECT["project"]["requires-python"].removeprefix(">=")
    for page in ("README.md", "docs/quickstart.md"):
        assert f"Python {floor} or newer" in (ROOT / page).read_text(encoding="utf-8")


def test_the_test_files_that_make_names_exist():
    names = re.findall(r"tests/\S+\.py", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert names
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_what_make_imports_exists():
    names = re.findall(r"from (hftransfer\S*) import (\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert names
    for module, name in names:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
