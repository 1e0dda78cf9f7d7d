"""What is saved has reached the disk before a rename makes it count: a machine may lose its power."""

from __future__ import annotations

import os
from pathlib import Path

import runs


def test_every_file_is_flushed_before_its_rename(tmp_path, monkeypatch):
    """Of a checkpoint, of a model and of the model that takes its place."""
    flushed, renamed, early = set(), [], []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.add(os.fstat(file).st_ino))

    def watching(move):
        def moving(old, new, **how):
            if Path(old).is_relative_to(tmp_path):
                files = [path for path in (Path(old), *Path(old).rglob("*")) if path.is_file()]
                renamed.extend(path.name for path in files)
                early.extend(str(path) for path in files if path.stat().st_ino not in flushed)
            return move(old, new, **how)

        return moving

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, watching(getattr(os, name)))
    run = runs.trainer(tmp_path / "run", save_strategy="steps", save_steps=2)
    run.train()
    run.save_model()
    run.save_model()
    assert early == []
    assert renamed.count("model.safetensors") >= 3
    assert {"optimizer.pt", "trainer_state.json", "_adaptation_state.safetensors", "config.json"} <= set(renamed)
