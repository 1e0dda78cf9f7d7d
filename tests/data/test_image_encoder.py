"""Images: columns of every kind, decoded late, augmented by draw, processed as the saved processor would."""

from __future__ import annotations

import numpy as np
import pictures
import pytest
import tiny
import torch
from datasets import Array3D, ClassLabel, Dataset, Features, Image, IterableDataset, Value
from PIL import Image as Pillow
from transformers.models.poolformer.image_processing_pil_poolformer import PoolFormerImageProcessorPil

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.domain_arguments import as_domain
from hftransfer.data.image_encoder import ImageEncoder, processed_size
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.pairing import PairedDataset
from hftransfer.data.streaming import PairedStream
from hftransfer.ignored_label import IGNORE

CLASSES = LabelSpace("sequence-classification", tiny.LABELS)
DATA = pictures.pictures(6)
ARRAYS = [np.asarray(image) for image in DATA["image"]]


def encoder(**settings) -> ImageEncoder:
    return ImageEncoder(pictures.processor(), CLASSES, **{"augment": "none", **settings})


def processed(array: np.ndarray, side: int = 16) -> np.ndarray:
    """By hand: resized by Pillow, to -1 … 1, channels first."""
    image = Pillow.fromarray(array).resize((side, side), Pillow.Resampling.BILINEAR)
    return np.asarray(image).astype(np.float64).transpose(2, 0, 1) / 255 * 2 - 1


def column(kind: str, folder) -> Dataset:
    """The same pictures as another kind of column."""
    labels = {"label": list(DATA["label"])}
    if kind in ("paths", "image of paths"):
        paths = []
        for i, array in enumerate(ARRAYS):
            paths.append(str(folder / f"{i}.png"))
            Pillow.fromarray(array).save(paths[-1])
        data = Dataset.from_dict({"image": paths, **labels})
        return data if kind == "paths" else data.cast_column("image", Image())
    if kind == "bytes":
        files = [pictures.png(Pillow.fromarray(a)) for a in ARRAYS]
        return Dataset.from_dict(
            {"image": files, **labels}, features=Features(image=Value("binary"), label=Value("int64"))
        )
    if kind == "structs":
        files = [{"bytes": pictures.png(Pillow.fromarray(a)), "path": None} for a in ARRAYS]
        return Dataset.from_dict({"image": files, **labels})
    if kind == "nested lists":
        return Dataset.from_dict({"image": [a.tolist() for a in ARRAYS], **labels})
    if kind == "Array3D":
        features = Features(image=Array3D((3, 12, 12), "float32"), label=Value("int64"))
        return Dataset.from_dict(
            {"image": [(a.transpose(2, 0, 1) / 255).astype(np.float32) for a in ARRAYS], **labels}, features=features
        )
    return DATA if kind == "image" else DATA.with_format("torch")


