"""Preparation of a run: from the user's arguments to encoded data and a model with a head.

Four steps: `read_domains` checks the data, `agree_on_labels` finds the classes, `load_run_model` and `encode_domains`
bring model and rows together, and `apply_trainable` decides what of the model trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...data.collation import AdaptationCollator
from ...data.domain_arguments import as_domain
from ...data.encoder import Encoder, InputColumns
from ...data.encoder_fingerprint import fingerprint_of
from ...data.label_space import LabelSpace
from ...data.label_values import has_labels
from ...data.pairing import PairedDataset
from ...data.streaming import PairedStream
from ...data.text_encoder import TextEncoder
from ...models.feature_hook import Head
from ...models.freezing import TrainableReport
from ...models.layer_hook import HEAD, layer_widths
from ..config import AdaptationConfig
from .batch_norm_setting import prepare_batch_norm
from .encoded_domains import encode_domains
from .run_domains import read_domains
from .run_label_space import agree_on_labels
from .run_model import check_model_argument, load_run_model
from .trainable_part import apply_trainable


@dataclass
class Prepared:
    """Prepared run: model, encoded data, labels and what trains, checked."""

    model: Any
    encoder: Encoder
    head: Head
    label_space: LabelSpace
    train: PairedDataset | PairedStream
    evaluation: dict[str, Any] | None
    source_names: tuple[str, ...]
    collator: AdaptationCollator
    trainable: TrainableReport
    columns: InputColumns
    feature_widths: dict[str, int]  # by feature layer
    teacher_encoders: dict[int, TextEncoder] = field(default_factory=dict)  # of those with another tokenizer
    weighs_rows: bool = False  # source rows have weights of their own
    merge_on_save: bool = False  # what is saved is the adapter merged into a plain model

    @property
    def processing_class(self) -> Any:
        """The tokenizer or image processor, which is saved beside the model."""
        return self.encoder.processing_class

    @property
    def label_column(self) -> str:
        return self.columns.text.label

    def encode_evaluation(self, dataset: Any, name: str) -> Any:
        """Evaluation set, encoded; one that is encoded already is returned as it is.

        Raises:
            ValueError, TypeError: it cannot be read, holds a class that is not trained, or was encoded by a run with
                other labels or another tokenizer. The row is named.
        """
        fingerprint = fingerprint_of(dataset)
        if fingerprint == self.encoder.fingerprint:
            return dataset
        if fingerprint is not None:
            raise ValueError(
                f"{name} was encoded by a run with other labels or another tokenizer. Pass its rows as they were."
            )
        label = self.label_column
        dataset = as_domain(dataset, name, label, self.columns.names)
        return self.encoder.encode(dataset, name, label if has_labels(dataset, label, name) else None)

    def encode_test_splits(self, splits: Mapping[str, Any]) -> dict[str, Any]:
        """Test splits by name, encoded for `evaluate`.

        Raises:
            ValueError, TypeError: as `encode_evaluation`, whose message names the split.
        """
        return {name: self.encode_evaluation(dataset, f"the test split of {name}") for name, dataset in splits.items()}


def prepare(
    model: Any,
    args: AdaptationConfig,
    train_dataset: Any,
    target_dataset: Any = None,
    eval_dataset: Any = None,
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> Prepared:
    """Prepared run, checked, as far as it needs no trainer; a dry run stops here.

    Args:
        model, args, train_dataset, target_dataset, eval_dataset, processing_class, peft_config, model_kwargs: as in
            `AdaptationTrainer`.

    Returns:
        The model with its head, encoded data, and `encode_test_splits` for more of them.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with them, before anything is trained or written.

    Example:
        >>> args = AdaptationConfig(output_dir="out", objectives={"mmd": 0.1})
        >>> prepared = prepare("sentence-transformers/all-MiniLM-L6-v2", args, news, medical)
        >>> print_plan(prepared, args)
    """
    domains = read_domains(args, train_dataset, target_dataset, eval_dataset)
    model = check_model_argument(model)
    label_space = agree_on_labels(domains, model, args, model_kwargs)

    model, processing_class = load_run_model(
        model, args, label_space, domains.modality, processing_class, model_kwargs, peft_config
    )
    encoded = encode_domains(domains, label_space, model, processing_class, args)

    prepare_batch_norm(model, args, encoded.target, peft_config is not None)
    trained = apply_trainable(model, args, peft_config, encoded.probe, encoded.labelled_rows)
    feature_layers = {spec.features for spec in args.objective_specs()}
    widths = {HEAD: trained.head.in_features} | layer_widths(trained.model, feature_layers, encoded.probe)

    prepared = Prepared(
        model=trained.model,
        encoder=encoded.encoder,
        head=trained.head,
        label_space=label_space,
        train=encoded.train,
        evaluation=None,
        source_names=tuple(domains.sources),
        collator=encoded.collator,
        trainable=trained.report,
        columns=domains.columns,
        feature_widths=widths,
        teacher_encoders=encoded.teacher_encoders,
        weighs_rows=encoded.weighs_rows,
        merge_on_save=trained.merge_on_save,
    )
    if domains.evaluation is not None:
        prepared.evaluation = {
            name: prepared.encode_evaluation(dataset, f"eval_dataset[{name!r}]")
            for name, dataset in domains.evaluation.items()
        }
    return prepared
