"""Frozen layers read from the cache: the same losses, never a stale state, and off by name where it cannot be."""

from __future__ import annotations

import errno
import logging
import pickle
import re

import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from transformers import TrainerCallback

from hftransfer.cli.cache_command import cache_command
from hftransfer.embeddings import feature_store, frozen_states
from hftransfer.embeddings.cache_folder import cache_entries
from hftransfer.embeddings.feature_store import FEATURES
from hftransfer.trainers.trainer_access import joint_model_of

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HFTRANSFER_CACHE", str(folder))
    return folder


def make(folder, dtype="float32", model=None, **settings):
    """A trainer of four steps whose first two of three layers are frozen."""
    defaults = {"freeze": "first_2", "max_steps": 4, "learning_rate": 1e-3, "cache_frozen_layers": dtype}
    return runs.trainer(folder, model=model or tiny.bert(num_hidden_layers=3), **defaults | settings)


def pictured(folder, dtype="float32", family="vit", **settings):
    data = {
        "train_dataset": pictures.pictures(),
        "target_dataset": pictures.pictures(seed=1, labelled=False, dark=True),
        "processing_class": pictures.processor(families.SIDE),
        "augment": "none",
    }
    return make(folder, dtype, model=families.build_vision(family), **data | settings)


def tagging(folder, dtype="float32", **settings):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)}
    return make(folder, dtype, model=tiny.bert(tiny.TAGS, tagging=True, num_hidden_layers=3), **data | settings)


class Watch(TrainerCallback):
    """How often a frozen layer runs in the steps of a run, and which layers the run leaves out."""

    def __init__(self, trainer):
        self.trainer, self.calls, self.layers = trainer, 0, None
        trainer.add_callback(self)

    def on_train_begin(self, args, state, control, **kwargs):
        self.layers = self.trainer.frozen_layer_cache.layers
        model = joint_model_of(self.trainer).model
        inner = next(
            m for n, m in model.named_modules() if n.endswith(("layer.0.output", "layers.0.mlp", "stages.0.layers.0"))
        )
        inner.register_forward_hook(self._count)

    def _count(self, *args):
        self.calls += 1


def train(trainer):
    """Losses of a run, its weights, and what `Watch` saw."""
    watch = Watch(trainer)
    trainer.train()
    return runs.logged(trainer, "loss"), {n: p.detach() for n, p in trainer.model.named_parameters()}, watch


def same_losses(build, tmp_path, tolerance, dtype="float32", **settings):
    want, weights, live = train(build(tmp_path / "live", "none", **settings))
    got, from_cache, cached = train(build(tmp_path / "cached", dtype, **settings))
    assert live.layers is None
    assert live.calls
    assert cached.layers.count == 2 or settings.get("trainable") == "head"
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)
    if dtype == "float32":
        assert len(set(want)) > 1
        for name, weight in weights.items():
            torch.testing.assert_close(from_cache[name], weight, rtol=0, atol=1e-4)
    return cached


SETTINGS = {
    "plain": {},
    "in pieces": {"forward_rows": 3, "forward_by_domain": True},
    "two views": {"objectives": {"nt_xent": 0.1}, "activation_checkpointing": True},
    "a layer's features": {"objectives": {"mmd": {"features": "hidden:1", "weight": 0.1}}},
    "unfreezing above": {"unfreeze": {"by": "step", "every": 2}, "objectives": None, "gradient_accumulation_steps": 2},
    "the head alone": {"trainable": "head", "freeze": None},
}
SLOW = ("two views", "unfreezing above")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(value, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, value in SETTINGS.items()
    ],
)
def test_losses_are_those_of_a_run_without(tmp_path, settings):
    cached = same_losses(make, tmp_path, 1e-5, **settings)
    assert not cached.calls


def test_a_mean_teacher_runs_its_own_frozen_layers(tmp_path):
    objectives = {"mean_teacher": {"weight": 100.0, "view": "same"}}
    assert same_losses(make, tmp_path, 1e-5, objectives=objectives).calls == 4  # once a step, for the target alone


