"""Bad input among images: one clear message that names what is wrong and what to do, before anything is written."""

from __future__ import annotations

import subprocess
import sys

import bad_images
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from bad_images import BYTES, PATHS, SETS, folder_of
from datasets import Dataset, Features, Image, Value
from peft import LoraConfig

from hftransfer import AdaptationTrainer
from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.domain_arguments import as_domain
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.image_encoder import ImageEncoder
from hftransfer.data.image_references import reference_kind
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.row_origins import ORIGIN as ROW_ORIGIN

NEWS = pictures.pictures(9)
MEDICAL = pictures.pictures(6, seed=1, labelled=False)
LABELS = list(NEWS["label"])


def of(images, labels=LABELS, name: str = "image", kind=None) -> Dataset:
    """A source with these images."""
    columns = {name: list(images), **({} if labels is None else {"label": list(labels)[: len(images)]})}
    data = Dataset.from_dict(columns)
    return data.cast_column(name, kind) if kind is not None else data


def trainer(folder, config: dict | None = None, **given) -> AdaptationTrainer:
    """A trainer on the usual pictures, or on what is given instead; `folder` is where it would write."""
    usual = {
        "model": pictures.resnet,
        "train_dataset": NEWS,
        "target_dataset": MEDICAL,
        "processing_class": pictures.processor,
    }
    arguments = {k: v() if callable(v) else v for k, v in (usual | given).items()}
    return AdaptationTrainer(arguments.pop("model"), runs.config(folder, **(config or {})), **arguments)


def scratch(**changes):
    """A model from scratch with something changed."""
    return {"model": {k: v for k, v in (pictures.SCRATCH | changes).items() if v != "gone"}, "processing_class": None}


