"""Adaptation at test time over a stream of corrupted digits, beside the unadapted model.

    python tests/benchmarks/test_time.py --data DIR --methods stable tent

A ResNet of three blocks is trained on clean digits (`--source`), as in images.py. The stream is its test rows under
corruptions in turn, `--length` batches of each, made with NumPy and Pillow. Labels are read for the report alone
(oracle): `gain` is the mean difference of accuracies in points, `worst window` the lowest mean difference over
`--window` batches, and `below` how many windows lie more than a point below. No default was chosen on this stream.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import DIGITS, load
from PIL import Image, ImageFilter

SIDE = 32


def _enlarged(array: np.ndarray) -> np.ndarray:
    """(side, side) bytes -> (32, 32) between 0 and 1."""
    return np.asarray(Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32) / 255


def _noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0, 0.35, x.shape)


def _speckle(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black and white pixels, one in eight."""
    drawn = rng.random(x.shape)
    return np.where(drawn < 1 / 16, 0.0, np.where(drawn > 15 / 16, 1.0, x))


def _blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray((x * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5))
    return np.asarray(image, dtype=np.float32) / 255


def _contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 0.25 * (x - x.mean())


def _brightness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + 0.4


def _rotation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.choice((-1, 1)) * rng.uniform(25, 45)
    image = Image.fromarray((x * 255).astype(np.uint8)).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32) / 255


def _occlusion(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = rng.integers(4, SIDE - 14, 2)
    x = x.copy()
    x[top : top + 10, left : left + 10] = 0.5
    return x


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "none": lambda x, rng: x,
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "speckle": _speckle,
    "brightness": _brightness,
    "rotation": _rotation,
    "occlusion": _occlusion,
}


def as_pixels(images: list[np.ndarray]) -> torch.Tensor:
    """(n, 3, 32, 32), scaled as the model was trained."""
    x = torch.from_numpy(np.stack(images).clip(0, 1).astype(np.float32))
    return ((x - 0.5) / 0.5).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()


def stream(
    rows: Any, batches: int, size: int, length: int, seed: int, by_class: bool = False
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Corruption, pixels and oracle labels of each batch; `by_class` fills a corruption's batches class by class."""
    rng = np.random.default_rng(seed)
    images = [_enlarged(np.asarray(image.convert("L"))) for image in rows["image"]]
    labels = np.array(rows["label"])
    names = list(CORRUPTIONS)
    for i in range(batches):
        name = names[i // length % len(names)]
        if by_class:
            of_class = np.flatnonzero(labels == 10 * (i % length) // length)
            drawn = of_class[rng.integers(0, len(of_class), size)]
        else:
            drawn = rng.integers(0, len(images), size)
        yield name, as_pixels([CORRUPTIONS[name](images[j], rng) for j in drawn]), torch.from_numpy(labels[drawn])


def trained(data: Path, source: str, seed: int, epochs: int, rows: int) -> Any:
    """A small ResNet on clean digits, kept in a folder for the next call."""
    from transformers import AutoConfig, ResNetForImageClassification

    folder = Path(f"runs/test-time-{source}-{seed}-{epochs}-{rows}")
    if (folder / "config.json").is_file():
        return ResNetForImageClassification.from_pretrained(folder)
    torch.manual_seed(seed)
    settings = {**DIGITS, "num_labels": 10}
    model = ResNetForImageClassification(AutoConfig.for_model(settings.pop("model_type"), **settings)).train()
    train = load(data, source, "train").shuffle(seed=seed).select(range(rows))
    x = as_pixels([_enlarged(np.asarray(image.convert("L"))) for image in train["image"]])
    y, batch = torch.tensor(train["label"]), 32
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * (len(x) // batch))
    for _ in range(epochs):
        for drawn in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
            loss = torch.nn.functional.cross_entropy(model(x[drawn]).logits, y[drawn])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval().save_pretrained(folder)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", choices=("mnist", "usps"), default="mnist")
    parser.add_argument("--methods", nargs="+", default=["stable", "tent"])
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=50, help="batches of each corruption before the next")
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--by_class", action="store_true", help="rows come class by class within each corruption")
    parser.add_argument("--no_design_effect", action="store_true", help="of stable: each row of a batch counts whole")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=5000, help="of the source, to train on")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from hftransfer import TestTimeAdapter

    torch.set_num_threads(1)
    model = trained(args.data, args.source, args.seed, args.epochs, args.rows)
    changed = {"stable": {"design_effect": False}} if args.no_design_effect else {}
    adapters = {name: TestTimeAdapter(model, name, **changed.get(name, {})) for name in args.methods}
    seconds = dict.fromkeys(["unadapted", *adapters], 0.0)
    right: dict[str, list[float]] = {name: [] for name in seconds}
    kinds = []
    rows = load(args.data, args.source, "test")
    for kind, pixels, labels in stream(rows, args.batches, args.batch_size, args.length, args.seed, args.by_class):
        kinds.append(kind)
        for name in seconds:
            began = time.time()
            if name == "unadapted":
                with torch.no_grad():
                    predicted = model(pixels).logits.argmax(1)
            else:
                predicted = adapters[name].adapt_and_predict(pixels).predictions
            seconds[name] += time.time() - began
            right[name].append(100 * float((predicted == labels).double().mean()))

    print("| corruption |", " | ".join(seconds), "|\n|---" * 1 + "|---" * len(seconds) + "|")
    for kind in [*CORRUPTIONS, "all"]:
        at = [i for i, other in enumerate(kinds) if kind in (other, "all")]
        if at:
            print(f"| {kind} |", " | ".join(f"{np.mean([right[n][i] for i in at]):.1f}" for n in seconds), "|")
    for name, adapter in adapters.items():
        difference = np.array(right[name]) - np.array(right["unadapted"])
        windows = np.convolve(difference, np.ones(args.window) / args.window, mode="valid")
        ratio = seconds[name] / max(seconds["unadapted"], 1e-9)
        print(
            f"{name}: gain {difference.mean():+.2f} points, worst window {windows.min():+.2f} (from batch "
            f"{int(windows.argmin())}, {kinds[int(windows.argmin())]}), below {int((windows < -1).sum())} of "
            f"{len(windows)}, {ratio:.1f} times the unadapted model's time, {adapter.facts}"
        )


if __name__ == "__main__":
    main()