def test_losses_are_those_of_a_run_without_in_half_precision(tmp_path):
    cached = same_losses(make, tmp_path, 1e-3, "float16")
    assert not cached.calls


@pytest.mark.parametrize("objective", ["vat", "masked_lm"])
def test_another_forward_runs_all_layers(tmp_path, objective):
    cached = same_losses(make, tmp_path, 1e-4, objectives={objective: 0.1})
    assert cached.calls


def test_taggers(tmp_path):
    assert not same_losses(tagging, tmp_path, 1e-5).calls


@pytest.mark.parametrize("family", ["vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_images(tmp_path, family):
    assert not same_losses(pictured, tmp_path, 1e-5, family=family).calls


def test_an_adapter_above(tmp_path):
    config = LoraConfig(r=2, layers_to_transform=[2], target_modules=["query", "value"])
    settings = {"peft_config": config, "freeze": None}
    cached = make(tmp_path / "cached", model=tiny.bert(num_hidden_layers=3, **QUIET), **settings)
    got, _, watch = train(cached)
    want, _, _ = train(make(tmp_path / "live", "none", model=tiny.bert(num_hidden_layers=3, **QUIET), **settings))
    assert watch.layers.count == 2
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def reads_all(trainer) -> bool:
    trainer.frozen_layer_cache.fill()
    made = trainer.frozen_layer_cache.statistics
    assert not trainer.frozen_layer_cache.why_off
    assert made.computed + made.read == 48
    return made.computed == 0


def test_only_what_is_the_same_is_read_again(tmp_path):
    assert not reads_all(make(tmp_path))
    other_head = tiny.bert(num_hidden_layers=3)
    with torch.no_grad():
        other_head.classifier.weight.normal_()
        other_head.bert.encoder.layer[2].output.dense.weight.normal_()
    assert reads_all(make(tmp_path, model=other_head, objectives={"coral": 1.0}, seed=7))
    assert not reads_all(make(tmp_path, "float16"))
    other_layer = tiny.bert(num_hidden_layers=3)
    with torch.no_grad():
        other_layer.bert.encoder.layer[1].output.dense.weight[0, 0] += 1e-3
    assert not reads_all(make(tmp_path, model=other_layer))
    assert not reads_all(make(tmp_path, freeze="first_1"))
    trainer = make(tmp_path, train_dataset=tiny.domain(seed=5))  # of the target, what was stored before
    trainer.frozen_layer_cache.fill()
    assert trainer.frozen_layer_cache.statistics.computed == 24
    alone = make(tmp_path, objectives=None)
    assert reads_all(alone)


@pytest.mark.slow
def test_weights_of_a_checkpoint_count_and_not_those_before_it(tmp_path):
    """A run that goes on with a checkpoint reads what the checkpoint's frozen layers give."""
    first = make(tmp_path / "first", save_strategy="steps", save_steps=2)
    first.train()
    other = tiny.bert(num_hidden_layers=3, seed=3)
    again = make(tmp_path / "first", model=other, max_steps=6)
    again.train(str(tmp_path / "first" / "checkpoint-4"))
    assert again.frozen_layer_cache.statistics.computed == 0


def test_resumed_run_is_the_same_to_the_bit(tmp_path):
    def go(folder, steps, resume=None):
        trainer = make(folder, max_steps=steps, save_strategy="steps", save_steps=3)
        trainer.train(resume)
        assert not trainer.frozen_layer_cache.why_off
        return trainer

    runs.resumed_is_alike(go, tmp_path)


def test_a_pass_that_was_killed_goes_on_at_its_chunk(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(frozen_states, "CHUNK_BYTES", 4 * 32 * 15 * 8)  # eight rows
    pooled, calls = frozen_states.StatesPass.pooled, []

    def killed(self, batch, rows):
        calls.append(len(rows))
        if len(calls) > 8:
            raise KeyboardInterrupt
        return pooled(self, batch, rows)

    with monkeypatch.context() as patch:
        patch.setattr(frozen_states.StatesPass, "pooled", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path).frozen_layer_cache.fill()
    assert None in [entry.rows for entry in cache_entries(cache)]
    trainer = make(tmp_path)
    trainer.frozen_layer_cache.fill()
    assert 0 < trainer.frozen_layer_cache.statistics.computed < 48
    resumed = [rows[0] for rows in trainer.train_dataset.frozen_states]
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "another"))
    trainer.frozen_layer_cache.fill()
    assert trainer.frozen_layer_cache.statistics.computed == 48
    for before, after in zip(resumed, trainer.train_dataset.frozen_states, strict=True):
        np.testing.assert_array_equal(before, after[0])


def test_what_is_damaged_is_computed_again(tmp_path, cache):
    make(tmp_path).frozen_layer_cache.fill()
    file = max(cache.rglob(FEATURES), key=lambda path: path.stat().st_mtime)
    content = bytearray(file.read_bytes())
    content[-3] ^= 64
    file.write_bytes(content)
    trainer = make(tmp_path)
    trainer.frozen_layer_cache.fill()
    assert trainer.frozen_layer_cache.statistics.computed == 24
    assert trainer.frozen_layer_cache.layers is not None


def test_rows_hold_their_own_tokens_and_travel_by_path(tmp_path):
    trainer = make(tmp_path, "float16")
    trainer.frozen_layer_cache.fill()
    train = trainer.train_dataset
    rows = train.__getitems__([3, 30, 11])
    assert [len(row["frozen_states"]) for row in rows] == [row["length"] for row in rows]
    assert rows[0]["frozen_states"].dtype == np.float16
    content = pickle.dumps(train.frozen_states[0])
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content)[3], rows[0]["frozen_states"])
    trainer.frozen_layer_cache.clear()
    assert "frozen_states" not in train[3]