SIZE = {"image_size": 16}
CASES = {
    "paths of no files": (
        {"train_dataset": of(["a.png"] * 9)},
        ValueError, "source row 0: there is no file 'a.png' ('image' holds paths)", "from that file's folder",
    ),
    "a path of no file among others": (
        {"target_dataset": of([__file__, "gone.png"], None)}, ValueError, "target_dataset row 1: there is no file",
        "working directory",
    ),
    "a first file that is no image": (
        {"target_dataset": of([__file__] * 3, None)}, ValueError, f"target_dataset row 0 ({__file__}) is no image",
        "Drop or convert",
    ),
    "an image that is None": (
        {"train_dataset": of([*NEWS["image"][:4], None, *NEWS["image"][5:]], kind=Image())},
        ValueError, "source row 4: 'image' is None", "Drop or fill",
    ),
    "numbers for images": ({"train_dataset": of(range(9))}, ValueError, "'image' holds int64", "`image_column`"),
    "arrays of the wrong range": (
        {"train_dataset": of([np.full((4, 4), 300).tolist()] * 9)}, ValueError, "integers from 300 to 300", "0 … 255",
    ),
    "arrays of the wrong shape": (
        {"target_dataset": of([np.zeros((7, 7, 9)).tolist()] * 3, None)}, ValueError, "an array of 7 x 7 x 9",
        "H x W x C",
    ),
    "images under another name": (
        {"train_dataset": NEWS.rename_column("image", "img")}, ValueError,
        "source has no column 'image', but images in 'img'", "`image_column='img'`",
    ),
    "a target under another name": (
        {"target_dataset": MEDICAL.rename_column("image", "img")}, ValueError,
        "target_dataset has no column 'image'; its columns are 'img'", "`image_column`",
    ),
    "no label": (
        {"train_dataset": NEWS.remove_columns("label")}, ValueError, "source has no column 'label'", "`label_column`",
    ),
    "a label outside the set": (
        {"train_dataset": of(NEWS["image"], ["up"] * 8 + ["sideways"], kind=Image())}, ValueError,
        "'sideways', 'up'", "rename",
    ),
    "an empty target": ({"target_dataset": MEDICAL.select([])}, ValueError, "target_dataset is empty", "no rows"),
    "images and text": (
        {"target_dataset": tiny.domain(6)}, ValueError, "source holds images and target_dataset holds text",
        "'image', 'label' and 'text', 'label'",
    ),
    "text and images": (
        {"train_dataset": tiny.domain(6), "target_dataset": MEDICAL}, ValueError,
        "source holds text and target_dataset holds images", "of one kind",
    ),
    "two sources of two kinds": (
        {"train_dataset": {"a": NEWS, "b": tiny.domain(6)}},
        ValueError, "source 'a' holds images and source 'b' holds text", "of one kind",
    ),
    "an evaluation set of another kind": (
        {"eval_dataset": {"target": tiny.domain(6)}}, ValueError, "eval_dataset['target'] holds text", "of one kind",
    ),
    "images for a model of text": (
        {"model": tiny.bert},
        ValueError, "BertForSequenceClassification has no head for sequence-classification of images",
        "`AutoModelForImageClassification`",
    ),
    "text for a model of images": (
        {"train_dataset": tiny.domain(9), "target_dataset": tiny.domain(6)}, ValueError,
        "ResNetForImageClassification has no head", "`AutoModelForSequenceClassification`",
    ),
    "a tokenizer for images": (
        {"processing_class": tiny.tokenizer}, TypeError, "processing_class is a BertTokenizer", "the image processor",
    ),
    "an image processor for text": (
        {"train_dataset": tiny.domain(9), "target_dataset": tiny.domain(6), "model": tiny.bert}, TypeError,
        "processing_class is a ViTImageProcessorPil", "the tokenizer",
    ),
    "no processor": ({"processing_class": None}, ValueError, "processing_class is missing", "image processor"),
    "a length of images": ({"config": {"max_length": 64}}, ValueError, "max_length=64 is for text", "Leave it out"),
    "augmented text": (
        {"train_dataset": tiny.domain(9), "target_dataset": tiny.domain(6), "config": {"augment": "weak"}}, ValueError,
        "augment='weak' is for images, and the source holds text", "Leave it out",
    ),
    "flipped text": (
        {"train_dataset": tiny.domain(9), "target_dataset": tiny.domain(6), "config": {"augment_flip": True}},
        ValueError, "augment_flip=True is for images", "Leave it out",
    ),
    "a mistyped augmentation": (
        {"config": {"augment": "strnog"}}, ValueError, "augment='strnog' must be one of", "Did you mean 'strong'?",
    ),
    "an image of no size": ({"config": {"image_size": 0}}, ValueError, "image_size=0", "at least 4 pixels"),
    "tags of images": (
        {"config": {"task": "token-classification"}}, ValueError, "token-classification labels words",
        "one label a row",
    ),
    "a model of one channel": (
        {"model": lambda: pictures.resnet(num_channels=1)}, ValueError, "num_channels=1", "a model of 3",
    ),
    "a kind of model that there is not": (
        scratch(model_type="resnt") | {"config": SIZE}, ValueError, "model_type='resnt'", "Did you mean 'resnet'?",
    ),
    "a model of no kind": (
        scratch(model_type="gone") | {"config": SIZE}, ValueError, "model_type=None", 'An example: {"model_type"',
    ),
    "a setting that there is not": (
        scratch(hidden_size=[8]) | {"config": SIZE}, ValueError, "ResNetConfig has no setting 'hidden_size'",
        "Did you mean 'hidden_sizes'?",
    ),
    "a setting that is refused": (
        scratch(layer_type="simple") | {"config": SIZE}, ValueError, "'resnet' cannot be built of these settings",
        "simple",
    ),
    "a kind of model without such a head": (
        {"model": {"model_type": "bert"}, "processing_class": None, "config": SIZE}, ValueError,
        "'bert' is a Bert model", "Name a model of images",
    ),
    "a model from scratch of no size": (scratch(), ValueError, "image_size is missing", "image_size=32"),
    "a text model from scratch without a tokenizer": (
        {"train_dataset": tiny.domain(9), "target_dataset": tiny.domain(6), "model": {"model_type": "bert"},
         "processing_class": None}, ValueError, "has no tokenizer of its own", "--processor",
    ),
    "an adapter of nothing": (
        scratch() | {"config": SIZE, "peft_config": LoraConfig()},
        ValueError, "no weights worth keeping", "an adapter",
    ),
    "a frozen nothing": (
        scratch() | {"config": SIZE | {"trainable": "head"}},
        ValueError, "no weights worth keeping", "trainable='head'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_the_trainer_says_what_is_wrong_with_images(tmp_path, given, error, culprit, remedy):
    folder = tmp_path / "run"
    with pytest.raises(error) as found:
        trainer(folder, **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not folder.exists()


# ---- images as values


@pytest.mark.parametrize(("given", "culprit", "remedy"), SETS.values(), ids=SETS.keys())
def test_what_an_image_column_holds_is_named(tmp_path, given, culprit, remedy):
    with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is looked at below)
        trainer(tmp_path / "run", **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert len(str(found.value)) < 500
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["paths", "images", "a subset"])
def test_every_row_is_looked_at_before_training(tmp_path, kind):
    """The message is short, whatever stands there, and calls the row as the dataset counts it."""
    coder = ImageEncoder(pictures.processor(), LabelSpace("sequence-classification", tiny.LABELS))
    for number, (name, (value, culprit, remedy)) in enumerate(PATHS.items()):
        folder = tmp_path / f"case {number}"
        folder.mkdir()
        data, row = bad_images.table(folder_of([value(folder)], folder)), 4
        data = data.cast_column("image", Image()) if kind == "images" else data
        if kind == "a subset":
            data, row = data.select([8, 4, 2]), 1
        with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is looked at below)
            coder.encode(as_domain(data, "source"), "source", "label")
        message = str(found.value)
        assert message.startswith(f"source row {row}: "), name
        assert culprit in message, name
        assert remedy in message, name
        assert len(message) < 600, name


def test_rows_of_a_file_are_called_by_its_lines(tmp_path):
    coder = ImageEncoder(pictures.processor(), LabelSpace("sequence-classification", tiny.LABELS))
    names = [f"{i} (photos.csv line {i + 2})" for i in range(9)]
    data = bad_images.table(folder_of(["https://example.org/a.png"], tmp_path), **{ROW_ORIGIN: names})
    with pytest.raises(ValueError, match=r"source row 4 \(photos.csv line 6\): 'https.* is a URL"):
        coder.encode(as_domain(data.shuffle(seed=3), "source"), "source", "label")
    good = bad_images.table(folder_of([], tmp_path), **{ROW_ORIGIN: names}).select([7, 2])
    encoded = coder.encode(as_domain(good, "source"), "source", "label")
    assert encoded["origin"] == ["source row 7 (photos.csv line 9)", "source row 2 (photos.csv line 4)"]
    assert set(encoded.column_names) == {"image", "origin", "labels"}
    stream = coder.encode(as_domain(good.to_iterable_dataset(), "source"), "source", "label")
    assert [row["origin"] for row in stream] == encoded["origin"]
    assert set(next(iter(stream))) == {"image", "origin", "labels"}


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_damaged_is_one_message_from_a_worker_too(tmp_path, workers):
    coder = ImageEncoder(pictures.processor(), LabelSpace("sequence-classification", tiny.LABELS))
    collate = AdaptationCollator(coder, coder.space)
    cases = BYTES if not workers else {"half a picture": BYTES["half a picture"]}
    for name, (value, culprit, remedy) in cases.items():
        data = Dataset.from_dict(
            {"image": [*bad_images.FILES[:4], value], "label": LABELS[:5]},
            features=Features(image=Value("binary"), label=Value("int64")),
        )
        encoded = coder.encode(as_domain(data, "the test split of target"), "the test split of target", "label")
        with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is looked at below)
            list(torch.utils.data.DataLoader(encoded, 2, collate_fn=collate, num_workers=workers))
        message = str(found.value)
        assert message.startswith("the test split of target row 4 "), name
        assert culprit in message, name
        assert remedy in message, name
        assert "Traceback" not in message
        assert "\n" not in message
    path = tmp_path / "half.png"
    path.write_bytes(bad_images.FILES[0][:120])
    data = bad_images.table(folder_of([str(path)], tmp_path)).cast_column("image", Image())
    encoded = coder.encode(as_domain(data, "target"), "target", None)
    with pytest.raises(ValueError, match=r"target row 4 \(.*half.png\) is cut off or damaged.*Drop or replace"):
        list(torch.utils.data.DataLoader(encoded, 2, collate_fn=collate, num_workers=workers))


