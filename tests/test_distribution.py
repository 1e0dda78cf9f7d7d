"""What is released: the wheel by itself, installed without the clone, runs a recipe from another folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from hftransfer.extras import DISTRIBUTION, install_hint

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what is in the repository, so that nothing is left in the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    copy.mkdir()
    for name in ("hftransfer", "recipes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(copy)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_under_the_distributions_name(wheel):
    assert wheel.name.startswith(f"{DISTRIBUTION.replace('-', '_')}-")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "hftransfer").rglob("*.py*") if "__pycache__" not in p.parts}
    assert sources <= set(names)
    for name in ("model_card.md.jinja", "adaptation_report.html.jinja", "adaptation_report.css"):
        assert f"hftransfer/reporting/{name}" in names
    candidates = "adaptation/candidates/standard_text.yaml"
    for name in ("data/corpus/news_train.jsonl", candidates, "recipes/adapt.py", "recipes/finetune.py", "py.typed"):
        assert f"hftransfer/{name}" in names
    assert not [name for name in names if name.startswith(("tests", "docs", "recipes"))]


def test_every_extra_that_is_hinted_at_exists():
    text = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"^(\w+) = \[", text.split("[project.optional-dependencies]")[1].split("\n[")[0], re.M)
    used = {
        extra
        for path in (ROOT / "hftransfer").rglob("*.py")
        for extra in re.findall(r"install_hint\(['\"](\w+)['\"]\)", path.read_text())
    }
    assert used
    assert used <= set(extras)
    assert install_hint("vision") == 'pip install "hf-domain-adaptation[vision]"'


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` of an environment with the wheel, and with everything else that is installed here."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    if not python.exists():
        pytest.skip("environments are laid out otherwise here")
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # everything but this package, as it is here
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-compile", str(wheel)], check=True, capture_output=True)
    return environment / "bin"


def run(command: list[object], folder: Path) -> str:
    """What a command says in another folder, where nothing leads to the clone."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_wheel_is_what_is_imported_and_knows_its_recipes(installed, tmp_path):
    where = "import hftransfer; print(hftransfer.__file__)"
    assert Path(run([installed / "python", "-c", where], tmp_path).strip()).is_relative_to(installed.parent)
    assert "--source" in run([installed / "hftransfer", "finetune", "--help"], tmp_path)


@pytest.mark.slow
def test_an_installed_wheel_runs_a_recipe_from_another_folder(installed, tmp_path, model_folder):
    options = "--source sample --target sample --output_dir run --max_steps 2 --use_cpu --save_strategy no".split()
    run([installed / "hftransfer", "finetune", *options, "--model", model_folder], tmp_path)
    assert (tmp_path / "run" / "model.safetensors").is_file()