def test_the_cache_command_lists_and_clears_it(tmp_path, cache, capsys):
    make(tmp_path, "float16").frozen_layer_cache.fill()
    assert cache_command([]) == 0
    lines = capsys.readouterr().out
    assert lines.count("BertForSequenceClassification") == 2
    assert "states of tokens for training, layer 2, float16" in lines
    assert cache_command(["--clear", "bert"]) == 0
    assert not cache_entries(cache)


def compiled(folder):
    trainer = make(folder)
    trainer.args.torch_compile = True
    return trainer


def collated(folder):
    trainer = make(folder)
    trainer.data_collator = lambda rows: trainer.prepared.collator(rows)
    return trainer


def padding_counts(folder):
    model = tiny.bert(num_hidden_layers=3)
    layer = model.bert.encoder.layer[0]
    own = layer.forward
    layer.forward = lambda hidden, *args, **kwargs: own(hidden, *args, **kwargs) + hidden.mean(1, keepdim=True)
    return make(folder, model=model)


def too_large(folder):
    model = tiny.bert(num_hidden_layers=3)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.weight.fill_(1e6)
    return make(folder, "float16", model=model)


def streamed(folder):
    data = {"train_dataset": tiny.domain(), "target_dataset": tiny.domain(seed=1, labelled=False)}
    return make(folder, **{name: rows.to_iterable_dataset() for name, rows in data.items()})


def adapted(folder, **layers):
    return make(folder, freeze=None, peft_config=LoraConfig(r=2, target_modules=["query"], **layers))


