"""Ingredients of a weight average: trained models by folder, brought to one class, with the same names of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from .label_maps import label_maps, label_names
from .model_structure import backbone_prefix
from .pretrained import load_processing, load_quietly

ADAPTER = "adapter_config.json"
# Says how a model is trained or called, not what it computes of its weights.
HARMLESS = {
    *PreTrainedConfig().to_dict(),
    "_name_or_path",
    "model_type",
    "initializer_range",
    "use_cache",
    "hftransfer",
}
TASK_TYPES = {"SEQ_CLS": "AutoModelForSequenceClassification", "TOKEN_CLS": "AutoModelForTokenClassification"}


@dataclass(frozen=True)
class Ingredient:
    """A trained model on disk whose tensors are read when they are asked for.

    Args:
        name: how it is called in tables.
        file: its tensors, by the names that the live model has for them.
        fresh: names of what the checkpoint lacked (a head that was new when training began).
    """

    name: str
    file: Path
    fresh: frozenset[str] = field(default=frozenset())

    def read(self, name: str) -> torch.Tensor:
        """One tensor; the rest stays on disk."""
        with safe_open(str(self.file), "pt") as tensors:
            return tensors.get_tensor(name)


def plain_class(path: str) -> type:
    """Class of the model that a checkpoint holds, or that its adapter belongs to.

    Raises:
        ValueError: the config names none that transformers has, or one without a head.
    """
    if is_adapter_folder(path):
        config = adapter_config(path)
        mapped = (config.get("auto_mapping") or {}).get("base_model_class")
        class_names = [name for name in (mapped, TASK_TYPES.get(str(config.get("task_type")))) if name]
    else:
        class_names = load_quietly(AutoConfig, path).architectures or []
    model_class = getattr(transformers, class_names[0], None) if class_names else None
    if model_class is None or not class_names[0].endswith("Classification"):
        raise ValueError(
            f"{path}: {class_names[0] if class_names else 'a config that names no class'} is no classifier of "
            "transformers. Give "
            "folders that training has saved."
        )
    return model_class


def is_adapter_folder(path: str) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (Path(path).expanduser() / ADAPTER).is_file()


def load_with_head(path: str, cls: type, names: Sequence[str], dtype: str | None = None) -> tuple[Any, set[str]]:
    """A plain checkpoint as `cls` with a head for `names`, and the names of the weights that it lacked."""
    options: dict[str, Any] = {
        "num_labels": len(names),
        **label_maps(names),
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
        "trust_remote_code": False,
        "dtype": dtype or "auto",
    }
    model, loading_info = load_quietly(cls, path, **options)
    return model, {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}


def load_ingredient(
    path: str, cls: type, names: Sequence[str], dtype: str | None = None, strict: bool = True
) -> tuple[nn.Module, frozenset[str]]:
    """A checkpoint as a plain model of class `cls` with a head for `names`; a PEFT folder is merged.

    Args:
        path: folder or Hub id.
        cls: from `plain_class`.
        names: label names in order.
        dtype: of the weights; the checkpoint's own when `None`.
        strict: refuse a checkpoint that lacks weights.

    Returns:
        The model in eval mode, and the names of the weights that the checkpoint lacked.

    Raises:
        ValueError: it lacks weights and `strict` is on.
        FileNotFoundError: as `load_model`.
    """
    adapter = is_adapter_folder(path)
    model, missing_weights = load_with_head(_base_name(path) if adapter else path, cls, names, dtype)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, path)
        saved_modules = [
            name for name, module in model.get_base_model().named_modules() if hasattr(module, "modules_to_save")
        ]
        missing_weights = {
            key for key in missing_weights if not key.startswith(tuple(f"{name}." for name in saved_modules))
        }
        model = model.merge_and_unload().requires_grad_(True)  # PEFT froze it; it is a model like any other now
    if strict and missing_weights:
        raise ValueError(
            f"{path} lacks weights of {cls.__name__} for {len(names)} labels: {', '.join(sorted(missing_weights))}."
        )
    return model.eval(), frozenset(missing_weights)


def write_ingredient(name: str, model: nn.Module, folder: Path, fresh: frozenset[str] = frozenset()) -> Ingredient:
    """A model's tensors on disk, under the names that the model has for them. What `save_pretrained` writes may go by
    older names, and a checkpoint of the bare backbone lacks a prefix; so folders are not read directly."""
    file = folder / f"{len(list(folder.iterdir()))}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in saved_tensors(model).items()}, str(file))
    return Ingredient(name, file, fresh)


def saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, tied ones once, and the buffers that are saved, by name."""
    saved = set(model.state_dict())
    return dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in saved}


