"""From what a user passes to what a step needs: labels agreed on, targets masked, texts encoded, a tapped model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..data.collation import AdaptationCollator
from ..data.domains import as_domain, as_sources, source_label
from ..data.labels import LabelSpace, check_classes, column_names, require_column, resolve_label_space
from ..data.masking import mask_target_labels, reveal_labels
from ..data.pairing import PairedDataset
from ..data.streaming import PairedStream
from ..data.text import WORD_MASK, TextColumns, encode_target, encode_text
from ..models import adapters, loading, policy
from ..models.layer_tap import HEAD, layer_widths
from ..models.tap import Head, find_head
from .config import AdaptationConfig

logger = logging.getLogger(__name__)


@dataclass
class Prepared:
    """Everything a trainer needs, checked."""

    model: Any
    tokenizer: Any
    head: Head
    space: LabelSpace
    train: PairedDataset | PairedStream
    evaluation: dict[str, Any] | None
    source_names: tuple[str, ...]
    collator: AdaptationCollator
    policy: policy.PolicyReport
    columns: TextColumns
    max_length: int | None
    feature_widths: dict[str, int]  # by place in the model

    def encode_evaluation(self, dataset: Any, name: str) -> Any:
        """Encodes a raw evaluation set; one that is encoded already is returned as it is."""
        columns = column_names(dataset)
        if "input_ids" in columns:
            return dataset
        label = self.columns.label if self.columns.label in columns else None
        return encode_text(dataset, self.tokenizer, self.space, self.columns, name, label, self.max_length)


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
    sources = as_sources(train_dataset)
    if target_dataset is None and any(spec.weight for spec in args.objective_specs()):
        raise ValueError(
            "target_dataset is missing: the objectives need unlabelled target rows. "
            "Pass one, or leave `objectives` empty to train on the source alone."
        )
    if target_dataset is None and args.reveal_target_labels:
        raise ValueError(
            f"reveal_target_labels={args.reveal_target_labels} but target_dataset is missing: pass one, or leave it 0."
        )
    given = train_dataset.values() if isinstance(train_dataset, Mapping) else [train_dataset]
    if target_dataset is not None:
        if any(target_dataset is source for source in given):
            raise ValueError(
                "target_dataset is the same object as a source: there is nothing to adapt to. Pass the rows of the "
                "other domain, or leave both target_dataset and objectives out."
            )
        target_dataset = as_domain(target_dataset, "target_dataset")
    evaluation = _named_evaluation(eval_dataset)
    _check_streams(args, {**{source_label(n): s for n, s in sources.items()}, "target_dataset": target_dataset})

    columns = TextColumns(args.text_column, args.text_pair_column, args.tokens_column, args.label_column)
    model = os.fspath(model) if isinstance(model, os.PathLike) else model
    kinds: Any = (str, torch.nn.Module)
    if not isinstance(model, kinds):
        raise TypeError(f"model must be a Hub id, a folder or a loaded model, not {type(model).__name__}.")
    model_names = None if isinstance(model, str) else loading.head_names(model)
    labelled = {source_label(name): source for name, source in sources.items()}
    for where, source in labelled.items():
        require_column(source, columns.label, where)
    labelled |= _labelled(evaluation, columns.label, sources)
    space = resolve_label_space(labelled, columns.label, columns.tokens, args.task, model_names)
    if space.task == "sequence-classification":
        check_classes(sources, columns.label)

    words = space.task == "token-classification"
    if isinstance(model, str):
        name, options = model, dict(model_kwargs or {})
        tokenizer = processing_class or loading.load_tokenizer(name, options.get("revision"), words)
        model = loading.load_model(name, space.task, space.names, **options)
    else:
        loading.check_head(model, space.task, space.names)
        if processing_class is None and not model.config.name_or_path:
            raise ValueError(
                "processing_class is missing: a model that was not loaded from anywhere says of no tokenizer. Pass "
                "the tokenizer that belongs to it."
            )
        tokenizer = processing_class or loading.load_tokenizer(model.config.name_or_path, words=words)
    loading.check_tokenizer(tokenizer, model)
    if words and not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer, and tagging needs one to know which sub-words make a "
            "word. Load it with `AutoTokenizer.from_pretrained(...)`."
        )
    max_length = _max_length(args, tokenizer, model)

    encoded = {
        name: encode_text(part, tokenizer, space, columns, source_label(name), columns.label, max_length)
        for name, part in sources.items()
    }
    target = None
    if target_dataset is not None:
        if args.reveal_target_labels:
            target_dataset = reveal_labels(
                target_dataset, args.reveal_target_labels, label_column=columns.label, seed=args.seed
            )
        masked = mask_target_labels(target_dataset, columns.label)
        target = encode_target(masked, tokenizer, space, columns, "target_dataset", max_length=max_length)

    stream = any(
        not hasattr(part, "__len__") for part in [*encoded.values(), *([target] if target is not None else [])]
    )
    train: PairedDataset | PairedStream
    if stream:
        seed = args.seed if args.data_seed is None else args.data_seed
        train = PairedStream(encoded, target, args.target_ratio, args.per_device_train_batch_size, seed)
    else:
        train = PairedDataset(encoded, target)

    collator = AdaptationCollator(tokenizer, space)
    head = find_head(model, _probe(encoded, collator))
    if args.freeze != "none" and (peft_config is not None or adapters.is_peft(model)):
        raise ValueError(f"The adapter decides what moves; leave freeze at 'none' (it is {args.freeze!r}).")
    if peft_config is not None:
        if adapters.is_peft(model):
            raise ValueError("The model is PEFT-wrapped already; pass a peft_config or a wrapped model, not both.")
        model = adapters.attach_adapter(model, peft_config, head)
        head = find_head(model, _probe(encoded, collator))
        moved = policy.report(model, peft_config.peft_type.value.lower())
    elif args.freeze == "none":
        moved = policy.report(model, "none")  # a model that its user froze in part stays so
    else:
        moved = policy.apply_policy(model, args.freeze, head)

    places = {spec.features for spec in args.objective_specs()}
    widths = {HEAD: head.in_features} | layer_widths(model, places, _probe(encoded, collator))
    prepared = Prepared(
        model, tokenizer, head, space, train, None, tuple(sources), collator, moved, columns, max_length, widths
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


def _named_evaluation(eval_dataset: Any) -> dict[str, Any] | None:
    """Checked evaluation sets by name; a single one is the source's."""
    if eval_dataset is None:
        return None
    named = eval_dataset if isinstance(eval_dataset, Mapping) else {"source": eval_dataset}
    return {str(name): as_domain(part, f"eval_dataset[{name!r}]") for name, part in named.items()}


