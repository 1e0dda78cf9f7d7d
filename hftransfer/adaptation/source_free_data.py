"""Data and settings of a source-free adaptation: the target alone, and what its run cannot follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..data.domain_arguments import as_domain
from ..data.domain_loading import LoadedDomains, load_shift
from ..data.encoder import find_modality
from ..reporting.tables import print_facts
from ..trainers.config import AdaptationConfig
from ..trainers.setup.run_domains import input_columns
from .data_requirements import check_map_style, check_target_size
from .training_defaults import training_defaults

EPOCHS = {"text": 5.0, "image": 10.0}
ROWS = 64  # of a batch, in which class frequencies are counted; as SHOT's authors have it
METHODS = {
    "shot": "information maximisation and centroid pseudo-labels; the classifier stays frozen",
    "shot_im": "information maximisation; the classifier stays frozen",
}
RATE = 0.5  # of a fine-tuning rate, for a model that is trained already
OF_THE_METHOD = "the method says what is learned; SourceFreeTrainer takes objectives of your own"
REFUSED = {
    "objectives": OF_THE_METHOD,
    "label_shift": "class frequencies are estimated from the source's numbers, after training",
    "adabn": OF_THE_METHOD,
    "reveal_target_labels": "no target label is read here",
    "allow_oracle_selection": "nothing is chosen by target labels here",
    "resume_from_checkpoint": "the same command goes on by itself where it was stopped",
    "load_best_model_at_end": "there is nothing to choose a checkpoint by without labels; the last one is judged",
    "merge_adapter": "what is handed over is a plain model",
    "source_weights": "no source row is read",
    "class_weights": "no source row is read",
    "teacher": OF_THE_METHOD,
}


def check_source_free_settings(args: AdaptationConfig) -> None:
    """Check of the settings of a source-free adaptation.

    Raises:
        ValueError: one that it cannot follow.
    """
    defaults = {field.name: field.default for field in fields(args)}
    for name, reason in REFUSED.items():
        value = getattr(args, name)
        if value not in (None, False, 0) and value != defaults[name]:
            raise ValueError(f"{name} cannot be set here: {reason}.")
    if args.merge_adapter is False:
        raise ValueError(f"merge_adapter=False cannot be followed: {REFUSED['merge_adapter']}.")


def load_target(target: Any, test: Any, args: AdaptationConfig) -> LoadedDomains:
    """Target and its test rows as data sets.

    Args:
        target: rows, or a name to load; `LoadedDomains` as they are.
        test: labelled target rows, or `None`.
        args: says which columns are read.

    Raises:
        ValueError, TypeError, FileNotFoundError: as `load_shift`; no target, a stream, or too few rows.
    """
    if isinstance(target, LoadedDomains):
        if test is not None:
            raise ValueError("target holds a test split of its own: leave test out.")
        data = target
    elif isinstance(target, (str, Path)):
        data = load_shift(
            {},
            str(target),
            0.0,
            args.seed,
            image_column=args.image_column,
            label_column=args.label_column,
            text_columns=(args.text_column, args.text_pair_column, args.tokens_column),
        )
    else:
        data = LoadedDomains({}, target, {}, {})
    if data.target is None:
        raise ValueError("There is no target: source-free adaptation learns from unlabelled target rows. Give some.")
    names, label = input_columns(args).names, args.label_column
    rows = as_domain(data.target, "target", label, names)
    check_map_style({"target": rows}, "adapt-source-free", "")
    check_target_size(len(rows), "use the source model as it is")
    tests = {name: split for name, split in data.test.items() if name == "target"}
    if test is not None:
        tests = {"target": as_domain(test, "test", label, names)}
        if label not in tests["target"].column_names:
            raise ValueError(f"test has no column {label!r}, so it shows nothing. Leave it out, or name the column.")
    return LoadedDomains({}, rows, {}, tests, data.summaries)


def print_source_free_plan(
    model: Any, data: LoadedDomains, args: AdaptationConfig, method: str = "shot", predictions: Any = None
) -> None:
    """Plan of a source-free adaptation, printed.

    Args:
        model, method, predictions: as in `adapt_source_free`.
        data: the target, from `load_shift`.
        args: the settings, with their defaults.

    Example:
        >>> print_source_free_plan("runs/teacher", load_shift({}, "sample"), AdaptationConfig("out"))
    """
    rows = len(data.target) if data.target is not None and hasattr(data.target, "__len__") else 0
    start = model if isinstance(model, str) else "settings of one from scratch"
    facts = {
        "student's backbone" if predictions is not None else "start model": start,
        "learns from": METHODS[method] if predictions is None else f"the answers in {predictions}, mixup and im",
        "target": f"{rows:,} rows, labels unread",
        "source": "none is read",
        "learning rate": f"{args.learning_rate:g}",
        "epochs": f"{args.num_train_epochs:g}" if args.max_steps <= 0 else f"{args.max_steps} steps",
        "batch": f"{args.per_device_train_batch_size} target rows a device",
        "saved to": str(args.output_dir),
    }
    print_facts(facts, "Plan")


def with_source_free_defaults(
    args: AdaptationConfig,
    given: Collection[str],
    model: Any,
    data: LoadedDomains,
    from_predictions: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
) -> AdaptationConfig:
    """Settings of a source-free run with defaults for what the user did not name.

    Half of a fine-tuning rate for a model that is trained already, the whole of it for a student; five epochs of text
    or ten of images; 64 rows a batch.

    Args:
        args: the settings.
        given: names of those that the user gave, such as `RecipeParser.given`.
        model, model_kwargs: as in `adapt_source_free`.
        data: from `load_target`.
        from_predictions: a student learns from predictions.

    Example:
        >>> data = load_shift({}, "sample")
        >>> with_source_free_defaults(AdaptationConfig("out"), (), "runs/teacher", data).num_train_epochs
        5.0
    """
    modality = find_modality({"target": data.target}, input_columns(args))
    options = {k: v for k, v in (model_kwargs or {}).items() if k in ("revision", "trust_remote_code")}
    rate = training_defaults(model, modality, **options)["learning_rate"]
    defaults: dict[str, Any] = {
        "learning_rate": rate if from_predictions else RATE * rate,
        "num_train_epochs": EPOCHS[modality],
        "per_device_train_batch_size": ROWS,
    }
    return dataclasses.replace(args, **{name: value for name, value in defaults.items() if name not in given})
