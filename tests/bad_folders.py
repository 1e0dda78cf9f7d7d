"""Output folders that hold something of somebody else's: (what is there, settings, error, culprit, remedy)."""

from __future__ import annotations

from typing import Any

OVERWRITE: dict[str, Any] = {"overwrite_output_dir": True}
MOVE = "Choose another output_dir, or move"

FOLDERS: dict[str, tuple[dict[str, str], dict[str, Any], type[Exception], str, str]] = {
    "a README": ({"README.md": "# my notes"}, {}, FileExistsError, "holds README.md, which", MOVE),
    "a README, to be overwritten": ({"README.md": "# my notes"}, OVERWRITE, FileExistsError, "README.md", MOVE),
    "a README that speaks of us": ({"README.md": "see hftransfer"}, OVERWRITE, FileExistsError, "README.md", MOVE),
    "a tokenizer": ({"tokenizer.json": "{}"}, {}, FileExistsError, "holds tokenizer.json", MOVE),
    "a vocabulary": ({"vocab.txt": "one\ntwo"}, OVERWRITE, FileExistsError, "holds vocab.txt", MOVE),
    "settings of a program": ({"config.json": '{"port": 80}'}, OVERWRITE, FileExistsError, "holds config.json", MOVE),
    "an adapter": ({"adapter_config.json": "{}"}, OVERWRITE, FileExistsError, "holds adapter_config.json", MOVE),
    "weights": ({"model.safetensors": "x"}, OVERWRITE, FileExistsError, "holds model.safetensors", MOVE),
    "two files": (
        {"README.md": "mine", "tokenizer.json": "{}"},
        {},
        FileExistsError,
        "tokenizer.json, README.md",
        "move them elsewhere",
    ),
    "a checkpoint of another program": (
        {"checkpoint-3/model.safetensors": "x", "checkpoint-3/trainer_state.json": "{}"},
        OVERWRITE,
        FileExistsError,
        "holds checkpoint-3",
        MOVE,
    ),
    "a file called as a checkpoint": ({"checkpoint-3": "x"}, {}, FileExistsError, "holds checkpoint-3", MOVE),
    "settings of a training": ({"training_args.json": "{}"}, {}, FileExistsError, "holds training_args.json", MOVE),
    "a folder that is written": (
        {"_writing/chapter.txt": "x"},
        {},
        FileExistsError,
        "_writing was not made",
        "Move it",
    ),
    "a file that is written": ({"_writing": "x"}, OVERWRITE, FileExistsError, "_writing was not made", "Move it"),
    "a mark of no meaning": ({"_hftransfer.json": "mine"}, {}, FileExistsError, "holds _hftransfer.json", MOVE),
}
RECIPE_ONLY: dict[str, tuple[dict[str, str], dict[str, Any], str, str]] = {
    "results": ({"results.json": '{"mine": 1}'}, {}, "holds results.json", MOVE),
    "results that are no JSON": ({"results.json": "mine"}, OVERWRITE, "holds results.json", MOVE),
    "a list of results": ({"results.json": "[1, 2]"}, OVERWRITE, "holds results.json", MOVE),
    "a comparison": ({"_source_only/results.json": '{"notes": "x"}'}, {}, "holds _source_only/results.json", MOVE),
    "a README": ({"README.md": "# mine"}, OVERWRITE, "holds README.md", MOVE),
}
HARMLESS: dict[str, dict[str, str]] = {
    "notes": {"notes.txt": "mine"},
    "what is called almost as a checkpoint": {"checkpoint-notes.txt": "mine", "checkpoint-old/notes.txt": "mine"},
    "results of another program": {"results.csv": "mine", "data/results.json": "mine"},
    "names of labels": {"labels.json": '["mine"]'},
    "a folder of the same beginning": {"_writing_notes/a.txt": "mine"},
}
