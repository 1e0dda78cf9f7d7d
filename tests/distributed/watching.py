"""A run that looks at its own folder before everything that Python does to a file, which is what a kill at that moment
would leave; executed in forked processes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import killing

MARKERS = ("config.json", "adapter_config.json")


class Watch:
    """Notes every state in which a checkpoint, or the model itself, was ever seen.

    A state is a digest of names and contents; `None` while a checkpoint is absent, or while the folder has no config
    and so is no model.
    """

    def __init__(self, folder: Path):
        self.folder, self.states, self.moments, self.partial = folder, {}, 0, 0
        self.looking = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        ours = event.startswith(("os.", "shutil.")) or (event == "open" and str(self.folder) in str(arguments[0]))
        if not ours or self.looking:
            return
        self.looking = True
        try:
            self.look()
        finally:
            self.looking = False

    def look(self) -> None:
        self.moments += 1
        seen: dict[str, Any] = {p.name: _digest(p) for p in self.folder.glob("checkpoint-*")}
        seen["model"] = _digest(self.folder) if any((self.folder / name).exists() for name in MARKERS) else None
        self.partial += any(True for _ in self.folder.glob("_writing/*"))
        for name in {*seen, *self.states}:
            states = self.states.setdefault(name, [None])
            if states[-1] != seen.get(name):
                states.append(seen.get(name))


def _digest(folder: Path) -> str:
    """Of the files of a folder itself."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(path.name.encode() + b"\\0" + path.read_bytes())
    return digest.hexdigest()


def run(folder: str, case: str, report: str) -> None:
    """Trains, then saves the model again: changed, and merged into a plain one if it has an adapter."""
    watch = Watch(Path(folder))
    trainer = killing.train(folder, case)
    for parameter in trainer.model.parameters():
        parameter.data += 1
    trainer.save_model()
    trainer.args.merge_adapter = True
    trainer.save_model()
    watch.looking = True
    watch.look()
    if trainer.is_world_process_zero():
        found = {"moments": watch.moments, "partial": watch.partial, "states": watch.states}
        Path(report).write_text(json.dumps(found))
