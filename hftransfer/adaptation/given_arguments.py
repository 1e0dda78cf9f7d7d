"""Arguments of `adapt` as they are passed: what can be known to be wrong before anything is read is refused here."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..messages import shown
from ..selection.rule import SelectionRule
from ..selection.validators import get_validator
from ..settings import read_choice
from ..trainers.config import AdaptationConfig
from .candidate_list import Effort

COUNTS = ("neighbours",)  # thresholds that count rows
MAPS = {
    "test": 'data sets by name, such as {"target": rows, "source": more_rows}',
    "model_kwargs": 'options of from_pretrained, such as {"revision": "main"}',
    "dataset_names": 'names that card and report show, such as {"source": "news", "target": "medical"}',
}


def check_arguments(effort: Any, candidates: Any, rule: Any, args: Any, **maps: Any) -> None:
    """Check of what `adapt` is told besides its data and its model.

    Args:
        effort, candidates, rule, args: as in `adapt`.
        **maps: arguments of `MAPS`.

    Raises:
        TypeError: an argument of another kind.
        ValueError: no such effort, an effort beside a list of candidates, or a rule that no candidates can be judged
            by.
    """
    if args is not None and not isinstance(args, AdaptationConfig):
        raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
    read_choice("effort", effort, Effort)
    if candidates is not None and effort != "standard":
        raise ValueError("effort and candidates are both given: each is a list of candidates. Leave one out.")
    if rule is not None:
        check_rule(rule)
    for name, value in maps.items():
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a dict of {MAPS[name]}, not {type(value).__name__}.")


def check_rule(rule: Any) -> None:
    """Check of a selection rule, so that it does not fail when all is trained.

    Raises:
        TypeError: it is none.
        ValueError: a score that there is none of, no score at all, or a threshold that is no number of at least 0.

    Example:
        >>> check_rule(SelectionRule(clear=3.0))
    """
    if not isinstance(rule, SelectionRule):
        made = f"{rule.__name__} itself: call it" if isinstance(rule, type) else f"{type(rule).__name__}"
        raise TypeError(f"rule must be a SelectionRule, such as SelectionRule(clear=3.0), not {made}.")
    if isinstance(rule.scores, str) or not rule.scores:
        raise ValueError(
            f"rule: scores={shown(rule.scores)} must be a tuple of at least one validator's name, such as "
            f"{SelectionRule().scores[:2]}."
        )
    for name in rule.scores:
        try:
            get_validator(name)
        except (ValueError, TypeError) as error:
            raise ValueError(f"rule: scores: {error}") from error
    check_thresholds(rule)


def check_thresholds(rule: Any) -> None:
    """Check of a rule's numbers.

    Raises:
        ValueError: a threshold that is no number of at least 0, or a count that is no whole number of at least 1.
    """
    for field in dataclasses.fields(rule):
        value, default = getattr(rule, field.name), field.default
        if not isinstance(default, (int, float)):
            continue
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
        if not is_number:
            raise ValueError(f"rule: {field.name}={shown(value)} must be a number of at least 0, such as {default}.")
        if field.name in COUNTS and (value < 1 or value != int(value)):
            raise ValueError(f"rule: {field.name}={shown(value)} must be a whole number of at least 1.")


def check_places(model: Any, folder: Path) -> None:
    """Check that what is handed over does not take the place of the model that candidates start from.

    Raises:
        ValueError: it would.
    """
    if isinstance(model, str) and os.path.isdir(model) and Path(model).resolve() == folder.resolve():
        raise ValueError(
            f"model and output_dir are both {folder}: the model that all candidates start from would be replaced. "
            "Choose another output_dir."
        )


def as_backbone(model: Any) -> Any:
    """The `model` argument, a path as a string.

    Raises:
        TypeError: it is no name, folder or settings. A loaded model is none: what the first candidate made of it would
            be what the second starts from.
    """
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    if isinstance(model, Mapping):
        return dict(model)
    loaded = (
        " A loaded model is changed by the first candidate that trains it: save it with save_pretrained, with its "
        "tokenizer or image processor beside it, and give the folder."
    )
    raise TypeError(
        "model must be a Hub id, a folder, or a dict of settings to make one from scratch, not "
        f"{type(model).__name__}.{loaded if hasattr(model, 'state_dict') else ''}"
    )
