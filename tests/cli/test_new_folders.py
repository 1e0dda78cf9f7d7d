"""Recipes that make a new folder: what cannot be made is refused before anything is loaded."""

from __future__ import annotations

import pytest
import recipe

RECIPES = {
    "interpolate": ["--source", "none", "--models", "none", "--start", "none"],
    "align_image_text": ["--source", "none", "--image_encoder", "none"],
    "few_shot": ["--source", "none"],
    "choose_source": ["--source", "none"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_folder_that_cannot_be_made_is_refused_first(name, tmp_path, capsys):
    file = tmp_path / "notes.txt"
    file.write_text("")
    for folder, reason in (
        (file, "exists already; name an output folder that does not"),
        (file / "out", f"cannot be made: {file} is a file"),
        (tmp_path / ("x" * 300), "cannot be made: file name too long"),
    ):
        assert recipe.run([*RECIPES[name], "--output_dir", str(folder)], name) == 1
        assert f"hftransfer: {folder} {reason}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
