"""What the Hub tests run in processes of their own, since the client reads HF_ENDPOINT when it is imported.

    python hub_jobs.py push|load FOLDER      # HF_ENDPOINT names the server
    python hub_jobs.py fail FOLDER           # starts its own server, and stops it too
    python hub_jobs.py recipe FOLDER         # a run for each line of standard input, as it comes

Each writes FOLDER/<job>.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TEXTS = ["w1 w2 w3 up", "w4 down", "w30x w31 w2 flat w9"]

REFUSED = {  # pushes that must not happen
    "a typo": {"creat_pr": True},
    "another typo": {"licence": "mit"},
    "a repository as the message": {"commit_message": "me/typo"},
    "another kind": {"repo_type": "dataset"},
    "no wish": {"create_pr": "yes"},
}


def logits(model, tokenizer) -> list[list[float]]:
    """(texts, labels), of a model in evaluation mode."""
    import torch

    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.tolist()


def push(folder: Path) -> dict:
    """Trains a full model and an adapter, and pushes them in every way."""
    import runs
    import tiny
    from hub_server import TOKEN
    from peft import LoraConfig

    from hftransfer import push_folder

    evaluation = {"source": tiny.domain(seed=2), "target": tiny.domain(seed=3)}
    full = runs.trainer(
        folder / "full",
        model="me/base",
        eval_dataset=evaluation,
        save_strategy="steps",
        save_steps=1,
        push_to_hub=True,
        hub_strategy="every_save",
        hub_model_id="me/full",
        hub_token=TOKEN,
    )
    full.dataset_names = {"source": "owner/news", "target": "/home/somebody/medical.csv"}
    full.train()
    full.evaluate()
    (folder / "full" / "_notes.txt").write_text("for me only")
    (folder / "full" / "pickled.bin").write_bytes(b"not for anybody")
    full.push_to_hub(license="apache-2.0")
    full.push_to_hub(revision="second", commit_message="to a branch")
    full.args.hub_model_id, full.args.hub_token = "me/hidden", None
    full.push_to_hub(private=True, token=TOKEN, blocking=False).result()
    refused = {}
    for name, options in REFUSED.items():
        try:
            full.push_to_hub(**options)
        except (TypeError, ValueError) as error:
            refused[name] = f"{type(error).__name__}: {error}"
    full.push_to_hub(
        repo_id="me/elsewhere",
        token=TOKEN,
        commit_description="why",
        metadata={"house_style": 3},
        widget=[{"text": "w1"}],
    )
    pull = full.push_to_hub(
        repo_id="me/elsewhere", token=TOKEN, create_pr=True, commit_message="better", license="mit"
    )
    full.args.hub_model_id = "me/full"  # not private, so a private push must not land there

    full.args.hub_model_id, full.args.hub_token = "handed", TOKEN
    handed = push_folder(full.args, folder / "full", "handed over")
    adapter = runs.trainer(
        folder / "lora", model="me/base", peft_config=LoraConfig(r=2), hub_model_id="lora", merge_adapter=False
    )
    adapter.train()
    adapter.push_to_hub(token=TOKEN)
    adapter.args.hub_model_id = "me/both"
    adapter.push_to_hub(token=TOKEN)
    adapter.push_to_hub(token=TOKEN, merge_adapter=True)
    tokenizer = tiny.tokenizer()
    return {
        "full": logits(full.model.model, tokenizer),
        "lora": logits(adapter.model.model, tokenizer),
        "refused": refused,
        "pull_request": pull.pr_url,
        "handed": handed,
    }


def load(folder: Path) -> dict:
    """Follows each card's own lines, in a process that cannot import hftransfer."""
    sys.meta_path.insert(0, _Absent())
    try:
        import hftransfer  # noqa: F401
    except ImportError:
        pass
    else:
        raise AssertionError("hftransfer could be imported")
    from huggingface_hub import hf_hub_download
    from transformers import pipeline

    pipes = {"second": pipeline("text-classification", "me/full", revision="second")}
    for repo in ("me/full", "me/hidden", "me/lora", "me/both"):
        card = Path(hf_hub_download(repo, "README.md")).read_text(encoding="utf-8")
        names: dict = {}
        exec(card.split("```python\n")[1].split("```")[0], names)
        pipes[repo] = names["model"]
    return {
        name: {
            "class": type(pipe.model).__name__,
            "logits": logits(pipe.model, pipe.tokenizer),
            "labels": [found["label"] for found in pipe(TEXTS)],
        }
        for name, pipe in pipes.items()
    }


