"""Every kind of image and every mode of Pillow comes out as the RGB picture that it shows, or as one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pictures
import pytest
import torch
from PIL import Image

from hftransfer.data.image_decoding import open_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
RED = np.array([255, 0, 0], dtype=np.uint8)


def opened(value) -> np.ndarray:
    image = open_image(value, "source row 3")
    assert image.mode == "RGB"
    return np.asarray(image)


# ---- kinds


@pytest.mark.parametrize(
    "kind", ["picture", "path", "Path", "bytes", "dict of bytes", "dict of path", "array", "list", "tensor"]
)
def test_every_kind_of_value_is_the_same_picture(tmp_path, kind):
    image, path = Image.fromarray(COLOUR), tmp_path / "a.png"
    image.save(path)
    values = {
        "picture": image,
        "path": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "dict of bytes": {"bytes": path.read_bytes(), "path": "elsewhere.png"},
        "dict of path": {"bytes": None, "path": str(path)},
        "array": COLOUR,
        "list": COLOUR.tolist(),
        "tensor": torch.tensor(COLOUR),
    }
    assert np.array_equal(opened(values[kind]), COLOUR)


@pytest.mark.parametrize(
    "array",
    [
        COLOUR,
        COLOUR.transpose(2, 0, 1),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.float32) / 255,
        COLOUR.astype(np.float64).transpose(2, 0, 1) / 255,
    ],
    ids=["HWC", "CHW", "int64", "float", "float CHW"],
)
def test_arrays_of_colour(array):
    assert np.array_equal(opened(array), COLOUR)


@pytest.mark.parametrize("array", [GREY, GREY[..., None], GREY[None], GREY / 255], ids=["HW", "HW1", "1HW", "float"])
def test_arrays_of_grey_become_three_equal_channels(array):
    assert np.array_equal(opened(array), np.stack([GREY] * 3, -1))


def test_truth_values_are_black_and_white():
    assert np.array_equal(opened(GREY > 99)[..., 1], np.where(GREY > 99, 255, 0))


# ---- modes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes_are_as_pillow_shows_them(mode):
    image = Image.fromarray(COLOUR).convert(mode) if mode != "LAB" else Image.fromarray(COLOUR, "LAB")
    assert np.array_equal(opened(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_over_black(mode):
    alpha = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 255
    image = Image.fromarray(np.stack([GREY, GREY, GREY, alpha], -1)).convert("LA" if mode == "LA" else "RGBA")
    if mode == "PA":
        image = Image.fromarray(GREY).convert("P")
        image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    expected = GREY.astype(float) * alpha / 255
    assert np.abs(opened(image) - expected[..., None]).max() <= 1
    assert np.array_equal(opened(image)[1, :, 0], GREY[1])
    assert not opened(image)[0].any()


def test_a_palette_may_have_a_transparent_colour(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.paste(0, (0, 0, 2, 4))
    path = tmp_path / "a.png"
    image.save(path, transparency=0)
    found = opened(path)
    assert not found[:, :2].any()
    assert (found[:, 2:] == RED).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind):
    values = np.arange(0, 65536, 1366, dtype=np.uint16).reshape(6, 8)
    expected = np.floor(values / 257 + 0.5)
    assert np.array_equal(opened(pictures.png(Image.fromarray(values), kind))[..., 2], expected)
    assert np.array_equal(opened(Image.fromarray(values.astype(np.int32)))[..., 2], expected)


def test_floats_between_0_and_1_are_scaled():
    image = Image.fromarray(np.full((2, 2), 0.2, dtype=np.float32))
    assert (opened(image) == 51).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.kron(np.array([[255, 0], [0, 0]], dtype=np.uint8), np.ones((8, 16), dtype=np.uint8)))
    found = opened(pictures.png(image, "JPEG", exif=exif, quality=95))
    upright = orientation <= 4
    assert found.shape[:2] == ((16, 32) if upright else (32, 16))
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    bright = [c for c in [(0, 0), (0, -1), (-1, 0), (-1, -1)] if found[c][0] > 200]
    assert bright == [corners[orientation]]


def test_of_an_animation_it_is_the_first_frame():
    frames = [Image.new("L", (4, 4), value) for value in (30, 200)]
    assert (opened(pictures.png(frames[0], "GIF", save_all=True, append_images=frames[1:])) == 30).all()


# ---- what is refused


def _strip() -> np.ndarray:
    return np.zeros((1, 101), dtype=np.uint8)


def _png() -> bytes:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return pictures.png(Image.fromarray(noise))


BAD = {
    "none": (lambda _: None, "the image is None", "Drop or fill"),
    "an empty dict": (lambda _: {"bytes": None, "path": None}, "the image is None", "Drop or fill"),
    "no such file": (lambda f: str(f / "gone.png"), "there is no file '", "from that file's folder"),
    "a folder": (lambda f: str(f), "is a folder", "path of a file"),
    "no image": (lambda _: b"once upon a time", "no image that Pillow can read", "Drop or convert"),
    "nothing": (lambda _: b"", "is empty (0 bytes)", "Drop or replace"),
    "cut off": (lambda _: _png()[:3000], "is cut off or damaged", "Drop or replace"),
    "a url": (lambda _: "https://example.org/a.png", "'https://example.org/a.png' is a URL", "Download"),
    "a number": (lambda _: 7.5, "a single number is no image", "H x W"),
    "a mapping": (lambda _: [["a", "b"]], "list is no image", "rectangular array of numbers"),
    "ragged": (lambda _: [[1, 2], [3]], "list is no image", "rectangular array of numbers"),
    "five channels": (lambda _: np.zeros((6, 8, 5)), "an array of 6 x 8 x 5 is no image", "1 to 4 channels"),
    "four axes": (lambda _: np.zeros((1, 6, 8, 3)), "an array of 1 x 6 x 8 x 3", "H x W x C"),
    "no rows": (lambda _: np.zeros((0, 8)), "an array of 0 x 8", "H x W"),
    "too bright": (lambda _: np.full((2, 2), 300), "integers from 300 to 300", "0 … 255"),
    "negative": (lambda _: np.full((2, 2), -1), "integers from -1 to -1", "0 … 255"),
    "bytes as floats": (lambda _: np.full((2, 2), 200.0), "floats from 200 to 200", "cast it to uint8"),
    "not a number": (lambda _: np.array([[0.5, np.nan]]), "not finite (NaN", "repair"),
    "infinite": (lambda _: np.array([[0.5, np.inf]]), "not finite", "repair"),
    "a strip": (lambda _: _strip(), "is 101 x 1 pixels, more than 100 times", "Cut it up"),
    "a strip in a file": (lambda _: pictures.png(Image.fromarray(_strip())), "is 101 x 1 pixels", "Cut it up"),
    "32 bits": (lambda _: Image.fromarray(np.full((2, 2), 70000, np.int32)), "outside 0 … 65535", "8 bits a channel"),
}


@pytest.mark.parametrize(("make", "culprit", "remedy"), BAD.values(), ids=BAD.keys())
def test_what_is_no_image_is_named(tmp_path, make, culprit, remedy):
    with pytest.raises(ValueError, match="^source row 3") as found:
        open_image(make(tmp_path), "source row 3")
    assert culprit in str(found.value)
    assert remedy in str(found.value)


def test_the_file_of_a_bad_image_is_named(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(pictures.png(Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)), "JPEG")[:900])
    for value in (path, str(path), {"path": str(path), "bytes": None}):
        with pytest.raises(ValueError, match="is cut off or damaged") as found:
            open_image(value, "source row 3")
        assert f"source row 3 ({path})" in str(found.value)


@pytest.mark.parametrize("pixels", [30, 4000])  # beyond twice the limit Pillow raises itself; before, it warns
def test_an_absurdly_large_image_is_an_error_before_it_is_decoded(tmp_path, monkeypatch, pixels):
    path = tmp_path / "bomb.png"
    Image.new("L", (8, 5)).resize((pixels // 5, 5)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="bomb.png.* more than 20 pixels.*raise `PIL.Image.MAX_IMAGE_PIXELS`"):
        open_image(path, "source row 3")


def test_files_are_closed(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path)
    image = open_image(str(path), "x")
    Path(path).unlink()
    assert image.resize((3, 3)).size == (3, 3)  # everything was read
