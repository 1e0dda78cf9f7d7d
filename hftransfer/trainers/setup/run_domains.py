"""Domains of a run: sources, target and evaluation sets, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...data.domain_arguments import as_domain, as_sources, by_name, source_label
from ...data.encoder import InputColumns, Modality, find_modality, refuse_options, refuse_task
from ...data.text_encoder import TextColumns
from ...data.weight_column import NO_COLUMN, WEIGHT, find_weight_column
from ..config import AdaptationConfig
from .without_source import check_without_source


@dataclass(frozen=True)
class RunDomains:
    """Checked data sets of a run, not encoded yet.

    Args:
        sources: labelled domains by name; none in a run on the target alone.
        target: the unlabelled domain; `None` without.
        evaluation: evaluation sets by name; `None` without.
        columns: where inputs and labels are.
        modality: what the rows are made of.
        weight_column: where weights of source rows are; `None` without.
    """

    sources: dict[str, Any]
    target: Any | None
    evaluation: dict[str, Any] | None
    columns: InputColumns
    modality: Modality
    weight_column: str | None = None

    @property
    def labelled_sources(self) -> dict[str, Any]:
        """Sources by their names in messages."""
        return {source_label(name): source for name, source in self.sources.items()}


def read_domains(args: AdaptationConfig, train_dataset: Any, target_dataset: Any, eval_dataset: Any) -> RunDomains:
    """The user's data sets, checked against each other and against the settings.

    Args:
        args: the run's settings.
        train_dataset, target_dataset, eval_dataset: as `AdaptationTrainer` takes them.

    Raises:
        ValueError, TypeError: a domain is missing, empty or of another kind, a column is not there, or settings ask
            for what these data cannot do.
    """
    columns = input_columns(args)
    if train_dataset is None and target_dataset is not None:
        check_without_source(args, target_dataset)
        sources = {}
    else:
        sources = as_sources(train_dataset, args.label_column, columns.names)
    if target_dataset is None:
        _check_no_target_needed(args)
    else:
        if any(target_dataset is source for source in by_name(train_dataset).values() if source is not None):
            raise ValueError(
                "target_dataset is the same object as a source: there is nothing to adapt to. Pass the rows of the "
                "other domain, or leave both target_dataset and objectives out."
            )
        target_dataset = as_domain(target_dataset, "target_dataset", args.label_column, columns.names)
    evaluation = _checked_evaluation(eval_dataset, columns)

    training = {source_label(name): source for name, source in sources.items()}
    targets = {} if target_dataset is None else {"target_dataset": target_dataset}
    weight_column = find_weight_column(args.weight_column, training, targets, sorted(columns.input_names))
    training |= targets
    _check_streams(args, training)
    evaluated = {f"eval_dataset[{name!r}]": dataset for name, dataset in (evaluation or {}).items()}
    modality = find_modality(training | evaluated, columns)
    refuse_options(modality, vars(args))
    refuse_task(modality, args.task)
    return RunDomains(sources, target_dataset, evaluation, columns, modality, weight_column)


def input_columns(args: AdaptationConfig) -> InputColumns:
    """Columns that the settings name, or their defaults."""
    text = TextColumns(args.text_column or "text", args.text_pair_column, args.tokens_column, args.label_column)
    weight = None if args.weight_column == NO_COLUMN else args.weight_column or WEIGHT
    return InputColumns(text, args.image_column, bool(args.text_column or args.text_pair_column), weight)


def _check_no_target_needed(args: AdaptationConfig) -> None:
    """Check against settings that read target rows, in a run without any; raises `ValueError`."""
    readers = [spec.name for spec in args.objective_specs() if spec.weight and spec.reads_target]
    if readers:
        raise ValueError(
            f"target_dataset is missing: {', '.join(readers)} need{'s' * (len(readers) == 1)} unlabelled target rows. "
            "Pass one, or leave `objectives` empty to train on the source alone."
        )
    if args.reveal_target_labels:
        raise ValueError(
            f"reveal_target_labels={args.reveal_target_labels} but target_dataset is missing: pass one, or leave it 0."
        )


def _checked_evaluation(eval_dataset: Any, columns: InputColumns) -> dict[str, Any] | None:
    """Evaluation sets by name; a single one is the source's."""
    if eval_dataset is None:
        return None
    label, needed = columns.text.label, columns.names
    return {
        name: as_domain(dataset, f"eval_dataset[{name!r}]", label, needed)
        for name, dataset in by_name(eval_dataset, what="eval_dataset").items()
    }


def _check_streams(args: AdaptationConfig, training: Mapping[str, Any]) -> None:
    """Check of settings that streams cannot follow; raises `ValueError`."""
    stream_name = next((name for name, dataset in training.items() if not hasattr(dataset, "__len__")), None)
    if stream_name is None:
        return
    if args.max_steps <= 0:
        raise ValueError(f"{stream_name} is a stream, which has no length to count epochs by: set max_steps.")
    workers = args.dataloader_num_workers
    for name, dataset in training.items():
        shards = 1 if hasattr(dataset, "__len__") else getattr(dataset, "num_shards", workers)
        if workers > shards:
            raise ValueError(
                f"dataloader_num_workers={workers}, but {name} is read in {shards} shard(s), which workers share "
                f"out: set dataloader_num_workers to {shards} at most."
            )
