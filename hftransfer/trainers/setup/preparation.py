"""From what a user passes to what a step needs: labels agreed on, targets masked, rows encoded, a tapped model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...data.collation import AdaptationCollator
from ...data.domains import as_domain, as_sources, by_name, source_label
from ...data.encoding import (
    Encoder,
    InputColumns,
    encode_target,
    find_modality,
    make_encoder,
    refuse_options,
    refuse_task,
)
from ...data.label_sets import resolve_label_space
from ...data.label_values import has_labels
from ...data.labels import LabelSpace, column_names, require_column
from ...data.marks import mark_of
from ...data.masking import mask_target_labels, reveal_labels
from ...data.origins import visible
from ...data.pairing import PairedDataset
from ...data.streaming import PairedStream
from ...data.text import WORD_MASK, TextColumns, TextEncoder, without_readings
from ...models import adapter_folders, adapters, loaded_weights, loading, policy, trainable
from ...models.feature_hook import Head, find_head, freeze_idle
from ...models.layer_hook import HEAD, layer_widths
from ...models.processing import fit_processing, longest_input
from ...models.remote_code import drop_remote_code
from ...models.scratch import fresh_model, fresh_processing
from ..config import AdaptationConfig
from ..teachers.tokenization import teacher_readings
from .adapter_setup import head_of, merges_on_save
from .batch_norm import prepare_batch_norm

logger = logging.getLogger(__name__)
FULL_RATE = 5e-5  # TrainingArguments' own default


@dataclass
class Prepared:
    """Everything a trainer needs, checked."""

    model: Any
    encoder: Encoder
    head: Head
    space: LabelSpace
    train: PairedDataset | PairedStream
    evaluation: dict[str, Any] | None
    source_names: tuple[str, ...]
    collator: AdaptationCollator
    policy: policy.PolicyReport
    columns: InputColumns
    feature_widths: dict[str, int]  # by place in the model
    readings: dict[int, TextEncoder] = field(default_factory=dict)  # of teachers with another tokenizer, by number
    merges: bool = False  # what is saved is the adapter merged into a plain model

    @property
    def processing_class(self) -> Any:
        """The tokenizer or image processor, which is saved beside the model."""
        return self.encoder.processing_class

    @property
    def label_column(self) -> str:
        return self.columns.text.label

    def encode_evaluation(self, dataset: Any, name: str) -> Any:
        """Encodes a raw evaluation set; one that `encode` made is returned as it is.

        Raises:
            ValueError, TypeError: it cannot be read, holds a class that is not trained, or was encoded by a run with
                other labels or another tokenizer. The row is named.
        """
        mark = mark_of(dataset)
        if mark == self.encoder.mark:
            return dataset
        if mark is not None:
            raise ValueError(
                f"{name} was encoded by a run with other labels or another tokenizer. Pass its rows as they were."
            )
        label = self.label_column
        dataset = as_domain(dataset, name, label, self.columns.names)
        return self.encoder.encode(dataset, name, label if has_labels(dataset, label, name) else None)


def prepare(
    model: Any,
    args: AdaptationConfig,
    train_dataset: Any,
    target_dataset: Any,
    eval_dataset: Any,
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> Prepared:
    """Checks and prepares a run. See `AdaptationTrainer` for the arguments.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with them, before anything is trained or written.
    """
    columns = _columns(args)
    sources = as_sources(train_dataset, args.label_column, columns.names)
    wanting = [spec.name for spec in args.objective_specs() if spec.weight and spec.reads_target]
    if target_dataset is None and wanting:
        raise ValueError(
            f"target_dataset is missing: {', '.join(wanting)} need{'s' * (len(wanting) == 1)} unlabelled target rows. "
            "Pass one, or leave `objectives` empty to train on the source alone."
        )
    if target_dataset is None and args.reveal_target_labels:
        raise ValueError(
            f"reveal_target_labels={args.reveal_target_labels} but target_dataset is missing: pass one, or leave it 0."
        )
    given = by_name(train_dataset).values()
    if target_dataset is not None:
        if any(target_dataset is source for source in given):
            raise ValueError(
                "target_dataset is the same object as a source: there is nothing to adapt to. Pass the rows of the "
                "other domain, or leave both target_dataset and objectives out."
            )
        target_dataset = as_domain(target_dataset, "target_dataset", args.label_column, columns.names)
    evaluation = _named_evaluation(eval_dataset, columns)
    _check_streams(args, {**{source_label(n): s for n, s in sources.items()}, "target_dataset": target_dataset})

    modality = find_modality(_by_name(sources, target_dataset, evaluation), columns)
    refuse_options(modality, vars(args))
    refuse_task(modality, args.task)
    model = os.fspath(model) if isinstance(model, os.PathLike) else model
    kinds: Any = (str, torch.nn.Module, Mapping)
    if not isinstance(model, kinds):
        raise TypeError(
            "model must be a Hub id, a folder or a loaded model, or a dict of settings to make one from scratch, not "
            f"{type(model).__name__}."
        )
    model_names = loading.head_names(model) if isinstance(model, torch.nn.Module) else None
    if isinstance(model, str):
        model_names = adapter_folders.adapter_labels(model)
    label = args.label_column
    labelled = {source_label(name): source for name, source in sources.items()}
    for where, source in labelled.items():
        require_column(source, label, where)
    space = resolve_label_space(
        labelled,
        label,
        columns.text.tokens,
        args.task,
        model_names,
        _labelled(evaluation, label, sources),
        args.label_separator,
        args.merge_label_case,
    )

    model, processing = _load(model, args, space, modality, processing_class, dict(model_kwargs or {}), peft_config)
    encoder = make_encoder(
        modality,
        processing,
        space,
        columns,
        longest_input(processing, model, modality, args.max_length),
        args.augment,
        args.augment_flip,
        args.seed if args.data_seed is None else args.data_seed,
    )
    readings = teacher_readings(args, encoder)
    training = encoder.beside(readings) if isinstance(encoder, TextEncoder) else encoder
    encoded = {name: training.encode(part, source_label(name), label) for name, part in sources.items()}
    target = None
    if target_dataset is not None:
        if args.reveal_target_labels:
            target_dataset = reveal_labels(
                target_dataset, args.reveal_target_labels, label_column=label, seed=args.seed
            )
        target = encode_target(training, mask_target_labels(target_dataset, label), "target_dataset")

    stream = any(
        not hasattr(part, "__len__") for part in [*encoded.values(), *([target] if target is not None else [])]
    )
    train: PairedDataset | PairedStream
    if stream:
        seed = args.seed if args.data_seed is None else args.data_seed
        size = args.per_device_train_batch_size
        train = PairedStream(encoded, target, args.target_ratio, size, seed, draws=encoder.draws)
    else:
        train = PairedDataset(encoded, target, encoder.draws)

    collator = AdaptationCollator(training, space, _wants_two_views(args), args.forward_by_domain)
    prepare_batch_norm(model, args, target, peft_config is not None)
    head = head_of(model, _probe(encoded, collator))
    if args.freeze != "none" and (peft_config is not None or adapters.is_peft(model)):
        raise ValueError(f"The adapter decides what moves; leave freeze at 'none' (it is {args.freeze!r}).")
    if peft_config is not None:
        if adapters.is_peft(model):
            raise ValueError("The model is PEFT-wrapped already; pass a peft_config or a wrapped model, not both.")
        trainable.check_adapter_config(model, peft_config, head)
        model = adapters.attach_adapter(model, peft_config, head, _probe(encoded, collator))
        head = find_head(model, _probe(encoded, collator))
        moved = policy.report(model, peft_config.peft_type.value.lower())
    elif args.freeze == "none":
        moved = policy.report(model, "none")  # a model that its user froze in part stays so
    else:
        rows = None if stream else sum(map(len, encoded.values())) + args.reveal_target_labels * len(space.names)
        moved = policy.apply_policy(model, args.freeze, head, rows)
    if freeze_idle(model, head):
        moved = policy.report(model, moved.policy, moved.notes)
    trainable.check_something_moves(model)
    loaded_weights.check_precision(model, "The model")
    if adapters.is_peft(model):
        trainable.check_adapted_head(model, head, on_purpose=not args.task_weight)
    merges = merges_on_save(model, args, peft_config)
    for note in moved.notes:
        logger.warning("freeze: %s", note)
    if adapters.is_peft(model) and args.learning_rate <= FULL_RATE:
        logger.warning("learning_rate=%g suits whole models and is low for an adapter: try 1e-3.", args.learning_rate)

    places = {spec.features for spec in args.objective_specs()}
    widths = {HEAD: head.in_features} | layer_widths(model, places, _probe(encoded, collator))
    names = tuple(sources)
    prepared = Prepared(
        model, encoder, head, space, train, None, names, collator, moved, columns, widths, readings, merges
    )
    if evaluation is not None:
        prepared.evaluation = {
            name: prepared.encode_evaluation(part, f"eval_dataset[{name!r}]") for name, part in evaluation.items()
        }
    return prepared


def is_source_name(name: str, sources: tuple[str, ...]) -> bool:
    """Whether an evaluation set counts as source: it has a source's name or starts with "source". All others count
    as target, and what reads their labels is called oracle."""
    return name in sources or name.startswith("source")


def _named_evaluation(eval_dataset: Any, columns: InputColumns) -> dict[str, Any] | None:
    """Checked evaluation sets by name; a single one is the source's."""
    if eval_dataset is None:
        return None
    label, needed = columns.text.label, columns.names
    return {
        str(name): as_domain(part, f"eval_dataset[{name!r}]", label, needed)
        for name, part in by_name(eval_dataset).items()
    }


