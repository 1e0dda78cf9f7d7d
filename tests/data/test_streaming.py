"""Streams: pairs without an index, a short target that starts over, and a run that resumes where it was."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import runs
import tiny
import torch
from accelerate.data_loader import IterableDatasetShard
from datasets import Dataset, IterableDataset

from hftransfer.data.streaming import PairedStream


def numbers(size: int, shards: int = 1) -> IterableDataset:
    return Dataset.from_dict({"number": list(range(size))}).to_iterable_dataset(num_shards=shards)


def batches(stream: PairedStream, count: int) -> list[tuple[list, list]]:
    """(source rows, target rows) as (domain, number), batch by batch."""
    out = []
    rows = iter(stream)
    for _ in range(count):
        pairs = [row["pair"] for row in islice(rows, stream.batch_size)]
        flat = [[s] for s, _ in pairs], [ts for _, ts in pairs]
        out.append(tuple([(r["domain"], r["number"]) for part in side for r in part] for side in flat))
    return out


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 1), (0.3, 1), (0.5, 2), (1, 4), (1.6, 6), (3, 12), (0.01, 1)])
def test_every_batch_has_the_same_number_of_target_rows(ratio, expected):
    stream = PairedStream({"source": numbers(30)}, numbers(30), ratio, batch_size=4)
    assert [(len(s), len(t)) for s, t in batches(stream, 7)] == [(4, expected)] * 7


def test_a_short_target_starts_over_in_another_order():
    stream = PairedStream({"source": numbers(40)}, numbers(5), batch_size=5)
    passes = [[n for _, n in target] for _, target in batches(stream, 8)]
    assert all(sorted(order) == list(range(5)) for order in passes)
    assert len({tuple(order) for order in passes}) > 1


def test_sources_take_turns_and_carry_their_number():
    stream = PairedStream({"a": numbers(20), "b": numbers(3)}, numbers(9), batch_size=4)
    (source, target), *_ = batches(stream, 1)
    assert [domain for domain, _ in source] == [0, 1, 0, 1]
    assert {domain for domain, _ in target} == {-1}


def test_a_stream_is_a_pure_function_of_seed_and_epoch():
    make = lambda seed: PairedStream({"source": numbers(30)}, numbers(7), 1, 4, seed)  # noqa: E731
    first, second = make(1), make(1)
    assert batches(first, 9) == batches(second, 9)
    assert batches(first, 9) == batches(first, 9)
    assert batches(first, 9) != batches(make(2), 9)
    second.set_epoch(1)
    assert batches(first, 9) != batches(second, 9)


def test_a_stream_and_a_data_set_may_be_paired():
    stream = PairedStream({"source": Dataset.from_dict({"number": [0, 1, 2]})}, numbers(2), batch_size=3)
    (source, target), *_ = batches(stream, 1)
    assert sorted(source) == [(0, 0), (0, 1), (0, 2)]
    assert {n for _, n in target} == {0, 1}


def test_without_a_target_there_is_only_source():
    stream = PairedStream({"source": numbers(8)}, None, batch_size=4)
    assert [len(t) for _, t in batches(stream, 2)] == [0, 0]


def test_a_stream_that_runs_dry_says_so():
    stream = PairedStream({"books": numbers(3).filter(lambda row: row["number"] > 9)}, numbers(3))
    with pytest.raises(ValueError, match="books is empty: the stream has no rows"):
        next(iter(stream))


def test_processes_get_batches_of_one_shape_that_add_up():
    """Two processes of 3 + 5 rows share out what one process of the same stream yields."""
    make = lambda: PairedStream({"source": numbers(40)}, numbers(7), 1.7, batch_size=3)  # noqa: E731
    everything = list(islice(make(), 24))
    shards = [
        list(islice(IterableDatasetShard(make(), batch_size=3, num_processes=2, process_index=i), 12)) for i in (0, 1)
    ]
    for shard in shards:
        for start in range(0, 12, 3):
            assert sum(len(row["pair"][1]) for row in shard[start : start + 3]) == 5
    mixed = [row for start in range(0, 12, 3) for shard in shards for row in shard[start : start + 3]]
    assert mixed == everything


# ---- through the trainer


def streams() -> dict:
    return {
        "train_dataset": tiny.domain().to_iterable_dataset(),
        "target_dataset": tiny.domain(3, seed=1).to_iterable_dataset(),
    }


def test_a_run_on_streams_trains_and_evaluates(tmp_path):
    run = runs.trainer(
        tmp_path, **streams(), eval_dataset={"target": tiny.domain(5).to_iterable_dataset()}, max_steps=9
    )
    before = runs.copied(run.model.model)
    run.train()
    assert runs.moved(run.model.model, before) == set(before)
    assert run.state.global_step == 9
    assert "eval_target_oracle_accuracy" in run.evaluate()


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "objectives": {"dann": 0.1}}
    whole = runs.trainer(tmp_path, tiny.bert(), **streams(), **settings)
    whole.train()
    again = runs.trainer(tmp_path, tiny.bert(seed=5), **streams(), **settings)
    again.train(resume_from_checkpoint=str(Path(tmp_path) / "checkpoint-4"))
    assert again.state.global_step == 6
    assert runs.moved(whole.model, runs.copied(again.model)) == set()


@pytest.mark.parametrize("shards", [1, 2])
def test_workers_share_out_shards(tmp_path, shards):
    source, target = (tiny.domain(rows, seed=rows).to_iterable_dataset(num_shards=shards) for rows in (24, 8))
    make = lambda: runs.trainer(tmp_path, train_dataset=source, target_dataset=target, dataloader_num_workers=2)  # noqa: E731
    if shards == 1:
        with pytest.raises(ValueError, match="dataloader_num_workers=2, but source is read in 1 shard"):
            make()
        return
    rows = list(islice(iter(make().get_train_dataloader()), 6))
    seen = torch.cat([torch.nn.functional.pad(b["input_ids"][:4], (0, 64 - b["input_ids"].shape[1])) for b in rows])
    assert len(seen.unique(dim=0)) == 24


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        (tiny.domain().to_iterable_dataset(), {"max_steps": -1}, "source is a stream, .* set max_steps"),
        (tiny.domain().to_iterable_dataset().take(0), {}, "source is empty: it has no rows"),
    ],
)
def test_what_a_stream_cannot_do_is_said_before_training(tmp_path, train, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path / "run", train_dataset=train, **settings)
    assert not (tmp_path / "run").exists()


def test_labels_of_a_stream_must_be_declared_by_data_or_model(tmp_path):
    texts = {"text": ["w1", "w2"] * 8, "label": ["up", "down"] * 8}
    stream = Dataset.from_dict(texts).to_iterable_dataset()
    with pytest.raises(ValueError, match="source is a stream.*`ClassLabel`, or pass a model"):
        runs.trainer(tmp_path, tiny.bert(("LABEL_0", "LABEL_1")), train_dataset=stream)
    run = runs.trainer(tmp_path, tiny.bert(("up", "down")), train_dataset=stream)
    run.train()
    strange = Dataset.from_dict({**texts, "label": ["up", "left"] * 8}).to_iterable_dataset()
    with pytest.raises(ValueError, match="source row 1: label 'left' is not one of 'up', 'down'"):
        runs.trainer(tmp_path, tiny.bert(("up", "down")), train_dataset=strange)