def check_same_architecture(first: Any, other: Any, other_path: str, first_path: str) -> None:
    """Check that two models compute the same function of their weights.

    Raises:
        ValueError: they differ in class, in settings, or in names, shapes or dtype of their weights.
    """
    if type(first) is not type(other):
        raise ValueError(
            f"{other_path} is a {type(other).__name__}, {first_path} a {type(first).__name__}: only models of one "
            "architecture can be averaged."
        )
    first_config, other_config = first.config.to_dict(), other.config.to_dict()
    for key in sorted(set(first_config) & set(other_config) - HARMLESS):
        if first_config[key] != other_config[key] and "drop" not in key and not key.endswith("token_id"):
            raise ValueError(
                f"{other_path} and {first_path} differ in {key} ({other_config[key]!r} and {first_config[key]!r}): "
                "only models of one "
                "architecture can be averaged."
            )
    first_tensors, other_tensors = saved_tensors(first), saved_tensors(other)
    for key in sorted(set(first_tensors) | set(other_tensors)):
        if (
            key not in first_tensors
            or key not in other_tensors
            or first_tensors[key].shape != other_tensors[key].shape
        ):
            shapes = [tuple(x[key].shape) if key in x else "missing" for x in (other_tensors, first_tensors)]
            raise ValueError(f"{other_path} and {first_path} differ in {key}: {shapes[0]} and {shapes[1]}.")
        if first_tensors[key].dtype != other_tensors[key].dtype:
            raise ValueError(
                f"{other_path} holds {other_tensors[key].dtype} weights, {first_path} {first_tensors[key].dtype}: "
                "say in which they are averaged, "
                'with `dtype="float32"` for instance.'
            )


def check_same_labels(
    names: Sequence[str], other_names: Sequence[str] | None, other_path: str, first_path: str
) -> None:
    """Check that two heads have the same labels in the same order. Raises a `ValueError`."""
    if other_names is None or tuple(other_names) == tuple(names):
        return
    same_names = set(other_names) == set(names)
    raise ValueError(
        f"{other_path} and {first_path} have {'the same labels in another order' if same_names else 'other labels'}: "
        f"{', '.join(other_names)}; {', '.join(names)}. "
        + ("Train them with one order of labels." if same_names else "Only models of the same labels can be averaged.")
    )


def folder_labels(path: str) -> tuple[str, ...] | None:
    """Label names of a folder; `None` for an adapter, whose folder has none."""
    if is_adapter_folder(path):
        return None
    return label_names(load_quietly(AutoConfig, path))


def other_labels_head(start: str, model: Any, names: Sequence[str], first_path: str) -> frozenset[str]:
    """Names of the start's head weights, where that head is for other labels.

    Raises:
        ValueError: it is for the same labels in another order.
    """
    if is_adapter_folder(start) or not (load_quietly(AutoConfig, start).architectures or [""])[0].endswith(
        "Classification"
    ):
        return frozenset()
    start_labels = folder_labels(start)
    stock = start_labels is None or all(name == f"LABEL_{i}" for i, name in enumerate(start_labels))
    if start_labels is None or stock or tuple(start_labels) == tuple(names):
        return frozenset()
    if set(start_labels) == set(names):
        check_same_labels(names, start_labels, start, first_path)
    backbone = f"{backbone_prefix(model)}."
    return frozenset(name for name, _ in model.named_parameters() if not name.startswith(backbone))


def load_processor(path: str, model: Any) -> Any | None:
    """Tokenizer or image processor of a folder; `None` when there is none."""
    is_text = model.main_input_name == "input_ids"
    folder = Path(path).expanduser()
    processor_files = (
        ("tokenizer_config.json", "tokenizer.json", "vocab.txt") if is_text else ("preprocessor_config.json",)
    )
    if folder.is_dir() and not any((folder / file).is_file() for file in processor_files):
        return None
    return load_processing(path, modality="text" if is_text else "image")


def check_same_processing(first: Any, other: Any, other_path: str, first_path: str) -> None:
    """Check that two folders turn the same input into the same numbers. Raises a `ValueError`."""
    if first is None or other is None:
        return
    is_text = hasattr(first, "get_vocab")
    is_same = first.get_vocab() == other.get_vocab() if is_text else _settings(first) == _settings(other)
    if not is_same:
        raise ValueError(
            f"The {'tokenizers' if is_text else 'image processors'} of {other_path} and {first_path} differ: the "
            "same input is "
            "not the same to both models, and their average would fit neither."
        )


def _settings(processor: Any) -> Mapping[str, Any]:
    return {k: v for k, v in processor.to_dict().items() if k not in ("image_processor_type", "_processor_class")}


def _base_name(path: str) -> str:
    """Folder or Hub id of an adapter's base."""
    base = adapter_config(path).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{path} is an adapter that does not say of which model. Save it merged (merge_adapter=True)."
        )
    return base


def adapter_config(path: str) -> dict[str, Any]:
    """The config that PEFT wrote of an adapter."""
    return json.loads((Path(path).expanduser() / ADAPTER).read_text(encoding="utf-8"))