def _labelled(evaluation: dict[str, Any] | None, label: str, sources: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluation sets whose labels must agree with the sources'; sources' own sets must have labels."""
    out = {}
    for name, part in (evaluation or {}).items():
        where = f"eval_dataset[{name!r}]"
        if is_source_name(name, tuple(sources)):
            if label not in column_names(part):
                raise ValueError(
                    f"{where} is a source's but has no column {label!r}; its columns are "
                    f"{', '.join(map(repr, visible(column_names(part))))}. Say which it is with `label_column`, or "
                    "name the set otherwise if it has no labels."
                )
            out[where] = part
        elif has_labels(part, label, where):
            out[where] = part
    return out


def _check_streams(args: AdaptationConfig, domains: Mapping[str, Any]) -> None:
    """Raises `ValueError` for what a stream cannot do."""
    streams = {where: part for where, part in domains.items() if part is not None and not hasattr(part, "__len__")}
    if not streams:
        return
    where = next(iter(streams))
    if args.max_steps <= 0:
        raise ValueError(f"{where} is a stream, which has no length to count epochs by: set max_steps.")
    workers = args.dataloader_num_workers
    for where, part in domains.items():
        shards = 1 if hasattr(part, "__len__") else getattr(part, "num_shards", workers)
        if workers > shards:
            raise ValueError(
                f"dataloader_num_workers={workers}, but {where} is read in {shards} shard(s), which workers share "
                f"out: set dataloader_num_workers to {shards} at most."
            )


def _load(
    model: Any,
    args: AdaptationConfig,
    space: LabelSpace,
    modality: str,
    processing: Any,
    options: dict[str, Any],
    peft_config: Any,
) -> tuple[Any, Any]:
    """The model with its head, loaded, made or checked, and the processing class that goes with it."""
    words = space.task == "token-classification"
    if isinstance(processing, (str, os.PathLike)):
        processing = loading.load_processing(os.fspath(processing), None, modality, words)
    if isinstance(model, Mapping):
        if peft_config is not None or args.freeze not in (None, "none"):
            what = "an adapter" if peft_config is not None else f"freeze={args.freeze!r}"
            raise ValueError(f"A model from scratch has no weights worth keeping: leave out {what}.")
        settings = {k: v for k, v in model.items() if v is not None}
        processing = fresh_processing(settings, modality, processing, args.image_size)
        model = fresh_model(settings, space.task, space.names, modality, processing, args.image_size)
    elif isinstance(model, str):
        name, revision = model, options.get("revision")
        adapter = adapter_folders.read_adapter(name, revision)
        if adapter is None:
            model = loading.load_model(name, space.task, space.names, modality=modality, **options)
        elif peft_config is not None:
            raise ValueError(f"{name} is an adapter already: leave out peft_config to go on training it.")
        else:
            model = adapter_folders.load_adapter(name, adapter, space.task, space.names, modality=modality, **options)
            own = adapter_folders.processing_name(name, adapter)
            name, revision = own, revision if own == name else adapter.get("revision")
        if processing is None:
            processing = loading.load_processing(
                name, revision, modality, words, bool(options.get("trust_remote_code"))
            )
    else:
        if getattr(model, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"This {type(model).__name__} carries an adapter that transformers put into it: its base would be "
                "trained and not saved. Pass the adapter's folder as `model`, or load it with "
                "`PeftModel.from_pretrained(base, folder, is_trainable=True)`."
            )
        loading.check_head(model, space.task, space.names, modality)
        loaded_weights.check_finite(model, f"This {type(model).__name__}")
        drop_remote_code(model, f"This {type(model).__name__}")
        if processing is None and not model.config.name_or_path:
            raise ValueError(
                "processing_class is missing: a model that was not loaded from anywhere says of no tokenizer or image "
                "processor. Pass the tokenizer or image processor that belongs to it."
            )
        if processing is None:
            processing = loading.load_processing(model.config.name_or_path, None, modality, words)
    return model, fit_processing(processing, model, modality, words, args.image_size)


def _columns(args: AdaptationConfig) -> InputColumns:
    text = TextColumns(args.text_column or "text", args.text_pair_column, args.tokens_column, args.label_column)
    return InputColumns(text, args.image_column, bool(args.text_column or args.text_pair_column))


def _by_name(sources: Mapping[str, Any], target: Any, evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """All data sets by what messages call them, sources first."""
    named = {source_label(name): source for name, source in sources.items()}
    named |= {} if target is None else {"target_dataset": target}
    return named | {f"eval_dataset[{name!r}]": part for name, part in (evaluation or {}).items()}


def _wants_two_views(args: AdaptationConfig) -> bool:
    return any("target_view_features" in spec.cls.needs() for spec in args.objective_specs())


def _probe(encoded: Mapping[str, Any], collator: AdaptationCollator) -> dict[str, Any]:
    """A small batch of real model inputs."""
    rows = []
    for row in next(iter(encoded.values())):
        rows.append({k: v for k, v in without_readings(row).items() if k not in ("labels", WORD_MASK)})
        if len(rows) == 2:
            break
    return collator(rows)
