"""Pushing to a Hub and loading from it, over real HTTP on loopback with the real client, in processes of their own
(`hub_jobs.py`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from hub_processes import ADAPTER, ALWAYS, MODEL, job, result, write_base
from hub_server import TOKEN, LoopbackHub, Repo


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def pushed(hub, work) -> dict:
    base = write_base(work / "base")
    hub.repos["me/base"] = Repo()
    hub.repos["me/base"].commit("main", {path.name: path.read_bytes() for path in base.iterdir()}, "base")
    return result(job("push", work / "push", HF_ENDPOINT=hub.url), work / "push", "push")


@pytest.fixture(scope="module")
def loaded(pushed, hub, work) -> dict:
    return result(job("load", work / "load", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN), work / "load", "load")


def card(hub: LoopbackHub, repo: str) -> tuple[dict, str]:
    """Metadata and text."""
    _, meta, text = hub.repos[repo].files()["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(meta), text


# ---- what is pushed


@pytest.mark.parametrize(
    ("repo", "files"),
    [("me/full", MODEL), ("me/hidden", MODEL), ("me/lora", ADAPTER), ("me/both", MODEL)],
)
def test_files_of_a_repository(pushed, hub, repo, files):
    """The model, its tokenizer and its card: no pickle, no checkpoint, nothing underscored, no adapter left behind
    by an earlier push of another kind."""
    assert set(hub.repos[repo].files()) == ALWAYS | files


def test_no_pickle_nor_checkpoint_was_ever_uploaded(pushed, hub, work):
    """Not in any commit, those of running training included; though all of them are there on disk."""
    uploaded = {path for repo in hub.repos.values() for files in repo.commits.values() for path in files}
    assert not [path for path in uploaded if path.startswith(("_", "checkpoint-")) or path.endswith((".bin", ".pt"))]
    on_disk = {path.name for path in (work / "push" / "full").iterdir()}
    assert {"_notes.txt", "pickled.bin", "checkpoint-1", "checkpoint-2"} <= on_disk


def test_a_repository_is_private_when_asked(pushed, hub):
    assert {name: repo.private for name, repo in hub.repos.items() if name != "me/base"} == {
        "me/full": False,
        "me/elsewhere": False,
        "me/handed": False,
        "me/hidden": True,
        "me/lora": False,
        "me/both": False,
    }


def test_the_hubs_own_arguments_reach_it(pushed, hub):
    """To another repository, with a description; then as a pull request, which leaves the main branch alone."""
    repo = hub.repos["me/elsewhere"]
    assert "why" in repo.descriptions
    assert set(repo.branches) == {"main", "refs/pr/1"}
    assert pushed["pull_request"].endswith("/me/elsewhere/discussions/1")
    assert repo.branches["main"] != repo.branches["refs/pr/1"]
    meta, text = card(hub, "me/elsewhere")
    assert (meta["house_style"], meta["widget"]) == (3, [{"text": "w1"}])
    assert not {"license", "create_pr", "repo_id", "commit_description"} & meta.keys()
    assert "me/elsewhere" in text
    proposed = repo.files("refs/pr/1")["README.md"].decode()
    assert "license: mit" in proposed
    assert "create_pr" not in proposed


def test_what_a_push_does_not_know_is_refused_before_anything_is_pushed(pushed, hub):
    refused = pushed["refused"]
    assert "no argument 'creat_pr'. Did you mean 'create_pr'?" in refused["a typo"]
    assert "no argument 'licence'. Did you mean 'license'?" in refused["another typo"]
    assert "metadata={'licence': …}" in refused["another typo"]
    assert "push_to_hub(repo_id='me/typo')" in refused["a repository as the message"]
    assert "what is pushed is a model" in refused["another kind"]
    assert "create_pr='yes' must be true or false" in refused["no wish"]
    assert not [repo for repo in hub.repos if "typo" in repo]
    assert "creat_pr" not in card(hub, "me/full")[0]


def test_a_folder_is_pushed_without_what_is_a_runs_own(pushed, hub):
    """By its full id, with the message that was given; the card names the repository that it went to."""
    assert pushed["handed"] == "me/handed"
    assert hub.repos["me/handed"].messages[-1] == "handed over"
    assert set(hub.repos["me/handed"].files()) == ALWAYS | MODEL


def test_a_push_to_a_revision_makes_the_branch(pushed, hub):
    repo = hub.repos["me/full"]
    assert set(repo.branches) == {"main", "second"}
    assert repo.messages[-1] == "to a branch"
    assert repo.branches["main"] != repo.branches["second"]


def test_training_pushes_in_between(pushed, hub):
    assert "Training in progress, step 1" in hub.repos["me/full"].messages


def test_no_token_in_any_file(pushed, hub, work):
    """Neither on disk, pickles in checkpoints included, nor in any uploaded file."""
    secret = TOKEN.encode()
    folders = [work / "push" / name for name in ("full", "lora")]
    kept = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 20
    assert not [path for path in kept if secret in path.read_bytes()]
    uploaded = [data for repo in hub.repos.values() for files in repo.commits.values() for data in files.values()]
    assert not [data for data in uploaded if secret in data]


# ---- and loaded back


@pytest.mark.parametrize("name", ["me/full", "second", "me/hidden"])
def test_pipeline_loads_the_full_model(pushed, loaded, name):
    """Public, from a branch and private: the same logits as in the process that trained it."""
    assert loaded[name]["class"] == "BertForSequenceClassification"
    np.testing.assert_allclose(loaded[name]["logits"], pushed["full"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["me/lora", "me/both"])
def test_pipeline_loads_the_adapter(pushed, loaded, name):
    """By itself, on a base whose head has another size; and merged, which rounds once more."""
    np.testing.assert_allclose(loaded[name]["logits"], pushed["lora"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["me/full", "me/lora", "me/both"])
def test_the_labels_have_names(loaded, name):
    best = np.argmax(loaded[name]["logits"], axis=1)
    assert loaded[name]["labels"] == [tiny.LABELS[i] for i in best]


# ---- the card


def test_card_of_a_full_model(pushed, hub):
    meta, text = card(hub, "me/full")
    assert meta["library_name"] == "transformers"
    assert meta["base_model"] == "me/base"
    assert meta["datasets"] == ["owner/news"]
    assert meta["license"] == "apache-2.0"
    assert {"hftransfer", "mmd"} <= set(meta["tags"])
    assert 'pipeline("text-classification", "me/full")' in text
    for row in ("base model | me/base", "source, labelled | owner/news", "learning rate | 0.01", "steps | 2"):
        assert f"| {row} |" in text
    assert re.search(r"\| objectives \| 0.1 x mmd, warm_start", text)
    assert "Labels: down, up, flat." in text
    assert "source accuracy |" in text
    assert "target accuracy (*oracle*)" in text
    assert "source accuracy (*oracle*)" not in text


def test_card_tells_no_paths(pushed, hub):
    _, text = card(hub, "me/full")
    assert "target, unlabelled | medical.csv |" in text
    assert "/home/somebody" not in text


def test_card_of_an_adapter(pushed, hub):
    """Says that peft is needed and, though the id was given without, whose repository it is."""
    meta, text = card(hub, "me/lora")
    assert meta["library_name"] == "peft"
    assert meta["base_model"] == "me/base"
    assert 'AutoPeftModelForSequenceClassification.from_pretrained("me/lora"' in text
    assert card(hub, "me/both")[0]["library_name"] == "transformers"