OFF = {
    "stream": (streamed, "stream"),
    "augmentation": (lambda folder: pictured(folder, augment=None), "augment='weak' changes images"),
    "own collator": (collated, "a data_collator of yours"),
    "compiled": (compiled, "torch_compile"),
    "nothing frozen": (lambda folder: make(folder, freeze=None), "trains, and the first layer depends on it"),
    "unfreezing all": (
        lambda folder: make(folder, freeze=None, unfreeze={"by": "step", "every": 1}),
        "unfreeze lets it train by the end",
    ),
    "a layer below": (
        lambda folder: make(folder, objectives={"mmd": {"features": "hidden:0", "weight": 0.1}}),
        "mmd reads layer 0",
    ),
    "strong views": (
        lambda folder: make(folder, objectives={"fixmatch": 1.0}),
        "strong views of the target are other",
    ),
    "attention": (
        lambda folder: make(
            folder, model=tiny.bert(num_hidden_layers=3, **QUIET), objectives={"distill_attention": 1.0}
        ),
        "attention is compared with a teacher's",
    ),
    "an adapter below": (adapted, "lora_A.* trains, and the first layer depends on it"),
    "dropout below": (
        lambda folder: adapted(folder, layers_to_transform=[2]),
        r"dropout \(Dropout\) is in training mode below",
    ),
    "too large": (lambda folder: make(folder, frozen_cache_gb=1e-6), "frozen_cache_gb=1e-06 allows 1.0 kB; float16"),
    "padding": (padding_counts, "depends on padding"),
    "overflow": (too_large, "not finite in float16; float32 may hold it"),
    "stages": (lambda folder: pictured(folder, family="swin", freeze="first_1"), "hand on more than hidden states"),
}


@pytest.mark.parametrize(("build", "reason"), OFF.values(), ids=OFF.keys())
def test_what_cannot_be_stored_is_said_in_one_line(tmp_path, caplog, cache, build, reason):
    trainer = build(tmp_path)
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        trainer.frozen_layer_cache.fill()
    assert torch.equal(torch.get_rng_state(), state)
    (record,) = (r for r in caplog.records if "cache_frozen_layers" in r.getMessage())
    message = record.getMessage()
    assert message.startswith(f"cache_frozen_layers={trainer.args.cache_frozen_layers!r} is off: ")
    assert "\n" not in message
    assert re.search(reason, message), message
    assert trainer.frozen_layer_cache.layers is None
    assert not [entry for entry in cache_entries(cache) if entry.rows]


def test_a_run_goes_on_where_it_is_off(tmp_path):
    losses, _, watch = train(make(tmp_path, frozen_cache_gb=1e-6))
    assert len(losses) == 4
    assert watch.layers is None
    assert watch.calls
    assert "frozen_cache_gb" in watch.trainer.frozen_layer_cache.why_off


def full_disk(monkeypatch, folder):
    def save(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store, "save_file", save)


def cleared_meanwhile(monkeypatch, folder):
    monkeypatch.setattr(feature_store.FeatureStore, "_read_file", lambda self, key: None)


def broken_disk(monkeypatch, folder):
    def locked(self, key):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(feature_store.FeatureStore, "locked", locked)


def below_a_file(monkeypatch, folder):
    folder.write_text("")
    monkeypatch.setenv("HFTRANSFER_CACHE", str(folder / "cache"))


def a_file(monkeypatch, folder):
    folder.write_text("")


FOLDERS = {
    "full": (
        full_disk,
        r"no room for features .* Set \$HFTRANSFER_CACHE, .* or make room with `hftransfer cache --clear`$",
    ),
    "cleared": (cleared_meanwhile, "the cache was cleared meanwhile"),
    "broken": (broken_disk, "Input/output error"),
    "not writable": (below_a_file, r"cannot be written in .*cache \(Not a directory\)\. Set \$HFTRANSFER_CACHE, "),
    "file": (a_file, "HFTRANSFER_CACHE '.*' is a file: name a folder"),
}


@pytest.mark.parametrize(("damage", "reason"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_run_goes_on_without_a_folder_for_it(tmp_path, cache, caplog, monkeypatch, damage, reason):
    damage(monkeypatch, cache)
    with caplog.at_level(logging.WARNING):
        losses, _, watch = train(make(tmp_path / "run"))
    assert len(losses) == 4
    assert watch.calls
    assert watch.layers is None
    (said,) = (r.getMessage() for r in caplog.records if "cache_frozen_layers" in r.getMessage())
    assert re.search(reason, watch.trainer.frozen_layer_cache.why_off)
    assert "output_dir" not in said


def test_a_bound_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frozen_cache_gb=2 has no effect without cache_frozen_layers"):
        runs.config(tmp_path, frozen_cache_gb=2)
