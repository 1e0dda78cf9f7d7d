"""Domains of `adapt` as they are passed: names that are loaded, or rows; with validation rows held out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.domain_arguments import as_domain, as_sources, by_name, source_label
from ..data.domain_loading import LoadedDomains, load_shift
from ..data.domain_summary import summarize_domain, with_held_out
from ..data.duplicate_rows import find_rows_without_copies
from ..data.hold_out import hold_out
from ..data.label_space import column_names
from ..setting_ranges import read_number
from ..settings import text_keys
from ..trainers.config import AdaptationConfig
from ..trainers.setup.run_domains import input_columns
from .data_requirements import check_map_style, check_target


def load_domains(
    source: Any,
    target: Any,
    validation: Any,
    test: Mapping[str, Any] | None,
    validation_fraction: float,
    args: AdaptationConfig,
) -> LoadedDomains:
    """Domains as data sets: loaded where they are named, with validation rows held out where there are none.

    Args:
        source, target, validation, test, validation_fraction: as in `adapt`.
        args: says which columns are read, and seeds the cut.

    Raises:
        ValueError, TypeError, FileNotFoundError: as `load_shift`; some domains named and others given as rows.

    Example:
        >>> data = load_domains(news, medical, None, None, 0.25, AdaptationConfig("out"))
        >>> len(data.train["source"]), len(data.validation["source"])
        (18, 6)
    """
    domains = _read_domains(source, target, validation, test, validation_fraction, args)
    unknown = next((name for name in domains.test if name not in domains.train and name != "target"), None)
    if unknown is not None:
        raise ValueError(
            f"test is by the names of the sources ({', '.join(domains.train)}) and 'target'; there is no {unknown!r}."
        )
    return domains


def _read_domains(
    source: Any,
    target: Any,
    validation: Any,
    test: Mapping[str, Any] | None,
    validation_fraction: float,
    args: AdaptationConfig,
) -> LoadedDomains:
    if isinstance(source, LoadedDomains):
        if validation is not None or test is not None:
            raise ValueError("source holds validation and test splits of its own: leave validation and test out.")
        check_target(source.target)
        return source
    validation_fraction = read_number("validation_fraction", validation_fraction)
    check_target(target)
    if source is None or (isinstance(source, Mapping) and not source):
        raise ValueError("source is missing: give at least one data set with labels.")
    sources = by_name(source, what="source")
    named = [isinstance(rows, (str, Path)) for rows in (*sources.values(), target)]
    if not all(named):
        if any(named):
            raise TypeError("source and target are names to load, or rows: both of the same kind.")
        return _with_rows(source, target, validation, test, validation_fraction, args)
    if validation is not None:
        raise ValueError("validation is for rows; a named source has a validation split, or is cut for one.")
    return load_shift(
        {name: str(spec) for name, spec in sources.items()},
        str(target),
        validation_fraction,
        args.seed,
        test,
        image_column=args.image_column,
        label_column=args.label_column,
        text_columns=(args.text_column, args.text_pair_column, args.tokens_column),
    )


def _with_rows(
    source: Any,
    target: Any,
    validation: Any,
    test: Mapping[str, Any] | None,
    validation_fraction: float,
    args: AdaptationConfig,
) -> LoadedDomains:
    """Domains from rows; copies of a row stay together in train."""
    label, columns = args.label_column, input_columns(args)
    train = as_sources(source, label, columns.names)
    target = as_domain(target, "target", label, columns.names)
    check_map_style({**{source_label(name): rows for name, rows in train.items()}, "target": target})
    validations = {
        name: as_domain(rows, f"the validation split of {name}", label, columns.names)
        for name, rows in ({} if validation is None else by_name(validation, what="validation")).items()
    }
    unknown = next((name for name in validations if name not in train), None)
    if unknown is not None:
        raise ValueError(f"validation is by the sources' names ({', '.join(train)}); there is no source {unknown!r}.")
    unlabelled = next((name for name, rows in validations.items() if label not in column_names(rows)), None)
    if unlabelled is not None:
        raise ValueError(
            f"the validation split of {unlabelled} has no column {label!r}, and models are judged by it; its columns "
            f"are {', '.join(map(repr, column_names(validations[unlabelled])))}. Rename one, or leave validation out."
        )
    tests = {
        name: as_domain(rows, f"the test split of {name}", label, columns.names)
        for name, rows in text_keys(test or {}, "test").items()
    }
    texts = (columns.text.text, columns.text.text_pair, columns.text.tokens)
    text_columns = [column for column in texts if column]
    cut, summaries = {}, {}
    for name, rows in train.items():
        if name in validations:
            cut[name] = {"train": rows, "validation": validations[name]}
            continue
        free_rows = find_rows_without_copies(train | {"target": target}, name, text_columns, columns.image)
        try:
            cut[name] = hold_out({"train": rows}, validation_fraction, args.seed, label, free_rows)
        except ValueError as error:
            raise ValueError(f"{source_label(name)}: {error}") from error
        summaries[name] = with_held_out(summarize_domain(name, {"train": rows}, {}), cut[name])
    return LoadedDomains(
        train={name: splits["train"] for name, splits in cut.items()},
        target=target,
        validation={name: splits["validation"] for name, splits in cut.items() if "validation" in splits},
        test=tests,
        summaries=summaries,
    )
