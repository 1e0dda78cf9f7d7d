"""Options of the recipe `pretrain` besides its config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..settings import explain_fields
from .run_options import RunArguments

if TYPE_CHECKING:
    from ..pretraining.pretraining_config import PretrainingConfig

USUAL_FRACTION = RunArguments.validation_fraction


class Texts(NamedTuple):
    """Texts of a pre-training: those of the target, of sources by name, and target texts to measure on."""

    target: Any
    source: dict[str, Any] | None
    validation: Any


@explain_fields()
@dataclass
class PretrainArguments(RunArguments):
    """Arguments of the recipe `pretrain` besides `PretrainingConfig`: which texts, which model.

    `source` and `target` are as in `RunArguments`; one of them is enough, and labels are never read.

    Example:
        >>> PretrainArguments(target="medical.csv").target
        'medical.csv'
    """

    def check_domains(self) -> None:
        """Check of the domains.

        Raises:
            ValueError: there is neither a source nor a target, the target is a source, or an option that is for
                labelled rows or for a model from scratch.
        """
        if not self.source and not self.target:
            raise ValueError("--target and --source are missing: name texts to read, such as `--target sample`.")
        if self.source:
            super().check_domains()
        if self.validation_fraction != USUAL_FRACTION:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} cuts labelled rows, and these are read without "
                "labels: set held_out to the share of rows that perplexity is measured on."
            )
        if self.model_config:
            raise ValueError(
                "model_config makes a model from scratch, and pre-training goes on with one that was pretrained. Name "
                "it with --model."
            )

    @property
    def dataset_names(self) -> dict[str, str]:
        """Sources and target by name, as the model card has them."""
        return {**self.sources, **({"target": self.target} if self.target else {})}

    def load_texts(self, config: PretrainingConfig) -> Texts:
        """Texts of the domains, read once and cached for the other processes.

        Args:
            config: says which columns are read.

        Raises:
            ValueError, FileNotFoundError: as `load_shift`.
        """
        from ..data.domain_loading import load_shift

        with config.main_process_first(desc="loading"):
            data = load_shift(
                self.sources,
                self.target,
                validation_fraction=0,
                seed=config.seed,
                encoding=self.encoding,
                text_columns=(config.text_column, config.text_pair_column, config.tokens_column),
            )
        return Texts(data.target, data.train or None, data.validation.get("target"))