KINDS = ["image", "formatted", "paths", "image of paths", "bytes", "structs", "nested lists", "Array3D"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_gives_the_same_batch(tmp_path, kind):
    encoder_ = encoder()
    encoded = encoder_.encode(as_domain(column(kind, tmp_path), "source"), "source", "label")
    batch = AdaptationCollator(encoder_, CLASSES)([encoded[i] for i in range(6)])
    assert batch["pixel_values"].dtype == torch.float32
    expected = np.stack([processed(a) for a in ARRAYS])
    assert np.abs(batch["pixel_values"].numpy() - expected).max() < 1e-6
    assert batch["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    columns = encoded[[4, 1]]
    assert columns["labels"] == [1, 1]
    assert columns["origin"] == ["source row 4", "source row 1"]


@pytest.mark.parametrize("kind", ["image", "paths", "bytes"])
def test_streams_give_the_same_batch(tmp_path, kind):
    encoder_ = encoder()
    stream = as_domain(column(kind, tmp_path).to_iterable_dataset(), "source")
    rows = list(encoder_.encode(stream, "source", "label"))
    assert set(rows[0]) == {"image", "origin", "labels"}
    batch = AdaptationCollator(encoder_, CLASSES)(rows)
    assert np.abs(batch["pixel_values"].numpy() - np.stack([processed(a) for a in ARRAYS])).max() < 1e-6
    from_generator = IterableDataset.from_generator(lambda: iter([{"image": Pillow.fromarray(a)} for a in ARRAYS]))
    again = AdaptationCollator(encoder_, CLASSES)(list(encoder_.encode(from_generator, "target", None)))
    assert torch.equal(again["pixel_values"], batch["pixel_values"])


def test_other_columns_go_and_labels_are_matched_by_name():
    data = DATA.rename_columns({"image": "photo", "label": "kind"}).add_column("id", list(range(6)))
    data = data.cast_column("kind", ClassLabel(names=list(tiny.LABELS)))
    swapped = LabelSpace("sequence-classification", tuple(reversed(tiny.LABELS)))
    encoded = ImageEncoder(pictures.processor(), swapped, "photo").encode(data, "source", "kind")
    assert encoded.column_names == ["image", "origin", "labels"]
    assert [row["labels"] for row in encoded] == [2, 1, 0, 2, 1, 0]
    assert "labels" not in encoder().encode(DATA, "target", None)[0]


def test_nothing_but_the_first_image_is_decoded_before_a_batch_is_made(tmp_path, monkeypatch):
    """A set of any size is ready at once, and what is damaged comes to light with its name."""
    opened = []
    monkeypatch.setattr("hftransfer.data.image_encoder.open_image", lambda value, where: opened.append(where))
    files = [pictures.png(Pillow.fromarray(a)) for a in ARRAYS]
    files[4] = files[4][:200]
    data = Dataset.from_dict({"image": files, "label": list(DATA["label"])}).cast_column("image", Image())
    encoded = encoder().encode(as_domain(data, "source"), "source", "label")
    assert opened == ["source row 0"]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="source row 4 is cut off or damaged"):
        encoder().stack([encoded[i] for i in range(6)], [None] * 6)


def test_bytes_are_not_written_anew(tmp_path):
    """Encoding keeps the stored column; a subset keeps pointing into it."""
    data = DATA.select([5, 2, 0])
    encoded = encoder().encode(data, "source", "label")
    assert encoded.images.data.nbytes <= DATA.data.nbytes
    assert [row["labels"] for row in encoded] == [2, 2, 0]
    assert np.array_equal(encoder().stack([encoded[1]], [None])["pixel_values"][0], encoder().stack(
        [encoder().encode(DATA, "source", None)[2]], [None])["pixel_values"][0])  # fmt: skip


# ---- augmentation


def rows(encoder_, draws=True, target=True) -> PairedDataset:
    part = encoder_.encode(DATA, "source", "label")
    return PairedDataset({"source": part}, encoder_.encode(DATA, "target", None) if target else None, draws)


def test_a_draw_is_a_function_of_seed_domain_row_pass_and_view():
    seen = {}
    for seed in (1, 2):
        encoder_ = encoder(augment="weak", seed=seed)
        data, collate = rows(encoder_), AdaptationCollator(encoder_, CLASSES, two_views=True)
        for passes in (0, 1):
            batch = collate(data.__getitems__([k + passes * 12 for k in (0, 3, 6, 9)]))
            again = collate(data.__getitems__([k + passes * 12 for k in (3, 9)]))
            x = batch["pixel_values"]
            assert x.shape[0] == 6  # two source rows, two target rows, and those once more
            assert len(batch["labels"]) == len(batch["domain"]) == 4
            assert torch.equal(again["pixel_values"], x[[1, 3, 5]])  # whatever else is in the batch
            names = ("source 0", "source 3", "target 0", "target 3", "view of 0", "view of 3")
            seen |= {(seed, passes, name): x[k].numpy().tobytes() for k, name in enumerate(names)}
    assert len(set(seen.values())) == len(seen) == 24


def test_evaluation_is_never_changed_at_random():
    encoder_ = encoder(augment="strong", flip=True)
    part = encoder_.encode(DATA, "eval_dataset", "label")
    batch = AdaptationCollator(encoder_, CLASSES, two_views=True)([part[i] for i in range(6)])
    assert np.abs(batch["pixel_values"].numpy() - np.stack([processed(a) for a in ARRAYS])).max() < 1e-6
    assert set(batch) == {"pixel_values", "labels"}


def test_without_augmentation_rows_are_as_they_are_and_the_model_makes_the_views():
    encoder_ = encoder()
    assert not encoder_.draws
    batch = AdaptationCollator(encoder_, CLASSES, two_views=True)(rows(encoder_, draws=False).__getitems__([0, 6]))
    assert len(batch["pixel_values"]) == 2
    assert batch["labels"].tolist() == [0, IGNORE]


def test_streams_draw_from_their_own_count():
    encoder_ = encoder(augment="weak")
    collate = AdaptationCollator(encoder_, CLASSES, two_views=True)

    def first(epoch: int, batches: int = 8) -> torch.Tensor:
        parts = [as_domain(DATA.to_iterable_dataset(), "x") for _ in range(2)]
        source, target = encoder_.encode(parts[0], "source", "label"), encoder_.encode(parts[1], "target", None)
        stream = PairedStream({"source": source}, target, 2.0, batch_size=2, buffer_size=1, draws=True)
        stream.set_epoch(epoch)
        pairs = [row for row, _ in zip(stream, range(2 * batches), strict=False)]
        return torch.stack([collate(pairs[k : k + 2])["pixel_values"] for k in range(0, 2 * batches, 2)])

    x = first(0)
    assert x.shape[:2] == (8, 2 + 4 + 4)
    assert torch.equal(x, first(0))
    assert not torch.equal(x, first(1))
    assert len({row.numpy().tobytes() for row in x.flatten(0, 1)}) == 80  # rows come again, draws do not


# ---- the processor


def test_images_of_any_size_and_mode_make_one_batch():
    images = [Pillow.new("L", (5, 9), 40), Pillow.new("RGBA", (31, 7), (9, 9, 9, 255)), Pillow.new("CMYK", (12, 12))]
    data = Dataset.from_dict({"image": images}, features=Features(image=Image()))
    encoder_ = encoder()
    encoded = encoder_.encode(as_domain(data, "target"), "target", None)
    assert encoder_.stack(list(encoded), [None] * 3)["pixel_values"].shape == (3, 3, 16, 16)


def test_a_processor_that_makes_unequal_sizes_is_named():
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    encoder_ = ImageEncoder(ViTImageProcessorPil(size={"shortest_edge": 8}), CLASSES)
    images = [
        {"image": np.zeros((9, 9), np.uint8), "origin": "x"},
        {"image": np.zeros((9, 19), np.uint8), "origin": "y"},
    ]
    with pytest.raises(ValueError, match=r"ViTImageProcessorPil makes pixel_values of different sizes.*`image_size`"):
        encoder_.stack(images, [None, None])


def test_the_crop_asks_the_processor_for_its_size():
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    assert processed_size(pictures.processor(20)) == (20, 20)
    assert processed_size(ViTImageProcessorPil(size={"shortest_edge": 8})) == 8
    assert processed_size(ViTImageProcessorPil(do_resize=False)) is None


@pytest.mark.parametrize("augment", ["none", "weak", "strong"])
def test_a_picture_of_the_right_size_is_not_resized_once_more(augment, monkeypatch):
    """Which changes no pixel; one that is not of that size is resized as ever."""
    coder = ImageEncoder(pictures.processor(pictures.SIDE), CLASSES, augment=augment)
    rows, asked = list(coder.encode(DATA, "source", "label")), []
    draws = [None if augment == "none" else (1, i, 0, 0) for i in range(len(rows))]
    process = type(coder.processing_class).__call__

    def spy(self, *args, **options):
        asked.append(options.get("do_resize"))
        return process(self, *args, **options)

    monkeypatch.setattr(type(coder.processing_class), "__call__", spy)
    made = coder.stack(rows, draws)["pixel_values"]
    coder.final_size = None
    assert torch.equal(made, coder.stack(rows, draws)["pixel_values"])
    assert asked == [False, None]
    larger = encoder()
    assert larger.final_size == (16, 16)
    larger.stack(rows, [None] * len(rows))
    assert asked[-1] is None


def test_a_processor_that_resizes_to_more_than_it_keeps_is_left_alone():
    """It says 16 and cuts 16 out of 17; what has 16 already must be resized all the same."""
    square = {"height": 16, "width": 16}
    processor = PoolFormerImageProcessorPil(size=square, crop_size=square, crop_pct=0.9)
    coder = ImageEncoder(processor, CLASSES, augment="none")
    assert processed_size(processor) == (16, 16)
    assert coder.final_size is None
