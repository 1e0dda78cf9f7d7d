"""Pushes to a Hub that fails, over real HTTP with the real client: one message, a model that is safe, a retry."""

from __future__ import annotations

import numpy as np
import pytest
from hub_jobs import logits
from hub_processes import ALWAYS, MODEL, job, result
from hub_server import TOKEN
from transformers import AutoModelForSequenceClassification, AutoTokenizer

FAILURES = {
    "wrong_token": "401",
    "conflict": "409",
    "broken_at_the_start": "500",
    "broken_at_preupload": "500",
    "broken_at_upload": "500",
    "broken_at_commit": "500",
    "cut_at_upload": "out of reach",
    "cut_at_commit": "out of reach",
    "no_network": "out of reach",
    "offline": "HF_HUB_OFFLINE",
    "not_logged_in": "not logged in",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def failed(work) -> dict:
    """What the job that pushes to failing Hubs found."""
    return result(job("fail", work / "fail"), work / "fail", "fail")


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_push_is_one_clear_message(failed, work, name):
    """With the reason, where the model is, and how to go on; no token, no traceback."""
    message = failed[name]["message"]
    assert failed[name]["error"] == "HubError"
    assert FAILURES[name] in message
    assert f"'me/{name}'" in message
    assert f"hf upload me/{name} {work / 'fail' / name} ." in message
    assert TOKEN not in message
    assert "Traceback" not in message
    assert not failed[name]["pushed"]


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_push_leaves_the_model_whole(failed, work, name):
    """Each was pushed from a folder that held nothing before."""
    folder = work / "fail" / name
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    np.testing.assert_allclose(logits(model, tokenizer), failed["logits"], rtol=0, atol=1e-6)
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("name", FAILURES)
def test_a_retry_works(failed, name):
    assert set(failed[name]["after"]) == ALWAYS | MODEL


@pytest.mark.parametrize("name", FAILURES)
def test_nobody_waits_for_minutes(failed, name):
    """What the client's retries sleep, all together."""
    assert failed[name]["waited"] <= 30


def test_only_outages_may_pass(failed):
    """A refusal needs something done; an outage may be over when training is."""
    refused = {name for name in FAILURES if not failed[name]["passing"]}
    assert refused == {"wrong_token", "not_logged_in", "conflict"}


def test_a_connection_cut_once_heals(failed):
    assert failed["cut_once"]["error"] is None
    assert failed["cut_once"]["pushed"]


def test_private_is_not_pushed_to_a_public_repository(failed):
    """The Hub ignores `private` for a repository that exists; what was to be private would be public."""
    found = failed["public"]
    assert found["error"] == "HubError"
    assert "is public" in found["message"]
    assert "hf upload" not in found["message"]
    assert found["commits"] == 0


def test_a_folder_that_was_not_pushed_is_named(failed, work):
    """There is no trainer to push again with."""
    message = failed["folder"]
    assert message.startswith("Pushing to 'me/folder' failed: 500")
    folder = work / "fail" / "public"
    assert f"The trained model is safe in {folder}. Push it again from a shell:\n  hf upload me/folder" in message


def test_a_failed_push_in_between_does_not_stop_training(failed):
    assert failed["background"]["step"] == 2
    assert "checkpoint-1 was not pushed: 500" in failed["background"]["said"][0]
