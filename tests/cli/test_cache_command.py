"""`hftransfer cache` lists what the cache of frozen features holds, and clears it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tiny

from hftransfer import Embedder, embed
from hftransfer.cli import main as cli
from hftransfer.cli.cache_command import cache_command
from hftransfer.embeddings.cache_folder import cache_entries, cache_size

TEXTS = list(tiny.domain(6)["text"])


@pytest.fixture
def folder(tmp_path):
    """A cache with two sets of one model and one of another."""
    for name, rows in (("small", TEXTS), ("small", TEXTS[:2]), ("another", TEXTS)):
        model = tiny.bert(seed=len(name))
        model.config._name_or_path = name
        embed(rows, model, processing_class=tiny.tokenizer(), cache_dir=tmp_path)
    return tmp_path


def test_a_list_names_models_rows_and_sizes(folder, capsys):
    assert cache_command(["--cache_dir", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert sum("small" in line and "(text, mean, layer -1, float32)" in line for line in lines) == 2
    assert sum(" 6 rows" in line for line in lines) == 2
    assert "3 entries" in lines[-1]
    assert "the limit is 20.0 GB" in lines[-1]


@pytest.mark.parametrize(("options", "left"), [(["--clear"], 0), (["--clear", "SMALL"], 1), (["--shrink", "0"], 0)])
def test_what_is_cleared_is_made_anew(options, left, folder, capsys):
    assert cache_command(["--cache_dir", str(folder), *options]) == 0
    assert f"Removed {3 - left} of" in capsys.readouterr().out
    cache_command(["--cache_dir", str(folder)])
    assert f"{left} entries" in capsys.readouterr().out
    model = tiny.bert(seed=5)
    features = Embedder(model, processing_class=tiny.tokenizer(), cache_dir=folder).transform(TEXTS)
    assert np.isfinite(features).all()


def test_a_cache_that_is_not_there_is_empty(tmp_path, capsys):
    assert cache_command(["--cache_dir", str(tmp_path / "none")]) == 0
    assert "0 entries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shrink", "much"], "'much' is no size"),
        (["--clear", "--shrink", "1"], "give one"),
        (["--claer"], "unknown argument --claer. Did you mean '--clear'"),
        (["--clear", ""], "--clear '' names no model"),
        (["--cache_dir", __file__], "is a file: name a folder"),
    ],
)
def test_what_cannot_be_is_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cache_command(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_limit_that_is_none_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("HFTRANSFER_CACHE_SIZE", "much")
    with pytest.raises(SystemExit) as stopped:
        cache_command([])
    assert stopped.value.code == 2
    assert "'much' is no size" in capsys.readouterr().err


def test_an_empty_name_clears_nothing(folder):
    with pytest.raises(SystemExit):
        cache_command(["--cache_dir", str(folder), "--clear", ""])
    assert len(cache_entries(folder)) == 3


def test_the_command_is_one_of_hftransfers(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hftransfer", "cache", "--cache_dir", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert "3 entries" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "size"), [("20 GB", 20 * 10**9), ("1.5mb", 1_500_000), ("2k", 2000), (7, 7)])
def test_sizes(text, size):
    assert cache_size(text) == size


def test_no_size_is_refused(monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE_SIZE", "much")
    with pytest.raises(ValueError, match="'much' is no size"):
        cache_size()
