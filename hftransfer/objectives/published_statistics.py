"""Published statistics of a site's features: a folder of tensors and facts that another site aligns to."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ..messages import first_line, shown

TENSORS, FACTS = "statistics.safetensors", "facts.json"
FORMAT = 1
KINDS = {  # what can be published -> the tensors that it consists of
    "moments": ("mean", "covariance"),
    "prototypes": ("prototypes", "has_prototype"),
    "random_features": ("random_features", "frequencies", "amplitude"),
}
REQUIRED = (
    *("format", "statistics", "encoder", "features", "dimension", "classes", "clip_norm", "kernel", "noise", "means"),
    "sha256",
)


@dataclass(frozen=True)
class PublishedStatistics:
    """Statistics of a site's features, as they leave the site.

    Attributes:
        tensors: by name; `counts` and those of `KINDS`.
        facts: what facts.json says: the encoder's hash, the dimension, the clipping norm, the noise, ε and δ.

    Example:
        >>> _ = publish_statistics("runs/teacher", news, "runs/statistics", cache_dir=False)
        >>> statistics = load_statistics("runs/statistics")
        >>> statistics.tensors["covariance"].shape, statistics.facts["epsilon"]
        (torch.Size([32, 32]), None)
    """

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]

    @property
    def summary(self) -> list[str]:
        """Lines that say what leaves the site: every tensor with its shape and size, the noise, and what it means."""
        total = sum(tensor.nbytes for tensor in self.tensors.values())
        lines = [f"{total:,} bytes in {len(self.tensors)} tensors, and facts.json:"]
        for name, tensor in self.tensors.items():
            size = " x ".join(map(str, tensor.shape)) or "1"
            lines.append(f"  {name}: {size}, {tensor.nbytes:,} bytes")
        if self.without_prototype:
            lines.append(f"No prototype, for lack of rows or under the noise: {', '.join(self.without_prototype)}.")
        lines.append(str(self.facts["means"]))
        return lines

    @property
    def without_prototype(self) -> list[str]:
        """Classes of published prototypes that have none."""
        held = self.tensors.get("has_prototype", torch.ones(0)).tolist()
        return [name for name, has_one in zip(self.facts["classes"], held, strict=False) if not has_one]

    def need(self, kind: str, reader: str) -> None:
        """Check that a kind of statistics was published. Raises a `ValueError`.

        Args:
            kind: one of `KINDS`.
            reader: who reads it.
        """
        if kind not in self.facts["statistics"]:
            raise ValueError(
                f"{reader} reads {kind}, and the published statistics hold {', '.join(self.facts['statistics'])}: ask "
                f"the site for statistics={kind!r} too."
            )

    def check_width(self, width: int) -> None:
        """Check that features have the published width. Raises a `ValueError`."""
        if width != self.facts["dimension"]:
            raise ValueError(
                f"the published statistics are of {self.facts['dimension']} features a row, and this model has "
                f"{width}: load the encoder that the site used."
            )

    def clip(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows as the site has clipped its own; see `clip_rows`."""
        return clip_rows(rows, self.facts["clip_norm"])


def clip_rows(rows: torch.Tensor, norm: float | None) -> torch.Tensor:
    r"""Rows of (n, d), those longer than C shortened: \(x \min(1, C / \lVert x\rVert)\); `None` clips nothing."""
    if norm is None:
        return rows
    lengths = torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True)
    return rows * (norm / lengths.clamp_min(1e-12)).clamp(max=1)


