"""Statistics of a site's features, written for other sites: moments, class prototypes, random features, and no row."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from transformers import AutoConfig

from .._version import __version__
from ..data.dataframes import as_dataset, is_table_like
from ..messages import nearest, shown
from ..models.atomic_folder import check_new_folder, new_folder
from ..models.content_identity import processing_identity
from ..models.encoder_identity import encoder_hash
from ..models.feature_hook import find_head
from ..models.pretrained import load_quietly, loaded_label_names
from ..objectives.published_statistics import FACTS, FORMAT, KINDS, TENSORS, PublishedStatistics
from ..setting_ranges import COUNT, POSITIVE, SEED
from .clipped_sums import StatisticsSettings, publishable_statistics
from .embed import embed_rows
from .feature_extractor import FeatureExtractor
from .frozen_backbone import FrozenBackbone
from .input_rows import InputRows, input_rows
from .private_noise import Noise, read_noise

logger = logging.getLogger(__name__)
NOT_ANONYMOUS = (
    "No noise was added: statistics of rows are not anonymous. A mean of few rows, or two publications that differ by "
    "a row, can give that row's features away."
)
RANGES = {"clip_norm": POSITIVE, "bandwidth": POSITIVE, "kernels": COUNT, "frequencies": COUNT, "seed": SEED}


def publish_statistics(
    model: Any,
    rows: Any,
    path: str | os.PathLike[str],
    *,
    statistics: str | Sequence[str] = ("moments",),
    clip_norm: float | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    noise_multiplier: float | None = None,
    noise_seed: int | None = None,
    bandwidth: float | None = None,
    kernels: int = 5,
    frequencies: int = 512,
    seed: int = 0,
    label_column: str = "label",
    column: str | None = None,
    processing_class: Any = None,
    max_length: int | None = None,
    batch_size: int = 64,
    device: Any = None,
    cache_dir: str | os.PathLike[str] | bool | None = None,
) -> PublishedStatistics:
    r"""Statistics of rows' features, written to a new folder that may leave the site. No row and no feature of a row
    is in it.

    Features are what the model's final layer reads, in evaluation mode. Each is clipped to the length C,
    \(x_i = z_i \min(1, C/\lVert z_i\rVert)\), before anything is summed:

    - `"moments"`: mean and covariance, for `coral`,
    - `"prototypes"`: the mean of each class, for `prototype`; the rows need labels,
    - `"random_features"`: the mean of random Fourier features, for `mmd_rff`.

    With noise, one row more or less changes the counts (one for each class with prototypes) by 1, \(\sum x_i\) and the
    class sums by at most C, \(\sum x_i x_i^\top\) by at most C² in the Frobenius norm, and the sum of random features,
    which have length 1, by 1. Each of the B sums is divided by its bound, so that all together change by at most √B:
    that is the sensitivity. Gaussian noise of standard deviation √B · `noise_multiplier` is added to every divided
    entry once, and all else is computed from the sums with noise. So the folder is the output of one Gaussian
    mechanism with that noise multiplier, for neighbours that differ by one row. dp-accounting states its ε at δ, from
    the privacy loss distribution, rounded upwards. A person with m rows has up to the group privacy of m rows. A
    second publication of the same rows spends again. The clipping norm, the bandwidth and the class names have to be
    chosen without looking at the rows: they are published as they are, and so is which model it is. Noise is computed
    in double precision, and published in single: attacks on the low bits of floating point numbers are made hard, not
    impossible.

    Args:
        model: Hub id or folder of a classifier, or a loaded one; the encoder that other sites will load.
        rows: texts, images or a data set, as in `embed`.
        path: the folder; it must not exist.
        statistics: one or several of the three.
        clip_norm: C; required with noise. `None` clips nothing.
        epsilon, delta: the noise is as small as they allow.
        noise_multiplier: instead of `epsilon`: standard deviation of the noise over the sensitivity.
        noise_seed: for tests; whoever knows it can take the noise off. The operating system's secure source when
            `None`.
        bandwidth: squared width of the middle kernel; the mean squared distance of two rows when `None`. With noise
            it is that of the moments with noise, and required without moments.
        kernels, frequencies: as in `mmd_rff`.
        seed: of the random frequencies, which are public.
        label_column: names or ids of classes, for prototypes.
        column, processing_class, max_length, batch_size, device, cache_dir: as in `embed`.

    Returns:
        What was written; `summary` lists it.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError, TypeError: settings, rows or labels that cannot be used.
        ImportError: noise, and dp-accounting is not installed.
        FileNotFoundError: there is no such model.

    Paper: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014; Doroshenko et al., Connect the
    Dots: Tighter Discrete Approximations of Privacy Loss Distributions, PoPETs 2022.

    Example:
        >>> published = publish_statistics("runs/teacher", news, "runs/news-statistics", cache_dir=False)
        >>> print("\n".join(published.summary))
        4,228 bytes in 3 tensors, and facts.json:
          counts: 1, 4 bytes
          mean: 32, 128 bytes
          covariance: 32 x 32, 4,096 bytes
        No noise was added: ...
    """
    given = {"clip_norm": clip_norm, "bandwidth": bandwidth, "kernels": kernels, "frequencies": frequencies}
    kinds = _read_kinds(statistics)
    check_new_folder(path)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("publish_statistics draws its noise once: call it in one process, not under a launcher.")
    settings = _read_settings(kinds, {**given, "seed": seed}, read_noise(epsilon, delta, noise_multiplier), noise_seed)

    dtype = "float32" if isinstance(model, str) else None
    extractor = FeatureExtractor(model, "head", -1, max_length, dtype, device, processing_class)
    inputs = input_rows(rows, column, extractor.modality)
    if inputs.kind == "tokens":
        raise ValueError("rows hold lists of words, and statistics are of rows with one class each: pass texts.")
    classes, names = _read_classes(rows, label_column, extractor) if "prototypes" in kinds else (None, ())
    features = np.asarray(embed_rows(extractor, inputs, batch_size, cache_dir, progress=False).features, np.float64)
    if len(features) < 2:
        raise ValueError(f"rows: {len(features)} row(s) have no statistics; give two or more.")
    arrays, of_noise, of_kernel = publishable_statistics(features, classes, len(names), settings)

    backbone = extractor.backbone(inputs.kind)
    facts = {
        "format": FORMAT,
        "hftransfer": __version__,
        "statistics": list(kinds),
        "encoder": encoder_hash(backbone.model, _head_name(backbone, inputs)),
        "architecture": type(backbone.model).__name__,
        "processor": processing_identity(backbone.processing),
        "features": "head",
        "dimension": int(features.shape[1]),
        "classes": list(names),
        "clip_norm": settings.clip_norm,
        "kernel": of_kernel,
        "noise": of_noise,
        "epsilon": None if settings.privacy is None else settings.privacy[1],
        "delta": None if settings.privacy is None else settings.privacy[2],
        "means": _meaning(settings),
    }
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(torch.bool if value.dtype == bool else torch.float32)
        for name, value in arrays.items()
    }
    content = save(tensors)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    with new_folder(path) as folder:
        (folder / TENSORS).write_bytes(content)
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if settings.privacy is None:
        logger.warning("%s: %s", path, NOT_ANONYMOUS)
    return PublishedStatistics(tensors, facts)


def _read_settings(
    kinds: tuple[str, ...], given: Mapping[str, Any], privacy: tuple[float, float, float] | None, noise_seed: Any
) -> StatisticsSettings:
    """Settings of the sums, each in its range, and none without effect."""
    numbers: dict[str, Any] = {
        name: None if value is None else RANGES[name].read(name, value) for name, value in given.items()
    }
    if numbers["bandwidth"] is not None and "random_features" not in kinds:
        raise ValueError(f"bandwidth={numbers['bandwidth']:g} has no effect without statistics='random_features'.")
    if numbers["frequencies"] < numbers["kernels"]:
        raise ValueError(
            f"frequencies={numbers['frequencies']} must be at least kernels={numbers['kernels']}: one for each kernel."
        )
    if privacy is None and noise_seed is not None:
        raise ValueError(f"noise_seed={noise_seed!r} has no effect without noise: give epsilon and delta.")
    if privacy is not None and numbers["clip_norm"] is None:
        raise ValueError(
            "Noise needs clip_norm, which bounds what one row adds. Choose it on public rows: one that is read off "
            "these rows would tell of them."
        )
    needs_bandwidth = "random_features" in kinds and "moments" not in kinds
    if privacy is not None and needs_bandwidth and numbers["bandwidth"] is None:
        raise ValueError(
            "Noise with random_features needs bandwidth, or moments beside them: a bandwidth that is read off these "
            "rows would be published without noise."
        )
    return StatisticsSettings(kinds, privacy=privacy, noise=Noise(noise_seed), **numbers)


def _meaning(settings: StatisticsSettings) -> str:
    if settings.privacy is None:
        return NOT_ANONYMOUS
    _, epsilon, delta = settings.privacy
    return (
        f"Gaussian noise from {settings.noise.source}: ε = {epsilon:.3g} at δ = {delta:.3g}, for one row more or "
        "less. Class names, the clipping norm and the model are public."
    )


def _read_kinds(statistics: Any) -> tuple[str, ...]:
    kinds = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"statistics={shown(kind)} must be one of {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    if not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(f"statistics={statistics!r} must name one or several of {', '.join(KINDS)}, none twice.")
    return tuple(kind for kind in KINDS if kind in kinds)


def _read_classes(rows: Any, label_column: str, extractor: FeatureExtractor) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n,) class ids and all class names, which are declared and not read off the rows."""
    dataset = as_dataset(rows, "rows", None, None) if is_table_like(rows) else rows
    columns = getattr(dataset, "column_names", None) or ()
    if label_column not in columns:
        raise ValueError(
            f"prototypes need labels, and rows have no column {label_column!r} "
            f"(there is {', '.join(columns) or 'none'}): pass a data set with one, and its name as label_column."
            f"{nearest(label_column, columns)}"
        )
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            "prototypes need a data set with a length, whose labels can be read at once: rows are a stream."
        )
    values = dataset[label_column][:]
    declared = getattr(dataset.features[label_column], "names", None)
    names = tuple(declared) if declared else _names_of_model(extractor.model)
    if not names:
        raise ValueError(
            f"prototypes need class names: let {label_column!r} be a ClassLabel column, or name the classes in the "
            "model's config (id2label). Names that are read off the rows would tell of them."
        )
    numbers = {name: i for i, name in enumerate(names)} | ({i: i for i in range(len(names))} if declared else {})
    for i, value in enumerate(values):
        if value not in numbers:
            raise ValueError(
                f"rows row {i}: the label {shown(value)} is none of {', '.join(map(str, names))}. Name all "
                "classes, or leave the row out."
            )
    return np.array([numbers[value] for value in values]), names


def _names_of_model(model: Any) -> tuple[str, ...]:
    """Class names in a model's config; none where they are the stock ones."""
    holder = SimpleNamespace(config=load_quietly(AutoConfig, model)) if isinstance(model, str) else model
    return loaded_label_names(holder) or ()


def _head_name(backbone: FrozenBackbone, inputs: InputRows) -> str:
    """Name of the final linear, found on the first row."""
    chunk = next(iter(inputs.chunks()))
    encoded, _ = backbone.encode(chunk.values[:1], chunk.names()[:1])
    return find_head(backbone.model, backbone.stack(encoded)).name
