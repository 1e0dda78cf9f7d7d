"""The plan: what a source's labels are, as they will be trained on."""

from __future__ import annotations

import pictures
import pytest
import runs
import tiny
from datasets import Dataset

from hftransfer.trainers.setup.plan import plan

TEXTS = ["w1", "w2", "w3", "w4"] * 3


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["up", "up ", "down", "up"] * 3, "2 classes: up 9, down 3"),
        ([["up", "new"], ["up"], ["down"], ["up"]] * 3, "3 classes: up 9, down 3, new 3"),
    ],
)
def test_classes_with_their_counts_as_they_are_trained(tmp_path, labels, said):
    names = ["down", "new", "up"] if isinstance(labels[0], list) else ["down", "up"]
    data = Dataset.from_dict({"text": TEXTS, "label": labels})
    run = runs.trainer(tmp_path, tiny.bert(tuple(names)), train_dataset=data)
    assert plan(run.args, run.prepared)["source"].splitlines() == ["12 labelled rows", said]


def test_scores_have_a_range(tmp_path):
    data = Dataset.from_dict({"text": TEXTS, "label": [0.5, 1.0, 2.5, 4.0] * 3})
    run = runs.trainer(tmp_path, tiny.bert(("LABEL_0",), num_labels=1), train_dataset=data)
    assert plan(run.args, run.prepared)["source"].splitlines()[1] == "scores from 0.5 to 4, mean 2"


def test_words_are_counted_in_tagging(tmp_path):
    data = tiny.tagged()
    run = runs.trainer(
        tmp_path, tiny.bert(tiny.TAGS, True), train_dataset=data, target_dataset=tiny.tagged(seed=1, labelled=False)
    )
    counts = {name: sum(tag == i for row in data["label"] for tag in row) for i, name in enumerate(tiny.TAGS)}
    said = plan(run.args, run.prepared)["source"].splitlines()[1]
    assert said.startswith("2 classes: ")
    assert all(f"{name} {count}" in said for name, count in counts.items())


def test_images_and_several_sources(tmp_path):
    both = {"a": pictures.pictures(), "b": pictures.pictures(seed=1)}
    target = pictures.pictures(labelled=False)
    run = runs.trainer(
        tmp_path,
        pictures.resnet(),
        train_dataset=both,
        target_dataset=target,
        processing_class=pictures.processor(),
    )
    rows = plan(run.args, run.prepared)
    assert all("classes: " in rows[name] for name in ("source a", "source b"))
    assert "source" not in rows


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        ({}, "2 updates (2 an epoch)"),
        ({"dataloader_drop_last": True}, "1 update (1 an epoch)"),
        ({"per_device_train_batch_size": 5, "gradient_accumulation_steps": 2}, "3 updates (3 an epoch)"),
        (
            {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 2, "dataloader_drop_last": True},
            "2 updates (2 an epoch)",
        ),
        ({"target_ratio": 0.5, "epoch_by": "longest"}, "5 updates (5 an epoch)"),
        ({"target_ratio": 0.5, "epoch_by": "longest", "dataloader_drop_last": True}, "4 updates (4 an epoch)"),
        ({"epoch_by": "longest", "num_train_epochs": 1.5}, "5 updates (3 an epoch)"),
        ({"max_steps": 3, "dataloader_drop_last": True}, "3 updates (1 an epoch)"),
    ],
    ids=str,
)
def test_as_many_updates_as_the_run_makes(tmp_path, settings, planned):
    settings = {"per_device_train_batch_size": 16, "max_steps": -1, "num_train_epochs": 1, **settings}
    run = runs.trainer(
        tmp_path, train_dataset=tiny.domain(24), target_dataset=tiny.domain(36, seed=1, labelled=False), **settings
    )
    assert plan(run.args, run.prepared)["steps"] == planned
    run.train()
    assert planned.startswith(f"{run.state.global_step} update")
    assert planned.endswith(f"({run.pair_sampler.updates} an epoch)")
