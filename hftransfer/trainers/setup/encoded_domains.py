"""Encoded domains of a run: rows as the model and its teachers read them, paired for training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...data.collation import AdaptationCollator
from ...data.domain_arguments import source_label
from ...data.encoder import Encoder, encode_target, make_encoder
from ...data.image_encoder import ImageEncoder
from ...data.label_masking import mask_target_labels, reveal_labels
from ...data.label_space import LabelSpace, column_names
from ...data.pairing import PairedDataset
from ...data.soft_label_column import SoftlyLabelled, read_soft_labels
from ...data.streaming import PairedStream
from ...data.text_encoder import WORD_MASK, TextEncoder, without_other_tokenizations
from ...models.processing_class import max_input_length
from ...objectives.second_view import second_view_of
from ..config import AdaptationConfig
from ..teachers.tokenization import encoders_of_teachers
from .run_domains import RunDomains


@dataclass(frozen=True)
class EncodedDomains:
    """Encoded and paired data of a run.

    Args:
        encoder: the model's own; it encodes evaluation sets, too.
        teacher_encoders: of teachers with another tokenizer, by the teacher's number.
        train: sources and target as one data set.
        target: encoded target rows; `None` without.
        collator: rows to batches.
        probe: model inputs of two source rows, to try a model on.
        labelled_rows: how many rows have labels; `None` if a domain is a stream.
        weighs_rows: source rows have weights of their own.
    """

    encoder: Encoder
    teacher_encoders: dict[int, TextEncoder]
    train: PairedDataset | PairedStream
    target: Any | None
    collator: AdaptationCollator
    probe: dict[str, Any]
    labelled_rows: int | None
    weighs_rows: bool = False


def encode_domains(
    domains: RunDomains, label_space: LabelSpace, model: Any, processing_class: Any, args: AdaptationConfig
) -> EncodedDomains:
    """Sources and masked target, encoded and paired.

    Args:
        domains: from `read_domains`.
        label_space: from `agree_on_labels`.
        model, processing_class: from `load_run_model`.
        args: the run's settings.

    Raises:
        ValueError: a row that cannot be encoded, or a teacher that reads other inputs. The row is named.
    """
    seed = args.seed if args.data_seed is None else args.data_seed
    encoder = make_encoder(
        domains.modality,
        processing_class,
        label_space,
        domains.columns,
        max_input_length(processing_class, model, domains.modality, args.max_length),
        args.augment,
        args.augment_flip,
        seed,
    )
    view = second_view_of(args.objective_specs())
    if isinstance(encoder, ImageEncoder) and view is not None and view.view == "strong" and view.function is None:
        encoder = encoder.with_strong_views()
    teacher_encoders = encoders_of_teachers(args, encoder)
    training = encoder.with_tokenizers(teacher_encoders) if isinstance(encoder, TextEncoder) else encoder
    weight_column = domains.weight_column
    sources = {
        name: training.encode(source, source_label(name), args.label_column, _own_weights(source, weight_column))
        for name, source in domains.sources.items()
    }
    target = _encoded_target(domains.target, training, args, len(label_space.names))

    train: PairedDataset | PairedStream
    labelled_rows = None
    if all(hasattr(rows, "__len__") for rows in [*sources.values(), *([] if target is None else [target])]):
        train = PairedDataset(sources, target, encoder.draws)
        labelled_rows = train.num_source + args.reveal_target_labels * len(label_space.names)
    else:
        batch_size = args.per_device_train_batch_size
        train = PairedStream(sources, target, args.target_ratio, batch_size, seed, draws=encoder.draws)
    weighs_rows = weight_column is not None
    collator = AdaptationCollator(training, label_space, view is not None, args.forward_by_domain, weighs_rows)
    probe = _probe_inputs(sources, collator)
    return EncodedDomains(encoder, teacher_encoders, train, target, collator, probe, labelled_rows, weighs_rows)


def _own_weights(source: Any, weight_column: str | None) -> str | None:
    """The column of weights where a source has it; rows of a source without it count 1."""
    return weight_column if weight_column is not None and weight_column in column_names(source) else None


def _encoded_target(target: Any, encoder: Encoder, args: AdaptationConfig, num_classes: int) -> Any:
    """Target rows without labels, or with those few that the user reveals; with soft labels where they are read."""
    if target is None:
        return None
    if args.reveal_target_labels:
        target = reveal_labels(target, args.reveal_target_labels, label_column=args.label_column, seed=args.seed)
    reads_soft_labels = any("target_soft_labels" in spec.cls.needs() for spec in args.objective_specs() if spec.weight)
    soft_labels = read_soft_labels(target, num_classes) if reads_soft_labels else None
    encoded = encode_target(encoder, mask_target_labels(target, args.label_column), "target_dataset")
    return encoded if soft_labels is None else SoftlyLabelled(encoded, soft_labels)


def _probe_inputs(sources: Mapping[str, Any], collator: AdaptationCollator) -> dict[str, Any]:
    """Probe inputs of a model: the first two rows of the first source."""
    rows = []
    for row in next(iter(sources.values())):
        rows.append({k: v for k, v in without_other_tokenizations(row).items() if k not in ("labels", WORD_MASK)})
        if len(rows) == 2:
            break
    return collator(rows)
