"""The cache of frozen features: nothing is computed twice, nothing stale is read, and what is damaged is made anew."""

from __future__ import annotations

import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pictures
import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from frozen import CHUNK, work
from processes import KILLED, forked, together

from hftransfer import embed
from hftransfer.embeddings import feature_pass, input_rows
from hftransfer.embeddings.cache_folder import cache_entries, remove, trim
from hftransfer.embeddings.feature_store import FEATURES

TEXTS = list(tiny.domain(3 * CHUNK + 5)["text"])


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    monkeypatch.setattr(input_rows, "CHUNK_ROWS", dict.fromkeys(input_rows.CHUNK_ROWS, CHUNK))


@pytest.fixture(scope="module")
def model():
    return tiny.bert()


def made(folder, rows=TEXTS, model=None, processor=None, **settings):
    return embed(rows, model, processing_class=processor or tiny.tokenizer(), cache_dir=folder, **settings)


def computed(*arguments, **settings) -> int:
    return made(*arguments, **settings).statistics.computed


# ---- a second use


def test_a_second_use_reads(tmp_path, model, monkeypatch):
    first = made(tmp_path, model=model)
    monkeypatch.setattr(type(model.bert), "forward", None)  # whoever computes fails
    second = made(tmp_path, model=model)
    assert (first.statistics.computed, second.statistics.computed, second.statistics.read) == (53, 0, 53)
    np.testing.assert_array_equal(first.features, second.features)
    assert isinstance(second.features, np.memmap)
    assert not second.features.flags.writeable


def test_a_checkpoint_is_not_loaded_for_what_is_there(tmp_path, model_folder, monkeypatch):
    first = embed(TEXTS, model_folder, cache_dir=tmp_path)
    monkeypatch.setattr("hftransfer.embeddings.feature_extractor.load_backbone", None)
    np.testing.assert_array_equal(embed(TEXTS, model_folder, cache_dir=tmp_path).features, first.features)


@pytest.mark.parametrize(
    ("rows", "new"),
    [
        (TEXTS[5:40], 0),  # some rows: a fold
        (TEXTS[::-1], 0),
        ([*TEXTS, "w1 w1 w1"], 1),  # more rows
        (["w2 w2", "w2 w2", *TEXTS], 1),  # one row twice
        (Dataset.from_dict({"text": TEXTS}), 0),
        (IterableDataset.from_generator(lambda: ({"text": text} for text in TEXTS)), 0),
    ],
)
def test_known_rows_are_not_computed_in_another_set(rows, new, tmp_path, model):
    made(tmp_path, model=model)
    again = made(tmp_path, rows, model)
    assert again.statistics.computed == new
    np.testing.assert_allclose(again.features, made(False, rows, model).features, atol=1e-5)


