"""Training defaults of `adapt`, where the user names none: a learning rate by the model's width, two epochs."""

from __future__ import annotations

from typing import Any

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


def _hidden_size(model: Any, options: dict[str, Any]) -> int | None:
    if isinstance(model, dict):
        return model.get("hidden_size")
    from transformers import AutoConfig

    from ..models.pretrained import load_quietly

    return getattr(load_quietly(AutoConfig, str(model), **options), "hidden_size", None)
