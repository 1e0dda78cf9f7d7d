"""Recipes that push to a Hub that is well, broken or not there, over real HTTP with the real client."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from hub_processes import ALWAYS, HERE, MODEL, environment, result, start, write_base
from hub_server import TOKEN, LoopbackHub
from transformers import AutoModelForSequenceClassification


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def gone():
    """A Hub that is not always there."""
    return LoopbackHub(large="regular")


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
def recipes(gone, work) -> dict:
    """What the recipe said with a Hub that is broken, one that refuses and none at all."""
    base = write_base(work / "base")
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
        words = {"objectives": None, "source_only_baseline": None, "hub_model_id": "words"}
        finish("pretrained", TOKEN, "pretrain", **words)
        pretrained = dict(gone.repos["me/words"].files())
    finish("unreachable", TOKEN)
    gone.faults.clear()
    gone.repos.clear()
    return result(process, folder, "recipe") | {"handed over": handed_over, "masked words": pretrained}


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


def test_pretrain_pushes_a_plain_model_and_its_card(recipes):
    assert recipes["pretrained"]["rc"] == 0, recipes["pretrained"]["err"]
    assert "Pushed to me/words." in recipes["pretrained"]["out"]
    files = recipes["masked words"]
    assert set(files) == ALWAYS | MODEL | {"results.json"}
    assert b'pipeline("fill-mask", "me/words")' in files["README.md"]
    assert b"BertForMaskedLM" in files["config.json"]


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
