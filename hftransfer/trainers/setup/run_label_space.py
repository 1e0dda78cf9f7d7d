"""Label space of a run, which sources, their evaluation sets and the model's head must share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...data.domain_arguments import is_source_name
from ...data.label_space import LabelSpace, column_names, require_column
from ...data.label_space_resolution import resolve_label_space
from ...data.label_values import has_labels
from ...data.row_origins import visible
from ...models import adapter_folders, pretrained
from ..config import AdaptationConfig
from .run_domains import RunDomains
from .without_source import label_space_of_model


def agree_on_labels(
    domains: RunDomains, model: Any, args: AdaptationConfig, model_kwargs: Mapping[str, Any] | None = None
) -> LabelSpace:
    """Task and classes that all labelled data of a run share.

    In a run on the target alone, they are the model's own.

    Args:
        domains: from `read_domains`.
        model: as the user passed it; a loaded model's head, or an adapter folder, may name classes.
        args: the run's settings.
        model_kwargs: of `from_pretrained`, when `model` is a name.

    Raises:
        ValueError: a source without labels, or labels that do not fit together. The data set and the row are named.
    """
    if not domains.sources:
        return label_space_of_model(model, args.task, model_kwargs)
    label, sources = args.label_column, domains.labelled_sources
    model_names = pretrained.loaded_label_names(model) if isinstance(model, nn.Module) else None
    if isinstance(model, str):
        model_names = adapter_folders.adapter_labels(model)
    for name, source in sources.items():
        require_column(source, label, name)
    return resolve_label_space(
        sources,
        label,
        domains.columns.text.tokens,
        args.task,
        model_names,
        _labelled_evaluation(domains, label),
        args.label_separator,
        args.merge_label_case,
    )


def _labelled_evaluation(domains: RunDomains, label: str) -> dict[str, Any]:
    """Evaluation sets whose labels must agree with the sources'; sources' own sets must have labels."""
    labelled = {}
    for name, dataset in (domains.evaluation or {}).items():
        title = f"eval_dataset[{name!r}]"
        if is_source_name(name, tuple(domains.sources)):
            if label not in column_names(dataset):
                raise ValueError(
                    f"{title} is a source's but has no column {label!r}; its columns are "
                    f"{', '.join(map(repr, visible(column_names(dataset))))}. Say which it is with `label_column`, or "
                    "name the set otherwise if it has no labels."
                )
            labelled[title] = dataset
        elif has_labels(dataset, label, title):
            labelled[title] = dataset
    return labelled
