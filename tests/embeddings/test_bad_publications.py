"""Statistics that cannot be published, and folders of statistics that are not whole: named, and nothing is written."""

from __future__ import annotations

import hashlib
import json

import bad_publications
import pytest
import tiny
import torch
from safetensors.torch import load_file, save

from hftransfer import load_statistics, publish_statistics
from hftransfer.embeddings import private_noise


@pytest.fixture(scope="module")
def published(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "news"
    publish_statistics(
        model_folder, bad_publications.TEXTS, folder, cache_dir=False, processing_class=tiny.tokenizer()
    )
    return folder


@pytest.mark.parametrize(
    ("spoil", "error", "culprit"),
    [
        (lambda f: (f / "facts.json").unlink(), FileNotFoundError, "no facts.json"),
        (lambda f: (f / "statistics.safetensors").unlink(), FileNotFoundError, "no statistics.safetensors"),
        (lambda f: (f / "facts.json").write_text("{"), ValueError, "no JSON"),
        (lambda f: change(f, format=2), ValueError, "the format 2"),
        (lambda f: change(f, encoder=...), ValueError, "lacks encoder"),
        (lambda f: (f / "statistics.safetensors").write_bytes(b"0" * 90), ValueError, "sha256"),
        (lambda f: replace(f, b"0" * 90), ValueError, "holds no tensors"),
        (lambda f: change_tensor(f, "mean", lambda t: t[:-1]), ValueError, r"mean has the shape \(31,\), and \(32,\)"),
        (lambda f: change_tensor(f, "covariance", lambda t: t[:1]), ValueError, r"covariance has the shape \(1, 32\)"),
        (lambda f: change_tensor(f, "mean", lambda t: t * torch.nan), ValueError, "mean is not finite"),
        (lambda f: change_tensor(f, "mean", lambda t: None), ValueError, "lacks mean"),
        (lambda f: change_tensor(f, "rows", lambda t: torch.ones(3)), ValueError, "holds rows, of which"),
        (lambda f: change(f, dimension=16), ValueError, r"and \(16, 16\) is what facts.json says"),
        (lambda f: change(f, dimension="32"), ValueError, "dimension='32' is not what"),
        (lambda f: change(f, clip_norm=-1.0), ValueError, "clip_norm=-1.0 is not what"),
        (lambda f: change(f, statistics="moments"), ValueError, "statistics='moments' is not what"),
        (lambda f: change(f, statistics=["rows"]), ValueError, r"statistics=\['rows'\] is not what"),
        (lambda f: change(f, classes=["up", "up"]), ValueError, r"classes=\['up', 'up'\] is not what"),
        (lambda f: change(f, kernel=None), ValueError, "kernel=None is not what"),
        (lambda f: change(f, encoder=7), ValueError, "encoder=7 is not what"),
        (lambda f: change(f, means=...), ValueError, "lacks means"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(published, tmp_path, spoil, error, culprit):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in published.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    load_statistics(folder)
    spoil(folder)
    with pytest.raises(error, match=culprit):
        load_statistics(folder)


def change(folder, **facts) -> None:
    held = json.loads((folder / "facts.json").read_text()) | facts
    (folder / "facts.json").write_text(json.dumps({k: v for k, v in held.items() if v is not ...}))


def change_tensor(folder, name, make) -> None:
    tensors = load_file(folder / "statistics.safetensors")
    made = make(tensors.pop(name, None))
    replace(folder, save(tensors if made is None else tensors | {name: made.contiguous()}))


def replace(folder, content: bytes) -> None:
    """Other tensors, with a hash that fits."""
    (folder / "statistics.safetensors").write_bytes(content)
    change(folder, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("given", "error", "culprit", "remedy"),
    bad_publications.PUBLICATIONS.values(),
    ids=bad_publications.PUBLICATIONS.keys(),
)
def test_bad_input_is_named(model_folder, tmp_path, monkeypatch, given, error, culprit, remedy):
    monkeypatch.setattr(private_noise, "spent_epsilon", lambda *_: 1.0)
    monkeypatch.setattr(private_noise, "noise_multiplier", lambda *_: 1.0)
    given = dict(given)
    model = given.pop("model", lambda: model_folder)()
    rows = given.pop("rows", bad_publications.TEXTS)
    with pytest.raises(error) as found:
        publish_statistics(
            model, rows, tmp_path / "out", cache_dir=False, **{"processing_class": tiny.tokenizer(), **given}
        )
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="its noise once: call it in one process"):
        publish_statistics(model_folder, bad_publications.TEXTS, tmp_path / "out")


def test_nothing_is_overwritten(published, model_folder):
    before = (published / "facts.json").read_bytes()
    with pytest.raises(FileExistsError, match="name an output folder that does not"):
        publish_statistics(model_folder, bad_publications.TEXTS, published)
    assert (published / "facts.json").read_bytes() == before
