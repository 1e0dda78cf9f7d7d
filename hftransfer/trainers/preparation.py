"""From what a user passes to what a step needs: labels agreed on, targets masked, texts encoded, a tapped model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.collation import AdaptationCollator
from ..data.labels import LabelSpace, column_names, resolve_label_space
from ..data.masking import mask_target_labels, reveal_labels
from ..data.pairing import PairedDataset
from ..data.streaming import PairedStream
from ..data.text import TextColumns, encode_target, encode_text
from ..models import adapters, loading, policy
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
        ValueError, FileNotFoundError: whatever is wrong with them, before anything is trained or written.
    """
    if train_dataset is None:
        raise ValueError("train_dataset is missing: adaptation needs at least one labelled source.")
    sources = dict(train_dataset) if isinstance(train_dataset, Mapping) else {"source": train_dataset}
    if not sources:
        raise ValueError("train_dataset is an empty dict: name at least one labelled source.")
    if target_dataset is None and any(spec.weight for spec in args.objective_specs()):
        raise ValueError(
            "target_dataset is missing: the objectives need unlabelled target rows. "
            "Pass one, or leave `objectives` empty to train on the source alone."
        )
    if any(target_dataset is source for source in sources.values()):
        raise ValueError("target_dataset is the same object as a source: there is nothing to adapt to.")
    for name, part in [
        *sources.items(),
        *([("target_dataset", target_dataset)] if target_dataset is not None else []),
    ]:
        if hasattr(part, "__len__") and len(part) == 0:
            raise ValueError(f"{name} is empty: it has no rows.")
    evaluation = _named_evaluation(eval_dataset)

    columns = TextColumns(args.text_column, args.text_pair_column, args.tokens_column, args.label_column)
    model_names = None if isinstance(model, str) else loading.head_names(model)
    labelled = {**sources, **_labelled(evaluation, columns.label, sources)}
    space = resolve_label_space(labelled, columns.label, columns.tokens, args.task, model_names)

    words = space.task == "token-classification"
    if isinstance(model, str):
        name = model
        model = loading.load_model(name, space.task, space.names, **dict(model_kwargs or {}))
        tokenizer = processing_class or loading.load_tokenizer(name, words=words)
    else:
        loading.check_head(model, space.task, space.names)
        tokenizer = processing_class or loading.load_tokenizer(model.config.name_or_path, words=words)
    loading.check_tokenizer(tokenizer, model)
    max_length = args.max_length or _limit(tokenizer, model)

    encoded = {
        name: encode_text(part, tokenizer, space, columns, name, columns.label, max_length)
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
        train = PairedStream(encoded, target, args.target_ratio, args.data_seed or args.seed)
    else:
        train = PairedDataset(encoded, target)

    collator = AdaptationCollator(tokenizer, space)
    head = find_head(model, _probe(encoded, collator))
    if peft_config is not None:
        if args.freeze != "none":
            raise ValueError(f"peft_config decides what moves; leave freeze at 'none' (it is {args.freeze!r}).")
        if adapters.is_peft(model):
            raise ValueError("The model is PEFT-wrapped already; pass a peft_config or a wrapped model, not both.")
        model = adapters.attach_adapter(model, peft_config, head)
        head = find_head(model, _probe(encoded, collator))
        moved = policy.report(model, peft_config.peft_type.value.lower())
    elif args.freeze == "none":
        moved = policy.report(model, "none")  # a model that its user froze in part stays so
    else:
        moved = policy.apply_policy(model, args.freeze, head)

    prepared = Prepared(
        model, tokenizer, head, space, train, None, tuple(sources), collator, moved, columns, max_length
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
    """A single evaluation set is the source's."""
    if eval_dataset is None:
        return None
    return dict(eval_dataset) if isinstance(eval_dataset, Mapping) else {"source": eval_dataset}


def _labelled(evaluation: dict[str, Any] | None, label: str, sources: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluation sets whose labels must agree with the sources'; sources' own sets must have labels."""
    out = {}
    for name, part in (evaluation or {}).items():
        if hasattr(part, "__len__") and len(part) == 0:
            raise ValueError(f"eval_dataset[{name!r}] is empty: it has no rows.")
        if label in column_names(part):
            out[f"eval_dataset[{name!r}]"] = part
        elif is_source_name(name, tuple(sources)):
            raise ValueError(f"eval_dataset[{name!r}] is a source's but has no label column {label!r}.")
    return out


def _limit(tokenizer: Any, model: Any) -> int | None:
    """The shorter of what tokenizer and positions allow; `None` when neither says."""
    known = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    limits = [n for n in known if isinstance(n, int) and 0 < n < 1_000_000]
    if not limits:
        return None
    # RoBERTa-like models count positions from pad + 1, so two of them are never used.
    return min(limits) - (2 if limits[-1] == 514 and len(limits) == 2 and limits[0] > 512 else 0)


def _probe(encoded: Mapping[str, Any], collator: AdaptationCollator) -> dict[str, Any]:
    """A small batch of real model inputs."""
    rows = []
    for row in next(iter(encoded.values())):
        rows.append({k: v for k, v in row.items() if k != "labels"})
        if len(rows) == 2:
            break
    return collator(rows)
