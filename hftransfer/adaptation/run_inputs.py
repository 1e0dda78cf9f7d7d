"""Inputs of an adaptation: domains, backbone and settings that all candidates share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..data.content_hash import dataset_hash
from ..data.encoder import find_modality
from ..data.label_space import LabelSpace
from ..trainers.setup.run_domains import input_columns, read_domains
from ..trainers.setup.run_label_space import agree_on_labels
from .settings_hash import folder_hash, settings_hash, training_settings

if TYPE_CHECKING:
    from ..trainers.config import AdaptationConfig

MOST_JUDGED = 2000  # target rows that judge a candidate
FEWEST_JUDGED = 500
JUDGED_SHARE = 0.15  # of the rows that a source-only run trains on: what judging costs stays a small part of that


@dataclass(frozen=True)
class RunInputs:
    """Domains, backbone and settings of an adaptation.

    Args:
        model: Hub id, folder, or settings of a model from scratch, as `AdaptationTrainer` takes them.
        args: settings of every candidate's training run, and the output folder of the whole.
        train: labelled source rows by the source's name.
        validation: labelled source rows by the source's name, which nothing is trained on.
        target: unlabelled rows.
        test: test splits by name; `"target"`'s labels, if any, are only ever shown.
        processing_class, peft_config, model_kwargs: as in `AdaptationTrainer`.
        dataset_names: what the card calls the domains.
    """

    model: Any
    args: AdaptationConfig
    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    target: Any
    test: Mapping[str, Any] = field(default_factory=dict)
    processing_class: Any = None
    peft_config: Any = None
    model_kwargs: Mapping[str, Any] | None = None
    dataset_names: Mapping[str, str] | None = None

    @property
    def modality(self) -> str:
        """`"text"` or `"image"`."""
        columns = input_columns(self.args)
        return find_modality({**self.train, "target": self.target}, columns)

    def label_space(self) -> LabelSpace:
        """Classes of the run, in the order of the model's logits."""
        domains = read_domains(self.args, dict(self.train), self.target, dict(self.validation))
        return agree_on_labels(domains, self.model, self.args)

    @property
    def num_source(self) -> int:
        return sum(len(rows) for rows in self.train.values())

    @property
    def rows_trained(self) -> float:
        """Source rows that a source-only run goes through, all epochs together."""
        rows_of_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        steps = self.args.max_steps * rows_of_step
        return steps if self.args.max_steps > 0 else self.num_source * self.args.num_train_epochs

    @property
    def judged_rows(self) -> int:
        """Target rows that judge each candidate."""
        wanted = max(FEWEST_JUDGED, round(JUDGED_SHARE * self.rows_trained))
        return min(len(self.target), MOST_JUDGED, wanted)

    @cached_property
    def tests_key(self) -> str:
        """Hash of the test rows, of which predictions are stored, too."""
        columns = self._columns | {self.args.label_column}
        return settings_hash(**{name: dataset_hash(rows, columns) for name, rows in self.test.items()})[:16]

    @cached_property
    def parts(self) -> dict[str, str]:
        """Hashes of what every candidate is made from, by what they are of."""
        label = self.args.label_column
        domains = {"the target": self.target} | {f"the training rows of {n}": rows for n, rows in self.train.items()}
        domains |= {f"the validation rows of {name}": rows for name, rows in self.validation.items()}
        model = self.model if isinstance(self.model, (str, dict)) else type(self.model).__qualname__
        hashes = {name: dataset_hash(rows, self._columns - {label}) for name, rows in domains.items()}
        labels = {
            f"labels of {name}": dataset_hash(rows, {label}) for name, rows in domains.items() if name != "the target"
        }
        settings = {k: v for k, v in training_settings(self.args).items() if k not in ("hub_token",)}
        tokenizer = str(getattr(self.processing_class, "name_or_path", self.processing_class))
        others = {
            "the model": settings_hash(model=model, options=dict(self.model_kwargs or {}), files=folder_hash(model)),
            "the tokenizer or image processor": settings_hash(name=tokenizer),
            "the adapter": settings_hash(adapter=self.peft_config),
            "the settings": settings_hash(**settings),
        }
        return hashes | labels | others

    @property
    def _columns(self) -> set[str]:
        return set(input_columns(self.args).names)

    def key(self) -> str:
        """Hash of what every candidate is made from; another one is another run."""
        return settings_hash(**self.parts)[:16]
