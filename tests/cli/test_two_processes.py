"""The recipe on two processes, through the command and accelerate's launcher, equals the recipe on one."""

from __future__ import annotations

import json

import recipe
import tiny
from safetensors.torch import load_file

LAUNCHER = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU  # on gloo, with --use_cpu
mixed_precision: "no"
num_machines: 1
num_processes: 2
rdzv_backend: static
"""


def test_two_processes_train_and_report_as_one(tmp_path):
    tiny.bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "two.yaml").write_text(LAUNCHER)
    common = {
        "model": str(tmp_path / "model"),
        "source": recipe.write_domain(tmp_path, "news", 0, {"train": 24, "validation": 9, "test": 12}),
        "target": recipe.write_domain(tmp_path, "medical", 50, {"train": 18, "test": 12}, ("train",)),
        "eval_strategy": "steps",
        "eval_steps": "3",
        "optim": "sgd",  # Adam blows rounding up
        "learning_rate": "0.1",
    }
    two = recipe.words(**common, output_dir="two", per_device_train_batch_size="4")
    done = recipe.command(["finetune", "--accelerate_config", "two.yaml", *two], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(text) for text in ("24 labelled rows", "Results on the test splits")] == [1, 1]
    assert "2 process" in (tmp_path / "two" / "README.md").read_text()
    one = recipe.words(**common, output_dir=str(tmp_path / "one"), per_device_train_batch_size="8")
    assert recipe.run(one) == 0
    folders = tmp_path / "one", tmp_path / "two"
    alone, together = (json.loads((folder / "results.json").read_text()) for folder in folders)
    assert set(alone) == {"source-only", "adapted"}
    assert alone == together
    before, after = (load_file(folder / "model.safetensors") for folder in folders)
    start = load_file(tmp_path / "model" / "model.safetensors")
    assert max((before[name] - start[name]).abs().max() for name in before) > 1e-3
    for name in before:
        assert (before[name] - after[name]).abs().max() < 1e-5, name