def random_features(rows: torch.Tensor, frequencies: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
    """Random Fourier features, (n, d) -> (n, 2 D), each row of length 1.

    Args:
        rows: (n, d).
        frequencies: (d, D).
        amplitude: (D,), whose squares sum to 1.
    """
    angle = rows @ frequencies
    return torch.cat([amplitude * angle.cos(), amplitude * angle.sin()], dim=1)


def load_statistics(path: str | os.PathLike[str]) -> PublishedStatistics:
    """Published statistics, read from the folder that `publish_statistics` wrote and checked.

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        ValueError: the files do not belong together, or hold what they should not.

    Example:
        >>> _ = publish_statistics("runs/teacher", news, "runs/published", clip_norm=3.0, cache_dir=False)
        >>> load_statistics("runs/published").facts["clip_norm"]
        3.0
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"statistics={shown(path)} must be the folder that publish_statistics wrote.")
    folder = Path(path).expanduser()
    for name in (FACTS, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"There is no {name} in {str(folder)!r}: give the folder that publish_statistics wrote, whole."
            )
    again = "Ask the site for the folder again."
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        missing = [name for name in REQUIRED if name not in facts]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / FACTS} is no JSON of facts. {again}") from error
    if missing or facts["format"] != FORMAT:
        what = (
            f"lacks {missing[0]}"
            if missing
            else f"has the format {facts['format']!r}, and this version reads {FORMAT}"
        )
        raise ValueError(f"{folder / FACTS} {what}. {again}")
    content = (folder / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ValueError(f"{folder / TENSORS} is not the file that {FACTS} speaks of (sha256). {again}")
    wrong = _wrong_fact(facts)
    if wrong:
        raise ValueError(f"{folder / FACTS}: {wrong}={shown(facts[wrong])} is not what it has to be. {again}")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{folder / TENSORS} holds no tensors: {first_line(error)}. {again}") from error
    shapes = _shapes(facts)
    for name in shapes:
        if name not in tensors:
            raise ValueError(f"{folder / TENSORS} lacks {name}. {again}")
    for name, tensor in sorted(tensors.items()):
        if name not in shapes:
            raise ValueError(f"{folder / TENSORS} holds {name}, of which {FACTS} says nothing. {again}")
        if tuple(tensor.shape) != shapes[name]:
            raise ValueError(
                f"{folder / TENSORS}: {name} has the shape {tuple(tensor.shape)}, and {shapes[name]} is what {FACTS} "
                f"says. {again}"
            )
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{folder / TENSORS}: {name} is not finite. {again}")
    return PublishedStatistics(tensors, facts)


def _wrong_fact(facts: Mapping[str, Any]) -> str | None:
    """Name of the first fact that is not of its kind."""
    kinds, classes, norm, kernel = (facts[name] for name in ("statistics", "classes", "clip_norm", "kernel"))
    is_named = isinstance(kinds, list) and bool(kinds) and all(kind in list(KINDS) for kind in kinds)
    is_list = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    is_right = {
        "statistics": is_named and len(set(kinds)) == len(kinds),
        "encoder": isinstance(facts["encoder"], str),
        "dimension": type(facts["dimension"]) is int and facts["dimension"] > 0,
        "classes": is_list and len(set(classes)) == len(classes),
        "clip_norm": norm is None or (_is_number(norm) and norm > 0),
        "kernel": isinstance(kernel, dict) and (not is_named or "random_features" not in kinds or _has_terms(kernel)),
    }
    return next((name for name, right in is_right.items() if not right), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _has_terms(kernel: Mapping[str, Any]) -> bool:
    return _is_number(kernel.get("within")) and type(kernel.get("frequencies")) is int


def _shapes(facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that the facts speak of."""
    width, classes, frequencies = facts["dimension"], len(facts["classes"]), facts["kernel"].get("frequencies", 0)
    shapes = {
        "mean": (width,),
        "covariance": (width, width),
        "prototypes": (classes, width),
        "has_prototype": (classes,),
        "random_features": (2 * frequencies,),
        "frequencies": (width, frequencies),
        "amplitude": (frequencies,),
    }
    read = {name for kind in facts["statistics"] for name in KINDS[kind]}
    counted = classes if "prototypes" in facts["statistics"] else 1
    return {"counts": (counted,)} | {name: shape for name, shape in shapes.items() if name in read}


def source_side(settings: Mapping[str, Any], needs: tuple[str, ...]) -> dict[str, str]:
    """Inputs of an objective: without those of source rows where published statistics stand in their place.

    Args:
        settings: of the objective.
        needs: inputs that its `forward` names.
    """
    published = settings.get("statistics") is not None
    return {name: name for name in needs if not (published and name.startswith("source_"))}


def needed(name: str, value: torch.Tensor | None) -> torch.Tensor:
    """Input that this way of reading needs.

    Raises:
        TypeError: it is missing.
    """
    if value is None:
        raise TypeError(f"{name} is missing: only an objective with published statistics does without source rows.")
    return value