class _Absent:
    """As if hftransfer were not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "hftransfer":
            raise ModuleNotFoundError(f"No module named {name!r}")


def counted_waits() -> list[float]:
    """Seconds that the client would sleep between its retries, counted and not waited for."""
    from types import SimpleNamespace

    from huggingface_hub.utils import _http

    waits: list[float] = []
    _http.time = SimpleNamespace(sleep=waits.append)
    return waits


def fail(folder: Path) -> dict:
    """Pushes to a Hub that fails in every way, and again when it is well."""
    import logging
    import os

    from hub_server import TOKEN, LoopbackHub

    hub = LoopbackHub()
    hub.start()
    os.environ["HF_ENDPOINT"] = hub.url
    import runs
    from huggingface_hub import constants

    from hftransfer import HubError, push_folder

    waits = counted_waits()
    trainer = runs.trainer(folder / "run", hub_token=TOKEN)
    trainer.train()
    out: dict = {"logits": logits(trainer.model.model, trainer.processing_class)}

    def attempt(name: str, **options) -> None:
        """One push that fails and one that must not, from a folder that holds nothing before."""
        trainer.args.output_dir, trainer.args.hub_model_id = str(folder / name), f"me/{name}"
        waits.clear()
        found = out[name] = {"error": None, "message": None, "passing": None}
        try:
            trainer.push_to_hub(**options)
        except Exception as error:
            found |= {"error": type(error).__name__, "message": str(error), "passing": getattr(error, "passing", None)}
        found["waited"] = sum(waits)
        found["pushed"] = "config.json" in hub.repos[f"me/{name}"].files() if f"me/{name}" in hub.repos else False

    def again(name: str) -> None:
        hub.faults.clear()
        trainer.push_to_hub()
        out[name]["after"] = sorted(hub.repos[f"me/{name}"].files())

    attempt("wrong_token", token="hf_wrong")
    again("wrong_token")
    trainer.args.hub_token = None
    attempt("not_logged_in")
    trainer.args.hub_token = TOKEN
    again("not_logged_in")
    for name, fault in {
        "conflict": {"method": "POST", "path": "/commit/", "status": 409},
        "broken_at_the_start": {"method": "POST", "path": "/repos/create", "status": 500},
        "broken_at_preupload": {"method": "POST", "path": "/preupload/", "status": 500},
        "broken_at_upload": {"method": "PUT", "path": "/lfs/", "status": 500},
        "broken_at_commit": {"method": "POST", "path": "/commit/", "status": 500},
        "cut_at_upload": {"method": "PUT", "path": "/lfs/", "cut": True},
        "cut_at_commit": {"method": "POST", "path": "/commit/", "cut": True},
        "cut_once": {"method": "PUT", "path": "/lfs/", "cut": True, "times": 1},
    }.items():
        hub.fail(**fault)
        attempt(name)
        again(name)

    constants.HF_HUB_OFFLINE = True
    attempt("offline")
    constants.HF_HUB_OFFLINE = False
    again("offline")

    trainer.args.hub_model_id = "me/public"
    trainer.push_to_hub()
    before = len(hub.repos["me/public"].messages)
    attempt("public", private=True)
    out["public"]["commits"] = len(hub.repos["me/public"].messages) - before
    trainer.args.hub_private_repo = None

    said: list[str] = []
    catch = logging.Handler()
    catch.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("hftransfer").addHandler(catch)
    hub.fail("POST", "/preupload/", status=500)
    own = {"push_to_hub": True, "hub_model_id": "me/background", "hub_token": TOKEN}
    background = runs.trainer(folder / "background", save_strategy="steps", save_steps=1, **own)
    background.train()
    out["background"] = {"step": background.state.global_step, "said": said}
    hub.faults.clear()

    trainer.args.hub_model_id = "me/folder"
    hub.fail("POST", "/commit/", status=500)
    try:
        push_folder(trainer.args, folder / "public")
    except HubError as error:
        out["folder"] = str(error)
    hub.faults.clear()

    hub.stop()
    attempt("no_network")
    hub.start()
    again("no_network")
    hub.stop()
    return out


def recipe(folder: Path) -> dict:
    """Runs of recipes, each in a process forked from this one, which has imported what takes long. A line of standard
    input is a list of a name, the recipe's and the command's words; a line is printed when its run has ended."""
    import os
    import runpy

    import hftransfer.trainers.trainer  # noqa: F401

    counted_waits()
    out: dict = {}
    for line in sys.stdin:
        name, recipe, *words = json.loads(line)
        script = Path(__file__).parents[1] / "recipes" / f"{recipe}.py"
        files = [folder / f"{name}.{stream}" for stream in ("out", "err")]
        child = os.fork()
        if child == 0:
            for number, file in enumerate(files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
            sys.argv = [str(script), *words]
            status = 1
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as end:
                status = end.code or 0
            finally:
                sys.stdout.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out[name] = {"rc": status} | {file.suffix[1:]: file.read_text() for file in files}
        print(name, flush=True)
    return out


if __name__ == "__main__":
    job, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    result = {"push": push, "load": load, "fail": fail, "recipe": recipe}[job](folder)
    (folder / f"{job}.json").write_text(json.dumps(result))
