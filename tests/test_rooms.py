"""One room, one question: imports point only the way the table says."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import LONGEST

import hftransfer

PACKAGE = Path(hftransfer.__file__).parent
RECIPES = PACKAGE.parent / "recipes"

# What each room may import of ours; what is shared is for everybody.
SHARED = {
    "extras",
    "former_names",
    "ignored_label",
    "messages",
    "stages",
    "settings",
    "setting_ranges",
    "yaml_files",
    "_version",
}
ROOMS = {
    "data": {"hub_connection"},
    "models": {"hub_connection"},
    "objectives": set(),
    "embeddings": {"data", "models", "objectives"},
    "selection": {"embeddings"},
    "test_time": {"models", "objectives"},
    "reporting": set(),
    "trainers": {
        "data",
        "models",
        "objectives",
        "embeddings",
        "selection",
        "reporting",
        "hub_connection",
        "cpu_threads",
    },
    "adaptation": {
        "data",
        "models",
        "objectives",
        "embeddings",
        "selection",
        "trainers",
        "pretraining",
        "reporting",
        "hub_connection",
    },
    "pretraining": {
        "data",
        "models",
        "objectives",
        "embeddings",
        "selection",
        "trainers",
        "reporting",
        "hub_connection",
    },
    "cli": {"cpu_threads"},
}
TYPES_ONLY = {"objectives": {"models"}, "cli": {"data", "trainers", "pretraining"}}  # under `if TYPE_CHECKING`
# Inside functions.
LAZILY = {
    "cli": {
        "data",
        "models",
        "objectives",
        "embeddings",
        "trainers",
        "adaptation",
        "pretraining",
        "reporting",
        "recipes",
    }
}
# Single files beside the rooms; the public names are imported when first used, from a list in __init__.pyi.
FILES = {
    name: set()
    for name in ("_version", "extras", "ignored_label", "messages", "stages", "hub_connection", "cpu_threads")
} | {
    "__init__": {"_version"},
    "yaml_files": {"messages"},
    "former_names": {"messages", "settings"},
    "setting_ranges": {"messages"},
    "settings": {"messages", "setting_ranges"},
}
# What each folder of trainers/ may import of the other folders; trainer.py imports all of them.
INSIDE_TRAINERS: dict[str, set[str]] = {
    "teachers": set(),
    "step": {"teachers"},
    "setup": {"teachers", "step"},
    "saving": {"setup", "step"},
    "hub": {"saving", "setup", "step"},
}
# Files of trainers/ that may import trainer.py: subclasses, and what recipes call.
MAKE_TRAINERS = {
    "objective_trainers",
    "source_free_trainer",
    "benchmark_cell",
    "results",
    "source_only",
    "interpolated_card",
}


@dataclass(frozen=True)
class Import:
    """One import of ours: the room or file it reaches, the module named in full, and where it stands."""

    room: str
    module: str
    typing: bool
    lazy: bool
    names: tuple[str, ...] = ()


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Imports of `hftransfer` in a module's source, relative ones resolved, those of submodules by name too."""
    here = module.split(".")

    def walk(node: ast.AST, typing: bool, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            targets = [(alias.name.split("."), ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = node.level - 1 if is_package else node.level
            base = (here[: len(here) - up] if node.level else []) + (node.module.split(".") if node.module else [])
            names = tuple(alias.name for alias in node.names)
            targets = [([*base, name], (name,)) for name in names] if base == ["hftransfer"] else [(base, names)]
        else:
            targets = []
        for path, names in targets:
            if path[0] == "hftransfer":
                yield Import(path[1] if len(path) > 1 else "__init__", ".".join(path), typing, lazy, names)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, True, lazy)
            for child in node.orelse:
                yield from walk(child, typing, lazy)
            return
        inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, typing, inside)

    yield from walk(ast.parse(source), False, False)


def forbidden(room: str, found: Import) -> bool:
    allowed = SHARED | {room} | ROOMS[room]
    if found.typing:
        allowed |= TYPES_ONLY.get(room, set())
    if found.lazy:
        allowed |= LAZILY.get(room, set())
    return found.room not in allowed


def modules(room: str = ".") -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[Import]:
    return list(imports(path.read_text(encoding="utf-8"), dotted(path), path.name == "__init__.py"))


def test_imports_point_one_way():
    wrong = []
    for path in modules():
        parts = path.relative_to(PACKAGE).parts
        if len(parts) == 1:
            found = [i for i in imports_of(path) if i.room not in FILES[path.stem]]
        else:
            found = [i for i in imports_of(path) if forbidden(parts[0], i)]
        wrong += [f"{dotted(path)} imports {i.module}" for i in found]
    assert not wrong


def foreign_folders(folder: str, source: str, module: str) -> list[str]:
    """Modules in other folders of trainers/ that a module of one of them may not import, in any way."""
    allowed = {folder, *INSIDE_TRAINERS[folder]}
    paths = {i.module: i.module.split(".") for i in imports(source, module)}
    return [
        name
        for name, parts in paths.items()
        if parts[:2] == ["hftransfer", "trainers"] and len(parts) > 2
        if parts[2] in {*INSIDE_TRAINERS, "trainer"} - allowed
    ]


def import_graph(sources: Mapping[str, str], packages: Collection[str] = ()) -> dict[str, set[str]]:
    """Modules that each module imports when it is imported itself, those for types alone included."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        reached: set[str] = set()
        for found in imports(source, module, module in packages):
            if not found.lazy:
                submodules = {f"{found.module}.{name}" for name in found.names} & set(sources)
                reached |= submodules
                if len(submodules) < len(found.names) or not found.names:
                    reached |= {found.module} & set(sources)
        graph[module] = reached - {module}
    return graph


def find_circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Modules of which each imports the next and the last is the first again; none where there is no such circle."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for following in sorted(graph[module]):
                if circle := walk(following, [*path, module]):
                    return circle
            done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := walk(module, []))), [])


def test_folders_of_trainers_import_one_way():
    wrong = []
    for path in modules("trainers"):
        folder, *rest = path.relative_to(PACKAGE / "trainers").parts
        source = path.read_text(encoding="utf-8")
        if rest:
            found = foreign_folders(folder, source, dotted(path))
        else:
            makes = path.stem in MAKE_TRAINERS
            found = [] if makes else [i.module for i in imports_of(path) if i.module == "hftransfer.trainers.trainer"]
        wrong += [f"{dotted(path)} imports {module}" for module in found]
    assert not wrong


def test_every_folder_of_trainers_is_in_the_table():
    assert {p.name for p in (PACKAGE / "trainers").iterdir() if (p / "__init__.py").is_file()} == set(INSIDE_TRAINERS)
    assert not find_circle(INSIDE_TRAINERS)


def test_no_module_imports_itself_by_way_of_others():
    packages = [dotted(path) for path in modules() if path.name == "__init__.py"]
    circle = find_circle(import_graph({dotted(p): p.read_text(encoding="utf-8") for p in modules()}, packages))
    assert not circle, f"a circle of imports: {' -> '.join(circle)}"


def test_files_that_come_first_are_there():
    """Those that tests/conftest.py starts with, by name."""
    assert [name for name in LONGEST if not (Path(__file__).parent / name).is_file()] == []


def test_no_two_files_have_one_name():
    by_name: dict[str, list[str]] = {}
    for path in modules():
        if path.name != "__init__.py":
            by_name.setdefault(path.name, []).append(dotted(path))
    twice = {name: places for name, places in by_name.items() if len(places) > 1}
    assert not twice, f"files of one name: {twice}"


@pytest.mark.parametrize(
    ("sources", "circle"),
    [
        ({"a": "from .b import x", "b": "from .c import y", "c": "from . import a"}, ["a", "b", "c", "a"]),
        ({"a": "from .b import x", "b": "if TYPE_CHECKING:\n    from .a import X"}, ["a", "b", "a"]),
        ({"a": "from .b import x", "b": "def f():\n    from .a import X"}, []),
        ({"a": "from .b import x\nfrom .c import y", "b": "from .c import z", "c": "import torch"}, []),
    ],
)
def test_a_planted_circle_is_named(sources, circle):
    graph = import_graph({f"hftransfer.{name}": source for name, source in sources.items()})
    assert find_circle(graph) == [f"hftransfer.{name}" for name in circle]


@pytest.mark.parametrize(
    ("folder", "source", "caught"),
    [
        ("teachers", "from ..setup.preparation import Prepared", True),
        ("teachers", "if TYPE_CHECKING:\n    from ..step.joint_model import JointModel", True),
        ("teachers", "from ..config import AdaptationConfig", False),
        ("step", "from ..teachers.teacher import Teacher", False),
        ("step", "from ..setup.plan import plan", True),
        ("setup", "from ..step.joint_model import JointModel", False),
        ("setup", "def f():\n    from ..trainer import AdaptationTrainer", True),
    ],
)
def test_a_planted_import_inside_trainers_is_judged(folder, source, caught):
    assert bool(foreign_folders(folder, source, f"hftransfer.trainers.{folder}.module")) is caught


def test_every_room_is_in_the_table():
    found = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert found <= set(ROOMS)
    assert {"data", "models", "objectives", "trainers", "adaptation", "reporting", "cli"} <= found


def test_the_table_has_no_circle():
    """Rooms can be put in an order in which each imports only those before it."""
    left = dict(ROOMS)
    while left:
        free = [room for room, allowed in left.items() if not allowed & set(left)]
        assert free, f"a circle among {', '.join(left)}"
        for room in free:
            del left[room]


def not_public(source: str, recipe: str) -> list[str]:
    """What a recipe imports of ours that is not a public name: one of a module inside, or a private one."""
    wrong = []
    for found in imports(source, recipe):
        names = found.names or (found.module,)
        public = found.module in ("hftransfer", *(f"hftransfer.{name}" for name in hftransfer.__all__))
        private = "._" in found.module or any(name.startswith("_") for name in names)
        wrong += [f"{found.module}: {', '.join(names)}"] * (private or not public)
    return wrong


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_recipes_import_public_names_alone(path):
    assert not not_public(path.read_text(encoding="utf-8"), path.stem)


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("from hftransfer import AdaptationTrainer, load_shift", False),
        ("def run():\n    from hftransfer import AdaptationTrainer", False),
        ("import hftransfer", False),
        ("from datasets import Dataset", False),
        ("from hftransfer import models", True),
        ("from hftransfer.trainers.trainer import AdaptationTrainer", True),
        ("import hftransfer.trainers", True),
        ("from hftransfer import _version", True),
        ("def run():\n    from hftransfer.stages import stage", True),
    ],
)
def test_a_planted_import_of_a_recipe_is_judged(source, caught):
    assert bool(not_public(source, "finetune")) is caught


@pytest.mark.parametrize(
    ("room", "source", "caught"),
    [
        ("objectives", "from ..trainers.adapter import JointModel", True),
        ("objectives", "from ..messages import nearest", False),
        ("objectives", "from .base import Objective", False),
        ("objectives", "from ..models.tap import Head", True),
        ("objectives", "if TYPE_CHECKING:\n    from ..models.tap import Head", False),
        ("objectives", "if TYPE_CHECKING:\n    pass\nelse:\n    from ..models.tap import Head", True),
        ("objectives", "if TYPE_CHECKING:\n    from ..data.text_encoder import LENGTH", True),
        ("data", "import hftransfer.models.feature_hook", True),
        ("data", "from hftransfer import models", True),
        ("data", "from hftransfer import load_model", True),
        ("data", "from .. import models", True),
        ("data", "import torch, os.path as p\nfrom datasets import Dataset", False),
        ("data", "def f():\n    from ..trainers import plan", True),
        ("data", "try:\n    from ..trainers import plan\nexcept ImportError:\n    pass", True),
        ("models", "class A:\n    from ..data import text", True),
        ("cli", "from ..trainers.config import AdaptationConfig", True),
        ("cli", "def f():\n    from ..trainers.config import AdaptationConfig", False),
        ("reporting", "from ..trainers.plan import plan", True),
        ("trainers", "from ..reporting.tables import print_facts", False),
        ("trainers", "from ..cli.recipe_parser import parse", True),
        ("trainers", "import hftransfer", True),
    ],
)
def test_a_planted_import_is_judged(room, source, caught):
    found = list(imports(source, f"hftransfer.{room}.module"))
    assert any(forbidden(room, i) for i in found) is caught


def test_relative_imports_resolve_from_packages_and_deeper_modules():
    def reached(*args) -> list[str]:
        return [i.module for i in imports(*args)]

    assert reached("from .base import X", "hftransfer.objectives", True) == ["hftransfer.objectives.base"]
    assert reached("from ..base import X", "hftransfer.objectives.alignment.mmd") == ["hftransfer.objectives.base"]
    assert reached("from ...models import tap", "hftransfer.objectives.alignment.mmd") == ["hftransfer.models"]
