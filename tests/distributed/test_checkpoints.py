"""At no moment is there a part of a checkpoint or of a model: each is whole or absent."""

from __future__ import annotations

import json

import pytest
import runs
import torch
import watching
from peft import LoraConfig
from processes import forked
from safetensors.torch import load_file


@pytest.mark.parametrize(("case", "processes"), [("plain", 1), ("peft", 1), ("best_is_not_last", 1), ("plain", 2)])
def test_whole_or_absent(tmp_path, case, processes):
    folder, report, log = tmp_path / "run", tmp_path / "report.json", tmp_path / "log"
    status = forked(watching.run, str(folder), case, str(report), processes=processes, log=log)
    assert status == 0, log.read_text()[-6000:]
    found = json.loads(report.read_text())
    assert found["moments"] > 100
    assert found["partial"] > 20, "nothing was ever seen half-written, so the watch does not look"
    checkpoints = {f"checkpoint-{step}" for step in (3, 6, 9)}
    assert set(found["states"]) == {*checkpoints, "model"}
    for name in checkpoints:
        absent, whole, *gone = found["states"][name]
        assert absent is None
        assert whole is not None
        assert gone in ([], [None]), f"{name} changed or was taken apart"
    kept = sorted(p.name for p in folder.glob("checkpoint-*"))
    assert kept == (["checkpoint-3"] if case == "best_is_not_last" else ["checkpoint-6", "checkpoint-9"])
    assert not (folder / "_writing").exists()
    models = found["states"]["model"]  # it is saved three times
    assert [m is None for m in models] == [True, False] * 3, "the config must go first and come last"
    assert not list(folder.glob("adapter_*")), "the last one was merged"


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=4)], ids=["whole", "adapter"])
def test_a_gathered_state_is_saved_as_the_plain_model(tmp_path, peft_config):
    """Under FSDP the `Trainer` hands over the full state of the wrapper, gathered from all processes."""
    trainer = runs.trainer(tmp_path / "run", peft_config=peft_config, objectives={"dann": 0.1}, merge_adapter=False)
    state = {name: torch.full_like(value, 7) for name, value in trainer.model.state_dict().items()}
    trainer._save(str(tmp_path / "gathered"), state)
    trainer._save(str(tmp_path / "own"))
    files = [{p.name for p in (tmp_path / name).iterdir()} for name in ("gathered", "own")]
    assert files[0] == files[1]
    name = "model.safetensors" if peft_config is None else "adapter_model.safetensors"
    gathered, own = (load_file(tmp_path / folder / name) for folder in ("gathered", "own"))
    assert gathered.keys() == own.keys()
    assert all((value == 7).all() for value in gathered.values())
