"""Processes of the Hub tests, each with a home of its own, and what they push."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import tiny

HERE = Path(__file__).parent
MODEL = {"config.json", "model.safetensors"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "labels.json"}
ALWAYS = {".gitattributes", "README.md", "tokenizer.json", "tokenizer_config.json", "training_args.json"}


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


def write_base(folder: Path) -> Path:
    """A base model as plain as pretrained encoders are: nobody told it of labels."""
    tiny.bert(labels=["LABEL_0", "LABEL_1"], initializer_range=0.5).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder
