"""Training defaults of `adapt`, where the user names none: a learning rate by the model's width, two epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..data.encoder import find_modality
from ..trainers.setup.run_domains import input_columns

if TYPE_CHECKING:
    from ..data.domain_loading import LoadedDomains
    from ..trainers.config import AdaptationConfig

BASE_RATE, BASE_WIDTH = 2e-4, 384  # of MiniLM
SMALLEST_RATE = 1e-5
IMAGE_RATE = 5e-4
ADAPTER_RATE = 1e-3
EPOCHS, IMAGE_EPOCHS = 2.0, 5.0


def training_defaults(model: Any, modality: str = "text", adapter: bool = False, **options: Any) -> dict[str, float]:
    r"""Learning rate and epochs for a backbone.

    Text: \(2\cdot10^{-4}\,(384/d)^2\) with d the hidden size, no more than for MiniLM and at least 1e-5: wide models
    break at rates that narrow ones need.

    Args:
        model: Hub id, folder, or settings of a model from scratch.
        modality: `"text"` or `"image"`.
        adapter: LoRA-style partial transfer.
        **options: of `from_pretrained`.

    Returns:
        `learning_rate` and `num_train_epochs`.

    Example:
        >>> training_defaults({"hidden_size": 768})
        {'learning_rate': 5e-05, 'num_train_epochs': 2.0}
    """
    epochs = IMAGE_EPOCHS if modality == "image" else EPOCHS
    if adapter:
        return {"learning_rate": ADAPTER_RATE, "num_train_epochs": epochs}
    if modality == "image":
        return {"learning_rate": IMAGE_RATE, "num_train_epochs": epochs}
    width = _hidden_size(model, options)
    rate = BASE_RATE if width is None else min(BASE_RATE, max(SMALLEST_RATE, BASE_RATE * (BASE_WIDTH / width) ** 2))
    return {"learning_rate": float(f"{rate:.2g}"), "num_train_epochs": epochs}


def with_training_defaults(
    args: AdaptationConfig,
    given: Collection[str],
    model: Any,
    data: LoadedDomains,
    peft_config: Any = None,
    model_kwargs: Any = None,
) -> AdaptationConfig:
    """Settings of a run with `training_defaults` for what the user did not name.

    Args:
        args: the settings.
        given: names of those that the user gave, such as `RecipeParser.given`.
        model, peft_config, model_kwargs: as in `adapt`.
        data: the domains.

    Example:
        >>> data = load_shift({"source": "sample"}, "sample")
        >>> args = AdaptationConfig("out", num_train_epochs=1)
        >>> args = with_training_defaults(args, {"num_train_epochs"}, {"hidden_size": 768}, data)
        >>> args.learning_rate, args.num_train_epochs
        (5e-05, 1)
    """
    modality = find_modality({**data.train, "target": data.target}, input_columns(args))
    options = {k: v for k, v in (model_kwargs or {}).items() if k in ("revision", "trust_remote_code")}
    defaults = training_defaults(model, modality, peft_config is not None, **options)
    changed: dict[str, Any] = {name: value for name, value in defaults.items() if name not in given}
    return dataclasses.replace(args, **changed)


def _hidden_size(model: Any, options: dict[str, Any]) -> int | None:
    if isinstance(model, dict):
        return model.get("hidden_size")
    from transformers import AutoConfig

    from ..models.pretrained import load_quietly

    return getattr(load_quietly(AutoConfig, str(model), **options), "hidden_size", None)
