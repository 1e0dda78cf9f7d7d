"""Model of a trainer: the one that is passed, or a new one of `model_init`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Trial

    from ..argument_types import Model


def call_model_init(model_init: Callable[..., Model], trial: Trial | None = None) -> Model:
    """New model of a `model_init`, which takes no argument or the trial, as in transformers.

    Args:
        model_init: as the user passed it. It is called with the trial if its first argument has no default, or is
            called `trial`.
        trial: of optuna; `None` outside a search.

    Raises:
        TypeError: it needs more than a trial.
        ValueError: it gives none.
    """
    try:
        parameters = list(inspect.signature(model_init).parameters.values())
    except (TypeError, ValueError):  # a class written in C
        parameters = []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_trial = bool(positional) and (positional[0].name == "trial" or positional[0].name in needed)
    if set(needed) - {p.name for p in positional[:1]}:
        raise TypeError(
            "model_init must be a function without arguments, or of a trial alone; this one needs "
            f"{', '.join(needed)}."
        )
    model = model_init(trial) if takes_trial else model_init()
    if model is None:
        raise ValueError("model_init gives None; it must return a model, or the name of one.")
    return model


def initial_model(model: Model | None, model_init: Callable[..., Model] | None) -> Model | None:
    """Model that a trainer is made with: the one that is passed, or a new one of `model_init`.

    Raises:
        ValueError: both a model and a function that makes one.
    """
    if model is not None and model_init is not None:
        raise ValueError("model and model_init are both given: pass one of them.")
    return model if model_init is None else call_model_init(model_init)