def _labelled(evaluation: dict[str, Any] | None, label: str, sources: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluation sets whose labels must agree with the sources'; sources' own sets must have labels."""
    out = {}
    for name, part in (evaluation or {}).items():
        if label in column_names(part):
            out[f"eval_dataset[{name!r}]"] = part
        elif is_source_name(name, tuple(sources)):
            raise ValueError(
                f"eval_dataset[{name!r}] is a source's but has no column {label!r}; its columns are "
                f"{', '.join(map(repr, column_names(part)))}. Say which it is with `label_column`, or name the set "
                "otherwise if it has no labels."
            )
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


def _max_length(args: AdaptationConfig, tokenizer: Any, model: Any) -> int | None:
    """What the user says, or the shortest of what tokenizer, config and positions allow; `None` when nobody says.

    Raises:
        ValueError: more than the model has positions for.
    """
    positions = _positions(model)
    if args.max_length is not None:
        if positions is not None and args.max_length > positions:
            raise ValueError(
                f"max_length={args.max_length}, but {type(model).__name__} has only {positions} positions. Leave it "
                "out to cut at the model's own limit."
            )
        return args.max_length
    known = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None), positions]
    return min((n for n in known if isinstance(n, int) and 0 < n < 1_000_000), default=None)


def _positions(model: torch.nn.Module) -> int | None:
    """How many tokens the table of absolute positions reaches, if the model has one (RoBERTa counts from pad + 1)."""
    for name, module in model.named_modules():
        if name.endswith(("position_embeddings", "wpe")) and isinstance(module, torch.nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def _probe(encoded: Mapping[str, Any], collator: AdaptationCollator) -> dict[str, Any]:
    """A small batch of real model inputs."""
    rows = []
    for row in next(iter(encoded.values())):
        rows.append({k: v for k, v in row.items() if k not in ("labels", WORD_MASK)})
        if len(rows) == 2:
            break
    return collator(rows)
