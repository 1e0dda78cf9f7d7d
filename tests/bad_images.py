"""Bad images by name: what stands in the image column, the culprit that the one message names and its remedy."""

from __future__ import annotations

import base64
from pathlib import Path

import pictures
import tiny
from datasets import Dataset, Features, Image, Value

NEWS = pictures.pictures(9)
FILES = [pictures.png(image) for image in NEWS["image"]]
TEXTS = ["w1 w2"] * 9
FIRST = "source row 0: 'https://example.org/0.png' is a URL"


def folder_of(values: list, folder: Path) -> list:
    """Values for nine rows: good files, and the last of them at row 4."""
    paths = []
    for i, data in enumerate(FILES):
        paths.append(str(folder / f"{i}.png"))
        Path(paths[-1]).write_bytes(data)
    return [*paths[:4], *values, *paths[4 + len(values) :]]


def written(folder: Path, name: str, data: bytes = b"") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def beside(folder: Path, name: str) -> Path:
    """The folder, with a good file in it."""
    return Path(written(folder, name, FILES[0])).parent


def made(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return str(folder / name)


ENCODED = base64.b64encode(FILES[0] * 3).decode()
JPEG = base64.b64encode(pictures.png(NEWS["image"][0], "JPEG")).decode()
PLAIN = base64.b64encode(bytes(range(256)) * 3).decode()
# In row 4 of a column of paths, made by a function of the folder.
PATHS = {
    "a url": (lambda _: "https://example.org/cat.png", "'https://example.org/cat.png' is a URL", "Download"),
    "a url between blanks": (lambda _: " http://example.org/a.png", "'http://example.org/a.png' is a URL", "Download"),
    "a bucket": (lambda _: "s3://bucket/cat.png", "'s3://bucket/cat.png' is a URL", "give their paths"),
    "another bucket": (lambda _: "gs://bucket/cat.png", "'gs://bucket/cat.png' is a URL", "Download"),
    "the Hub": (lambda _: "hf://datasets/a/b/cat.png", "'hf://datasets/a/b/cat.png' is a URL", "Download"),
    "an archive": (lambda _: "zip://cat.png::a.zip", "'zip://cat.png::a.zip' is a URL", "Download"),
    "a url of a file": (lambda _: "file:///tmp/a.png", "'file:///tmp/a.png' is a URL", "without file://"),
    "a long url": (lambda _: "https://example.org/" + "a" * 900, "(920 characters) is a URL", "Download"),
    "a data uri": (lambda _: f"data:image/png;base64,{ENCODED}", "is a data URI", "of a data URI what follows"),
    "base64 of a png": (lambda _: ENCODED, "is base64", "Decode it to bytes"),
    "base64 of a jpeg, which looks like a path": (lambda _: JPEG, "'/9j/", "is base64"),
    "base64 in lines": (lambda _: "\n".join(ENCODED[i : i + 76] for i in range(0, 700, 76)), "is base64", "Decode"),
    "base64 of anything": (lambda _: PLAIN, "is base64", "write it to files"),
    "a folder": (lambda folder: made(folder, "cats"), "cats' is a folder", "path of a file"),
    "an empty file": (lambda folder: written(folder, "no.png"), "no.png' is an empty file (0 bytes)", "Drop or repl"),
    "another case": (lambda folder: f"{beside(folder, 'Cat.png')}/cat.PNG", "no file", "Did you mean 'Cat.png'?"),
    "another ending": (lambda folder: f"{beside(folder, 'dog.jpg')}/dog.png", "no file", "Did you mean 'dog.jpg'?"),
    "an empty path": (lambda _: "", "there is no file ''", "working directory"),
    "a null character": (lambda _: "a\0b.png", "there is no file 'a\\x00b.png'", "from that file's folder"),
    "a long text": (lambda _: "the quick brown fox. " * 50, "(1,050 characters)", "A path is taken"),
    "None": (lambda _: None, "'image' is None", "Drop or fill"),
}  # fmt: skip
# In row 4 of a column of bytes; these come to light when the row is read.
BYTES = {
    "base64 of bytes": (ENCODED.encode(), "holds base64 as text", "b64decode"),
    "a url of bytes": (b"https://example.org/cat.png", "holds a URL as text", "Download"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "is a web page (HTML)", "Download it anew"),
    "a drawing": (b"<?xml version='1.0'?><svg xmlns='x'></svg>", "is an SVG drawing", "Convert it to PNG"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a Git LFS pointer", "git lfs pull"),
    "noise": (b"\x00\x01\x02" * 9, "is no image that Pillow can read", "Drop or convert"),
    "half a picture": (FILES[4][:120], "is cut off or damaged", "Drop or replace"),
}


def table(images, labels=True, **columns) -> Dataset:
    """Rows with these images and labels."""
    return Dataset.from_dict({"image": images, **({"label": list(NEWS["label"])} if labels else {}), **columns})


LINKS = [f"https://example.org/{i}.png" for i in range(9)]
# Whole data sets for the trainer: the arguments, the culprit, the remedy.
SETS = {
    "links": ({"train_dataset": table(LINKS)}, FIRST, "Download"),
    "links in the target": ({"target_dataset": table(LINKS, False)}, "target_dataset row 0: ", "is a URL"),
    "links in an evaluation set": (
        {"eval_dataset": {"source": table(LINKS)}}, "eval_dataset['source'] row 0: ", "is a URL",
    ),
    "links as images": (
        {"train_dataset": table(LINKS).cast_column("image", Image())}, FIRST, "Download",
    ),
    "links beside texts": (
        {"train_dataset": table(LINKS, text=TEXTS), "target_dataset": table(LINKS, False, text=TEXTS)},
        "is a URL", "If the texts in 'text' are meant, set `text_column='text'`",
    ),
    "links beside texts in the source alone": (
        {"train_dataset": table(LINKS, text=TEXTS), "target_dataset": tiny.domain(6, labelled=False)},
        "source holds images and target_dataset holds text",
        "Both have texts: if those are meant, set `text_column='text'`",
    ),
    "links beside texts in an evaluation set": (
        {"train_dataset": table(LINKS, text=TEXTS), "target_dataset": table(LINKS, False, text=TEXTS),
         "eval_dataset": {"target": tiny.domain(6)}},
        "eval_dataset['target'] holds text", "`text_column='text'`",
    ),
    "base64": ({"train_dataset": table([ENCODED] * 9)}, "source row 0: ", "is base64"),
    "lists of links": ({"train_dataset": table([LINKS[:2]] * 9)}, "'image' holds lists of string", "one image"),
    "no image in any row": ({"train_dataset": table([None] * 9)}, "source row 0: 'image' is None", "Drop or fill"),
    "truth values": ({"train_dataset": table([True] * 9)}, "'image' holds bool, no images", "`image_column`"),
    "lists of numbers": ({"train_dataset": table([[1.0, 2.0]] * 9)}, "an array of 2 is no image", "H x W"),
    "empty bytes": (
        {"train_dataset": Dataset.from_dict({"image": [*FILES[:7], b"", FILES[8]], "label": list(NEWS["label"])},
                                            features=Features(image=Value("binary"), label=Value("int64")))},
        "source row 7: the image is empty (0 bytes)", "Drop or replace",
    ),
    "an image without a path": (
        {"train_dataset": table([*({"bytes": f, "path": None} for f in FILES[:8]), {"bytes": None, "path": None}])},
        "source row 8: 'image' is None", "Drop or fill",
    ),
}  # fmt: skip
