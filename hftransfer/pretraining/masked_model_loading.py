"""Loading of models that predict what is masked: by name, where their head may be new, or loaded by the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from transformers import AutoModel

from ..models.adapter_folders import read_adapter_config
from ..models.adapters import is_peft
from ..models.model_file_checks import CONFIG, check_model_files
from ..models.pretrained import load_quietly
from ..models.remote_code import drop_remote_code
from ..models.weight_checks import check_finite, check_only_head_is_new


class MaskedModelClass(NamedTuple):
    """Class of models that predict what is masked.

    Attributes:
        auto: the `AutoModelFor…` class.
        suffix: of the names of its models.
        head: what such models have, in words.
        refuse: the message on a model, by its name, of another family, by that name.
    """

    auto: Any
    suffix: str
    head: str
    refuse: Callable[[str, str], str]


def load_masked_model(
    kind: MaskedModelClass, model: Any, model_kwargs: Mapping[str, Any] | None = None
) -> tuple[Any, str]:
    """A model that predicts what is masked, with the names of its new weights in `fresh_weights`; and its name.

    What the checkpoint holds and such a model does not read, such as a pooler, stays with the model as it is, for the
    models that are made from it later.

    Args:
        kind: of model.
        model: Hub id or folder, or a loaded model of that kind.
        model_kwargs: for `from_pretrained`, when `model` is a name.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        TypeError: `model` is neither a name nor a model.
        ValueError: a family without such a head, an adapter, or weights that are not finite.
    """
    options = dict(model_kwargs or {})
    if isinstance(model, nn.Module):
        _check_loaded(kind, model, options)
        return model, str(getattr(getattr(model, "config", None), "name_or_path", "") or "")
    if isinstance(model, (str, Path)):
        return _load(kind, str(model), options), str(model)
    raise TypeError(f"model must be a Hub id, a folder or a loaded {kind.auto.__name__}, not {type(model).__name__}.")


def _check_loaded(kind: MaskedModelClass, model: Any, options: Mapping[str, Any]) -> None:
    """Check of a model that the user loaded; raises `ValueError`."""
    if options:
        raise ValueError(
            f"model_kwargs ({', '.join(options)}) says how a model is loaded, and this one is. Leave it out."
        )
    title = f"This {type(model).__name__}"
    if is_peft(model) or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(f"{title} carries an adapter already: pass the plain model, and peft_config for a new one.")
    if not type(model).__name__.endswith(kind.suffix):
        raise ValueError(
            f"{title} has no {kind.head}. Pass the checkpoint's name or folder instead of a model, or load it with "
            f"`{kind.auto.__name__}`."
        )
    check_finite(model, title)
    drop_remote_code(model, title)
    if not hasattr(model, "fresh_weights"):
        model.fresh_weights = ()


def _load(kind: MaskedModelClass, name: str, options: dict[str, Any]) -> Any:
    """A model by Hub id or folder, with a head that may be new."""
    folder, revision = Path(name).expanduser(), options.pop("revision", None)
    options.setdefault("trust_remote_code", False)
    if read_adapter_config(name, revision) is not None:
        raise ValueError(
            f"{name} is an adapter. Merge it into its model first (`merge_and_unload()`), and pass the merged model."
        )
    if (folder / CONFIG).is_file():
        check_model_files(folder, options["trust_remote_code"])
    try:
        model, info = load_quietly(kind.auto, name, revision, output_loading_info=True, **options)
    except ValueError as error:
        family = re.search(r"configuration class <class '[\w.]*\.(\w+?)(Config)?'>", str(error))
        if family is None:
            raise
        raise ValueError(kind.refuse(repr(name), family[1])) from error
    if not folder.is_dir():  # it may have come from a copy: cards say the Hub id
        model.name_or_path = model.config.name_or_path = name
    new = check_only_head_is_new(model, info, repr(name))
    masks = (key for key in info["missing_keys"] if key.endswith("mask_token"))  # no other model reads one
    model.fresh_weights = tuple(sorted({*new, *masks}))
    _keep_unread_modules(model, info["unexpected_keys"], name, revision, options)
    return model


def _keep_unread_modules(model: Any, unread: Any, name: str, revision: str | None, options: Mapping[str, Any]) -> None:
    """Parts of the backbone that a masked model is made without (a pooler), put back as they were."""
    backbone = getattr(model, "base_model", None)
    if backbone is None or backbone is model:
        return
    prefix = f"{model.base_model_prefix}."
    parts = {key.removeprefix(prefix).split(".")[0] for key in unread}
    parts = {part for part in parts if part in vars(backbone) | backbone._modules and getattr(backbone, part) is None}
    if not parts:
        return
    whole = load_quietly(AutoModel, name, revision, **options)
    for part in sorted(parts):
        module = getattr(whole, part, None)
        if isinstance(module, nn.Module):
            setattr(backbone, part, module.requires_grad_(False))
