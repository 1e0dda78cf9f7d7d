"""Pairing: what a batch holds is a pure function of seed, epoch and batch, however the batch is cut up."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import runs
import tiny
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from torch.utils.data import DataLoader

from hftransfer.data.pairing import TARGET, PairedBatchSampler, PairedDataset


def rows_of(size: int, seed: int = 0) -> Dataset:
    """`size` rows with a number and a length drawn from a long-tailed distribution."""
    lengths = np.random.default_rng(seed).lognormal(3.0, 0.6, size).astype(int) + 3
    return Dataset.from_dict({"number": list(range(size)), "length": lengths.tolist()})


def paired(sources=(40,), target: int | None = 30) -> PairedDataset:
    named = {f"s{i}": rows_of(size, seed=i) for i, size in enumerate(sources)}
    return PairedDataset(named, None if target is None else rows_of(target, seed=99))


def epoch_of(sampler: PairedBatchSampler, epoch: int = 0) -> np.ndarray:
    """(batches, rows) indices of one epoch."""
    sampler.set_epoch(epoch)
    batches = np.array(list(sampler))
    assert len(batches) == len(sampler)
    return batches


def source_of(sampler: PairedBatchSampler, batches: np.ndarray) -> np.ndarray:
    return batches[:, : sampler.source_rows]


def target_of(sampler: PairedBatchSampler, batches: np.ndarray) -> np.ndarray:
    return batches[:, sampler.source_rows :] - sampler.dataset.num_source


def spread(indices: np.ndarray, size: int) -> int:
    """How much more often the most frequent row was seen than the least frequent one."""
    counts = np.bincount(indices.ravel(), minlength=size)
    return int(counts.max() - counts.min())


@pytest.mark.parametrize("grouped", [False, True])
def test_batches_are_a_pure_function_of_seed_and_epoch(grouped):
    make = lambda seed: PairedBatchSampler(paired(), 4, group_by_length=grouped, seed=seed)  # noqa: E731
    first, second = make(1), make(1)
    epoch_of(second, 5)  # having been elsewhere changes nothing
    assert np.array_equal(epoch_of(first, 2), epoch_of(second, 2))
    assert not np.array_equal(epoch_of(first, 2), epoch_of(first, 3))
    assert not np.array_equal(epoch_of(first, 2), epoch_of(make(2), 2))


@pytest.mark.parametrize("ratio", [0.5, 1, 3])
def test_source_rows_come_first_and_the_ratio_says_how_many_target_rows_follow(ratio):
    sampler = PairedBatchSampler(paired(), 4, ratio)
    batches = epoch_of(sampler)
    assert batches.shape == (10, 4 + 4 * ratio)
    assert (source_of(sampler, batches) < 40).all()
    assert (target_of(sampler, batches) >= 0).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_an_epoch_by_source_sees_every_source_row(grouped):
    sampler = PairedBatchSampler(paired((41,), 30), 4, group_by_length=grouped)
    batches = epoch_of(sampler)
    assert len(batches) == 11
    assert set(source_of(sampler, batches).ravel()) == set(range(41))


def test_an_epoch_by_the_longest_sees_every_target_row_too():
    sampler = PairedBatchSampler(paired((10,), 101), 4, epoch_by="longest")
    batches = epoch_of(sampler)
    assert len(batches) == 26
    assert set(target_of(sampler, batches).ravel()) == set(range(101))
    assert spread(source_of(sampler, batches), 10) <= 1
    shorter = PairedBatchSampler(paired((101,), 10), 4, epoch_by="longest")
    assert len(shorter) == 26


def test_an_unknown_epoch_is_refused():
    with pytest.raises(ValueError, match="'target'.*'source' or 'longest'"):
        PairedBatchSampler(paired(), 4, epoch_by="target")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("source", "target"), [(41, 7), (7, 41), (13, 13)])
def test_no_row_comes_again_before_all_were_seen_over_epochs(source, target, grouped):
    sampler = PairedBatchSampler(paired((source,), target), 4, ratio=0.5, group_by_length=grouped)
    seen = [epoch_of(sampler, epoch) for epoch in range(5)]
    for epochs in range(1, 6):
        so_far = np.concatenate(seen[:epochs])
        assert spread(source_of(sampler, so_far), source) <= 1
        assert spread(target_of(sampler, so_far), target) <= 1


def test_without_grouping_that_holds_after_every_batch():
    sampler = PairedBatchSampler(paired((11,), 5), 4, group_by_length=False)
    batches = np.concatenate([epoch_of(sampler, epoch) for epoch in range(4)])
    for count in range(1, len(batches) + 1):
        assert spread(source_of(sampler, batches[:count]), 11) <= 1
        assert spread(target_of(sampler, batches[:count]), 5) <= 1


def test_several_sources_share_by_size():
    sampler = PairedBatchSampler(paired((60, 20), 30), 8)
    source = source_of(sampler, epoch_of(sampler))
    assert Counter((source >= 60).ravel().tolist()) == {False: 60, True: 20}


@pytest.mark.parametrize("batch_size", [8, 5])  # 5: rows of an epoch do not divide by the number of sources
def test_several_sources_share_equally_when_balanced(batch_size):
    sizes = (60, 20, 11)
    sampler = PairedBatchSampler(paired(sizes, 30), batch_size, balanced=True, group_by_length=False)
    source = np.concatenate([source_of(sampler, epoch_of(sampler, epoch)) for epoch in range(4)])
    which = np.searchsorted(np.cumsum(sizes), source.ravel(), side="right")
    counts = np.bincount(which)
    assert counts.max() - counts.min() <= 1
    assert set(source[: len(source) // 4].ravel()) == set(range(91))  # the largest is through in each epoch
    for i, size in enumerate(sizes):
        assert spread(source.ravel()[which == i] - sum(sizes[:i]), size) <= 1


@pytest.mark.parametrize("chunks", [1, 2])
def test_balanced_sources_keep_their_shares_in_batches_of_similar_length(chunks):
    sizes = (200, 40)
    data = paired(sizes, None)
    data.lengths = np.concatenate([np.arange(200) % 7 + 30, np.arange(40) % 7 + 3])  # one source has the short rows
    sampler = PairedBatchSampler(data, 8, chunks=chunks, balanced=True)
    source = source_of(sampler, epoch_of(sampler))
    assert ((source < 200).sum(1) == 4).all()
    assert set(source.ravel()) == set(range(240))
    spread_of_lengths = [np.ptp(data.lengths[batch[batch < 200]]) for batch in source]
    assert np.mean(spread_of_lengths) < 2  # each source by itself is sorted


def test_one_source_is_balanced_already():
    plain, balanced = (PairedBatchSampler(paired(), 4, balanced=b) for b in (False, True))
    assert np.array_equal(epoch_of(plain), epoch_of(balanced))


def padded_share(batches: np.ndarray, sampler: PairedBatchSampler) -> float:
    lengths = sampler.dataset.lengths[batches]
    return 1 - lengths.sum() / (lengths.max(axis=1) * lengths.shape[1]).sum()


def test_length_aware_batches_pad_less():
    data = paired((600,), 500)
    plain = PairedBatchSampler(data, 8, group_by_length=False)
    grouped = PairedBatchSampler(data, 8)
    assert padded_share(epoch_of(grouped), grouped) < 0.5 * padded_share(epoch_of(plain), plain)


def test_length_aware_batches_do_not_come_in_order_of_length():
    sampler = PairedBatchSampler(paired((800,), 800), 8)
    mean = sampler.dataset.lengths[epoch_of(sampler)].mean(axis=1)
    assert abs(np.corrcoef(mean, np.arange(len(mean)))[0, 1]) < 0.4


@pytest.mark.parametrize("grouped", [False, True])
def test_an_update_holds_the_same_rows_however_it_is_cut(grouped):
    def updates(batch_size, chunks):
        sampler = PairedBatchSampler(paired((50,), 33), batch_size, 2, chunks, group_by_length=grouped)
        batches = epoch_of(sampler, 1)
        parts = source_of(sampler, batches), target_of(sampler, batches)
        return [np.sort(part.reshape(sampler.updates, -1)) for part in parts]

    whole = updates(8, 1)
    for batch_size, chunks in ((4, 2), (2, 4)):
        for a, b in zip(whole, updates(batch_size, chunks), strict=True):
            assert np.array_equal(a, b)


def test_processes_share_out_the_micro_batches_of_each_update():
    """Two processes of 4 rows see, update by update, what one process of 8 rows sees."""
    whole = PairedBatchSampler(paired((50,), 33), 8)
    cut = PairedBatchSampler(paired((50,), 33), 4, chunks=2)
    shards = [list(BatchSamplerShard(cut, num_processes=2, process_index=i)) for i in (0, 1)]
    assert [len(shard) for shard in shards] == [len(whole)] * 2
    for batch, first, second in zip(whole, *shards, strict=True):
        assert len(first) == len(second) == 8
        assert sorted(first[:4] + second[:4]) == sorted(batch[:8])
        assert sorted(first[4:] + second[4:]) == sorted(batch[8:])


def test_the_cut_between_processes_does_not_follow_length():
    """In half of the updates, give or take, the first process has the shorter rows."""
    sampler = PairedBatchSampler(paired((2000,), 2000), 8, chunks=2)
    mean = sampler.dataset.lengths[epoch_of(sampler)].mean(axis=1)
    assert 0.3 < np.mean(mean[0::2] < mean[1::2]) < 0.7


def test_the_last_update_is_filled_up_or_left_out():
    assert len(PairedBatchSampler(paired((50,), 30), 8, chunks=2)) == 2 * 4
    assert len(PairedBatchSampler(paired((50,), 30), 8, chunks=2, drop_last=True)) == 2 * 3


@pytest.mark.parametrize(("source", "target"), [(2, 2000), (2000, 2), (2000, 1), (1, 1)])
def test_sizes_may_differ_by_any_factor(source, target):
    sampler = PairedBatchSampler(paired((source,), target), 4)
    batches = epoch_of(sampler, 3)
    assert batches.shape == (max(1, source // 4), 8)
    assert set(source_of(sampler, batches).ravel()) <= set(range(source))
    assert set(target_of(sampler, batches).ravel()) <= set(range(target))


def test_without_a_target_there_is_only_source():
    sampler = PairedBatchSampler(paired((40,), None), 4)
    assert sorted(epoch_of(sampler).ravel()) == list(range(40))


def test_rows_come_in_the_order_asked_for_with_their_domain():
    data = paired((5, 3), 4)
    rows = data.__getitems__([11, 0, 6, 8, 4])
    assert [row["number"] for row in rows] == [3, 0, 1, 0, 4]
    assert [row["domain"] for row in rows] == [TARGET, 0, 1, TARGET, 0]
    assert data[6] == rows[2]
    assert len(data) == 12


def test_workers_see_what_one_process_sees_in_every_epoch():
    data = paired((20,), 9)
    read = []
    for workers in (0, 2):
        sampler = PairedBatchSampler(data, 4)
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, collate_fn=list)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            read.append([[(r["domain"], r["number"]) for r in batch] for batch in loader])
    assert read[0] == read[2]
    assert read[1] == read[3]
    assert read[0] != read[1]


def test_the_trainer_goes_from_epoch_to_epoch(tmp_path):
    """Two epochs of a run read the two epochs of its sampler, one after the other."""
    seen = []
    run = runs.trainer(tmp_path, train_dataset=tiny.domain(8), max_steps=-1, num_train_epochs=2, objectives=None)
    collate = run.data_collator
    run.data_collator = lambda rows: seen.append([r["input_ids"] for r in rows]) or collate(rows)
    run.train()
    sampler = run.pair_sampler
    expected = [
        [r["input_ids"] for r in run.train_dataset.__getitems__(b)] for e in (0, 1) for b in epoch_of(sampler, e)
    ]
    assert seen == expected


@pytest.mark.parametrize("target", [None, 30])
def test_padding_is_what_batches_have(target):
    data = paired((40, 25), target)
    sampler = PairedBatchSampler(data, 4, ratio=1.5, chunks=2)
    real = together = apart = 0
    for batch in sampler:
        lengths = [int(data.lengths[i]) for i in batch]
        real, together = real + sum(lengths), together + max(lengths) * len(lengths)
        apart += sum(max(half) * len(half) for half in (lengths[:4], lengths[4:]) if half)
    assert sampler.padding() == pytest.approx((1 - real / together, 1 - real / apart))
    assert (sampler.padding()[0] == sampler.padding()[1]) == (target is None)


def test_rows_without_length_have_no_padding():
    rows = Dataset.from_dict({"number": [1, 2, 3]})
    assert PairedBatchSampler(PairedDataset({"s": rows}, rows), 2).padding() is None