def test_words_are_kept_with_their_places(tmp_path, model):
    rows = tiny.tagged(3 * CHUNK)
    first, second = (made(tmp_path, rows, model, pooling="token") for _ in range(2))
    assert second.statistics.computed == 0
    for name in ("features", "rows", "words"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    expected = [(row, word) for row, words in enumerate(rows["tokens"]) for word in range(len(words))]
    assert list(zip(second.rows, second.words, strict=True)) == expected


def test_without_a_cache_nothing_is_left(tmp_path, model, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert computed(False, model=model) == computed(False, model=model) == 53
    assert not list(tmp_path.iterdir())
    made(None, model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


# ---- nothing stale


CHANGED = {
    "text": {"rows": [*TEXTS[:-1], TEXTS[-1] + " w1"]},
    "max_length": {"max_length": 5},
    "pooling": {"pooling": "cls"},
    "layer": {"layer": 1},
    "precision": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_another_setting_is_another_entry(changed, tmp_path, model):
    before = made(tmp_path, model=model).features
    after = made(tmp_path, model=model, **changed)
    assert after.statistics.computed == (1 if "rows" in changed else 53)
    assert not np.array_equal(before, after.features)
    np.testing.assert_allclose(after.features, made(False, model=model, **changed).features, atol=1e-5)


def test_changed_weights_in_the_same_folder_are_another_model(tmp_path):
    folder = tmp_path / "model"
    tiny.tokenizer().save_pretrained(folder)
    features = []
    for seed in range(2):
        tiny.bert(seed=seed).save_pretrained(folder)
        features.append(embed(TEXTS, str(folder), cache_dir=tmp_path / "cache"))
    assert [part.statistics.computed for part in features] == [53, 53]
    assert np.abs(features[0].features - features[1].features).max() > 0.1


def test_one_extractor_sees_that_its_folder_has_changed(tmp_path):
    from hftransfer import Embedder

    folder = tmp_path / "model"
    tiny.tokenizer().save_pretrained(folder)
    tiny.bert().save_pretrained(folder)
    embedder = Embedder(str(folder), cache_dir=tmp_path / "cache")
    before = embedder.transform(TEXTS)
    tiny.bert(seed=1).save_pretrained(folder)
    np.testing.assert_allclose(embedder.transform(TEXTS), made(False, model=tiny.bert(seed=1)).features, atol=1e-5)
    assert not np.allclose(before, embedder.transform(TEXTS))


@pytest.mark.parametrize("change", ["a weight", "a statistic", "a setting", "an adapter"])
def test_a_changed_model_in_memory_is_another_model(change, tmp_path):
    model = pictures.resnet() if change == "a statistic" else tiny.bert()
    rows = pictures.pictures(4) if change == "a statistic" else TEXTS
    processor = pictures.processor() if change == "a statistic" else None
    if change == "an adapter":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    before = made(tmp_path, rows, model, processor)
    if change == "a weight":
        model.bert.encoder.layer[0].attention.output.dense.weight.data[0, 0] += 0.5
    elif change == "a statistic":
        model.resnet.embedder.embedder.normalization.running_mean += 0.5
    elif change == "a setting":
        model.bert.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.ReLU()
    else:
        model.base_model.disable_adapter_layers()
    after = made(tmp_path, rows, model, processor)
    assert after.statistics.computed == before.statistics.computed > 0
    assert not np.allclose(before.features, after.features)


def test_another_tokenizer_is_another_entry(tmp_path, model):
    lower = tiny.tokenizer()
    lower.add_tokens(["w1 w2"])
    assert computed(tmp_path, model=model) == 53
    assert computed(tmp_path, model=model, processor=lower) == 53


def test_a_changed_file_behind_a_path_is_another_image(tmp_path):
    model, processor = pictures.resnet(), pictures.processor()
    images = list(pictures.pictures(3)["image"])
    path = tmp_path / "a.png"
    features = []
    for image in images[:2]:
        image.save(path)
        features.append(made(tmp_path / "cache", [str(path)], model, processor).features)
    assert not np.allclose(*features)
    assert computed(tmp_path / "cache", [str(path)], model, processor) == 0


def test_a_picture_counts_as_it_is_seen(tmp_path):
    """Two pictures of the same pixels, of which one says that it lies on its side."""
    model, processor = pictures.resnet(), pictures.processor()
    upright, turned = (pictures.pictures(1)["image"][0].convert("RGB") for _ in range(2))
    turned.getexif()[0x0112] = 6
    first, second = (made(tmp_path, [image], model, processor).features for image in (upright, turned))
    assert not np.allclose(first, second)


# ---- killed, damaged, shared


def a_model(folder: Path) -> None:
    tiny.bert(num_hidden_layers=1).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")


def facts(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("facts*.json"))]


def test_a_killed_pass_goes_on_where_it_was(tmp_path):
    a_model(tmp_path)
    rows = 6 * CHUNK
    assert forked(work, str(tmp_path), rows, 4, log=tmp_path / "log") == KILLED
    assert not facts(tmp_path)
    assert forked(work, str(tmp_path), rows, None, log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert facts(tmp_path) == [{"computed": 2 * CHUNK, "read": 4 * CHUNK}]
    (features,) = [np.load(path) for path in tmp_path.glob("features*.npy")]
    plain = embed(tiny.domain(rows), str(tmp_path / "model"), cache_dir=False).features
    np.testing.assert_allclose(features, plain, atol=1e-5)
    assert [entry.rows for entry in cache_entries(tmp_path / "cache")] == [rows]  # no parts are left


def test_two_processes_make_the_store_of_one(tmp_path):
    a_model(tmp_path)
    rows = 5 * CHUNK
    together(work, str(tmp_path), rows, None, log=tmp_path / "log")
    assert sorted(fact["computed"] for fact in facts(tmp_path)) == [2 * CHUNK, 3 * CHUNK]
    alone = embed(tiny.domain(rows), str(tmp_path / "model"), cache_dir=tmp_path / "one", batch_size=4)
    for path in tmp_path.glob("features*.npy"):
        np.testing.assert_array_equal(np.load(path), alone.features)
    stores = [sorted((tmp_path / name).rglob(FEATURES)) for name in ("cache", "one")]
    assert stores[0][0].relative_to(tmp_path / "cache") == stores[1][0].relative_to(tmp_path / "one")
    assert stores[0][0].read_bytes() == stores[1][0].read_bytes()


def test_two_runs_at_once_share_the_work(tmp_path):
    a_model(tmp_path)
    rows = 12 * CHUNK
    with ThreadPoolExecutor(2) as runs:
        ends = [runs.submit(forked, work, str(tmp_path), rows, None, log=tmp_path / f"log{i}") for i in range(2)]
    assert [end.result() for end in ends] == [0, 0]
    assert sum(fact["computed"] for fact in facts(tmp_path)) == rows
    first, second = (np.load(path) for path in tmp_path.glob("features*.npy"))
    np.testing.assert_array_equal(first, second)
    assert [entry.rows for entry in cache_entries(tmp_path / "cache")] == [rows]


@pytest.mark.parametrize("damage", ["a bit", "cut short", "no record", "a strange record"])
def test_a_damaged_store_is_made_anew(damage, tmp_path, model):
    expected = np.array(made(tmp_path, model=model).features)
    (path,) = tmp_path.rglob(FEATURES)
    if damage == "a bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no record":
        path.with_name("set.json").unlink()
    else:
        path.with_name("set.json").write_text('{"parts": [[1]]}')
    again = made(tmp_path, model=model)
    assert again.statistics.computed == (CHUNK if damage == "a bit" else 53)  # the one chunk, or all of them
    np.testing.assert_allclose(again.features, expected, atol=1e-6)
    assert computed(tmp_path, model=model) == 0


def test_a_damaged_row_is_not_read_for_another_set(tmp_path, model):
    made(tmp_path, model=model)
    (path,) = tmp_path.rglob(FEATURES)
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # in the first chunk
    path.write_bytes(content)
    assert computed(tmp_path, TEXTS[5:40], model) == CHUNK - 5


def test_a_damaged_part_is_made_anew(tmp_path, model, monkeypatch):
    from hftransfer.embeddings import feature_pass

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_pass.FeatureStore, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, model=model)
    part = sorted(tmp_path.rglob("*.safetensors"))[0]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    again = made(tmp_path, model=model)
    assert again.statistics.read + again.statistics.computed == 53
    assert again.statistics.computed in (CHUNK, 53 % CHUNK)
    np.testing.assert_allclose(again.features, made(False, model=model).features, atol=1e-5)


# ---- size


def test_the_least_recently_used_go_first(tmp_path, model):
    for i in range(3):
        made(tmp_path, [f"{text} w{i}" for text in TEXTS], model)
        entry = cache_entries(tmp_path)[-1]
        os.utime(entry.folder / "set.json", (i, i))
        for file in entry.folder.iterdir():
            os.utime(file, (i, i))
    size = cache_entries(tmp_path)[0].size
    made(tmp_path, [f"{text} w0" for text in TEXTS], model)  # is used again
    kept = made(tmp_path, [f"{text} w3" for text in TEXTS], model, cache_size=int(2.5 * size))
    assert kept.features.shape == (53, 32)
    assert len(cache_entries(tmp_path)) == 2
    assert computed(tmp_path, [f"{text} w0" for text in TEXTS], model) == 0
    assert computed(tmp_path, [f"{text} w1" for text in TEXTS], model) == 53


def test_a_set_larger_than_the_limit_is_kept_while_it_is_used(tmp_path, model):
    first = made(tmp_path, model=model, cache_size=10)
    assert np.isfinite(first.features).all()
    assert len(cache_entries(tmp_path)) == 1
    made(tmp_path, ["w1"], model, cache_size=10)
    assert [entry.rows for entry in cache_entries(tmp_path)] == [1]


def test_parts_of_a_pass_that_goes_on_are_not_removed(tmp_path, model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(feature_pass.FeatureStore, "assemble", None)
        with pytest.raises(TypeError):
            made(tmp_path, model=model)
    assert trim(tmp_path, 0) == []
    monkeypatch.setattr("hftransfer.embeddings.cache_folder.ABANDONED", -1)
    assert [entry.rows for entry in trim(tmp_path, 0)] == [None]
    assert not cache_entries(tmp_path)


def cleared_at_a_chunk(monkeypatch, folder, number):
    """A cache that somebody clears while a pass computes a chunk."""
    stock, chunks = feature_pass.compute, iter(range(100))

    def compute(*arguments):
        if next(chunks) == number:
            for entry in cache_entries(folder):
                remove(entry)
        return stock(*arguments)

    monkeypatch.setattr(feature_pass, "compute", compute)


def test_a_cache_that_is_cleared_in_a_pass_says_so(tmp_path, model, monkeypatch):
    cleared_at_a_chunk(monkeypatch, tmp_path, 2)
    with pytest.raises(FileNotFoundError, match="cleared meanwhile, and the same call computes what is missing"):
        made(tmp_path, model=model)
    assert [entry.kind for entry in cache_entries(tmp_path)] == ["text"]  # it is listed as before
    again = made(tmp_path, model=model)
    assert (again.statistics.computed, again.statistics.read) == (2 * CHUNK, CHUNK + 5)
    np.testing.assert_allclose(again.features, made(False, model=model).features, atol=1e-5)


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [
        ("", ValueError, "cache_dir is an empty text"),
        (__file__, NotADirectoryError, "is a file: name a folder"),
        (5, TypeError, "cache_dir=5 must be the path of a folder"),
        ("/proc/none", OSError, r"cannot be written in /proc/none .* Set \$HFTRANSFER_CACHE, or cache_dir"),
    ],
)
def test_a_folder_that_cannot_be_is_refused(folder, error, message, model):
    with pytest.raises(error, match=message):
        made(folder, ["w1"], model)


def test_memory_does_not_grow_with_a_stream(tmp_path, monkeypatch):
    """A stream of four times as many rows takes as much but for the index of its rows, and not their features."""
    monkeypatch.setitem(input_rows.CHUNK_ROWS, "text", 128)
    model = tiny.bert(num_hidden_layers=1, hidden_size=256, num_attention_heads=1)

    def peak(rows: int) -> int:
        stream = IterableDataset.from_generator(
            lambda: ({"text": f"w{i % 40} w{i // 40 % 40} w{i // 1600}"} for i in range(rows))
        )
        tracemalloc.start()
        features = made(tmp_path / str(rows), stream, model, progress=False).features
        assert features.shape == (rows, 256)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(128)  # what is imported and made once
    short, long = peak(512), peak(2048)
    features = 1536 * 256 * 4
    assert long - short < features / 4
