"""Pushing to a Hub and loading from it, over real HTTP on loopback with the real client; and a Hub that fails.

Training and pushing happen in a few processes of their own (`hub_jobs.py`), started together.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from hub_server import TOKEN, LoopbackHub, Repo
from transformers import AutoModelForSequenceClassification, AutoTokenizer

HERE = Path(__file__).parent
MODEL = {"config.json", "model.safetensors"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "labels.json"}
ALWAYS = {".gitattributes", "README.md", "tokenizer.json", "tokenizer_config.json", "training_args.json"}
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


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """A process with a home of its own, online, and with nobody's proxy or token."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    ours = {
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**kept, **ours, **extra}


def start(arguments: list[object], env: dict[str, str], stdin: int | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [str(a) for a in arguments], env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def job(name: str, folder: Path, **extra: str) -> subprocess.Popen:
    env = environment(folder, HF_HUB_DISABLE_XET="1", **extra)
    return start([sys.executable, HERE / "hub_jobs.py", name, folder], env)


def result(process: subprocess.Popen, folder: Path, name: str) -> dict:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def base(work) -> Path:
    """A base model as plain as pretrained encoders are: nobody told it of labels."""
    tiny.bert(labels=["LABEL_0", "LABEL_1"], initializer_range=0.5).save_pretrained(work / "base")
    tiny.tokenizer().save_pretrained(work / "base")
    return work / "base"


@pytest.fixture(scope="module")
def failing(work) -> subprocess.Popen:
    """The job that pushes to failing Hubs: started first, read when it is needed."""
    return job("fail", work / "fail")


@pytest.fixture(scope="module")
def failed(failing, work) -> dict:
    return result(failing, work / "fail", "fail")


@pytest.fixture(scope="module")
def gone():
    """A Hub that is not always there."""
    return LoopbackHub(large="regular")


@pytest.fixture(scope="module")
def hub(failing):
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def pushed(hub, base, work) -> dict:
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


# ---- a Hub that fails


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
    from hub_jobs import logits

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


# ---- the recipe


def recipe_words(work: Path, base: Path, name: str, token: str, **more: str | None) -> list[str]:
    """Two steps, then a push to me/x; `more` instead or besides, `None` leaves one out."""
    options: dict = {
        "model": base,
        "source": work / "source.jsonl",
        "target": work / "target.jsonl",
        "output_dir": work / "recipe" / name,
        "objectives": '{"mmd": 1}',
        "max_steps": 2,
        "source_only_baseline": "false",
        "save_strategy": "no",
        "use_cpu": "true",
        "push_to_hub": "true",
        "hub_model_id": "me/x",
        "hub_token": token,
        **more,
    }
    return [str(word) for key, value in options.items() if value is not None for word in (f"--{key}", value)]


@pytest.fixture(scope="module")
def recipes(base, gone, work) -> dict:
    """What the recipe said with a Hub that is broken, one that refuses and none at all."""
    for name, seed in (("source", 0), ("target", 1)):
        rows = [{**row, "label": tiny.LABELS[row["label"]]} for row in tiny.domain(60, seed=seed)]
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = work / "recipe_job"
    command, env = [sys.executable, HERE / "hub_jobs.py", "recipe", folder], environment(folder, HF_ENDPOINT=gone.url)
    process = start(command, env, stdin=subprocess.PIPE)

    def finish(name: str, token: str, recipe: str = "finetune", **more: str | None) -> None:
        process.stdin.write(json.dumps([name, recipe, *recipe_words(work, base, name, token, **more)]) + "\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == name

    with gone:
        gone.fail("POST", "/preupload/", status=500)
        finish("broken", TOKEN)
        finish("refused", "hf_wrong")
        gone.faults.clear()
        own = {"objectives": None, "source_only_baseline": None, "hub_model_id": "given", "effort": "quick"}
        finish("adapted", TOKEN, "adapt", **own)
        handed_over = dict(gone.repos["me/given"].files())
    finish("unreachable", TOKEN)
    gone.faults.clear()
    gone.repos.clear()
    return result(process, folder, "recipe") | {"handed over": handed_over}


@pytest.mark.parametrize(("name", "reason"), [("broken", "500"), ("unreachable", "the Hub is out of reach")])
def test_recipe_keeps_the_model_when_the_push_fails(recipes, work, name, reason):
    found, folder = recipes[name], work / "recipe" / name
    assert found["rc"] == 1
    assert f"hftransfer: Pushing to 'me/x' failed: {reason}" in found["err"]
    assert f"The trained model is safe in {folder}." in found["err"]
    assert "Traceback" not in found["err"]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert tuple(model.config.id2label.values()) == tuple(sorted(tiny.LABELS))
    assert TOKEN not in found["out"] + found["err"]


def test_recipe_warns_before_it_trains_without_the_hub(recipes):
    assert "The run goes on, and tries again when it pushes." in recipes["unreachable"]["err"]


def test_recipe_stops_before_training_when_the_hub_refuses(recipes, work):
    """Nobody trains for hours to learn that the token is wrong."""
    found = recipes["refused"]
    assert found["rc"] == 1
    assert "hftransfer: The Hub repository 'me/x' could not be made: 401" in found["err"]
    assert "Traceback" not in found["err"]
    assert "train_runtime" not in found["out"]
    assert "hf_wrong" not in found["out"] + found["err"]


def test_adapt_pushes_what_it_hands_over(recipes, work):
    """The plain model with card and report; neither candidates nor predictions."""
    assert recipes["adapted"]["rc"] == 0, recipes["adapted"]["err"]
    assert "Pushed to me/given." in recipes["adapted"]["out"]
    files = recipes["handed over"]
    assert set(files) == (ALWAYS | MODEL | {"adaptation.json", "report.html"}) - {"training_args.json"}
    assert b'pipeline("text-classification", "me/given")' in files["README.md"]
    assert (work / "recipe" / "adapted" / "_candidates").is_dir()


def test_recipe_waits_less_than_a_minute(recipes):
    """Real waits: the client announces each."""
    waits = [int(seconds) for seconds in re.findall(r"Retrying in (\d+)s", recipes["broken"]["err"])]
    assert 0 < sum(waits) <= 30


def test_the_command_in_the_message_uploads(recipes, gone, work):
    """As printed, with the client as users have it (the Xet protocol on)."""
    command = recipes["unreachable"]["err"].split("from a shell:\n")[1].splitlines()[0]
    words = shlex.split(command)
    assert words[:3] == ["hf", "upload", "me/x"]
    (work / "recipe" / "unreachable" / "_private.txt").write_text("mine")
    with gone as hub:
        env = environment(work / "recipe" / "shell_home", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
        hf = Path(sys.executable).with_name("hf")
        done = start([hf, *words[1:]], env)
        out, err = done.communicate(timeout=120)
        assert done.returncode == 0, out + err
        assert set(hub.repos["me/x"].files()) == ALWAYS | MODEL | {"results.json"}