def test_a_csv_of_links_is_not_mangled(tmp_path):
    for name, value in (("link", "https://example.org/a.png"), ("encoded", bad_images.ENCODED)):
        file = tmp_path / f"{name}.csv"
        lines = ["image,label", *(f"{value},{i % 3}" for i in range(9))]
        file.write_text("\n".join(lines))
        part = load_domain(str(file), "source")["train"]
        assert part[0]["image"] == value
        with pytest.raises(ValueError, match="is a URL|is base64") as found:
            trainer(tmp_path / "run", train_dataset=part)
        assert str(tmp_path) not in str(found.value)


def test_what_looks_like_base64_and_is_a_path():
    for path in ("/9j/photos/holiday/2024/summer/beach/image.jpg", "a/" * 200 + "b", "iVBORw0KGgo.png", "cat.png"):
        assert reference_kind(path) is None
    assert reference_kind("C://photos/a.png") is None


def test_a_text_checkpoint_is_not_asked_to_look_at_images(tmp_path, model_folder):
    with pytest.raises(ValueError, match="is a Bert model.*head on images.*Name a model of images") as found:
        trainer(tmp_path / "run", model=model_folder, processing_class=None)
    assert model_folder in str(found.value)
    pictures.resnet().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="is a ResNet model.*head on text"):
        runs.trainer(tmp_path / "run", model=str(tmp_path / "model"))


def test_a_checkpoint_without_an_image_processor_is_named(tmp_path):
    pictures.resnet().save_pretrained(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="has no image processor.*Pass the one.*--processor") as found:
        trainer(tmp_path / "run", model=str(tmp_path / "model"), processing_class=None)
    assert str(tmp_path / "model") in str(found.value)


def test_images_under_bytes_are_named_by_row(tmp_path):
    features = Features(image=Value("binary"), label=Value("int64"))
    data = Dataset.from_dict({"image": [b"no"] * 9, "label": LABELS}, features=features)
    with pytest.raises(ValueError, match="source row 0 is no image that Pillow can read"):
        trainer(tmp_path / "run", train_dataset=data)


NO_PILLOW = """
import sys
sys.modules["PIL"] = None
from datasets import Dataset
from hftransfer.data.encoder import InputColumns, find_modality
text = Dataset.from_dict({"text": ["a"]})
assert find_modality({"source": text}, InputColumns()) == "text"
try:
    find_modality({"source": Dataset.from_dict({"image": ["a.png"]})}, InputColumns())
except ImportError as error:
    print(error)
import hftransfer.trainers.setup.preparation
assert "torchvision" not in sys.modules
"""


def test_without_pillow_images_are_refused_and_text_is_not(tmp_path):
    """In a fresh process; all that text needs can be imported."""
    done = subprocess.run([sys.executable, "-c", NO_PILLOW], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'pip install "hf-domain-adaptation[vision]"' in done.stdout
