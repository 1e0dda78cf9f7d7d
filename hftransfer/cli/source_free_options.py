"""Options of the recipe `adapt_source_free` besides the trainer's config. No heavy import, so that `--help` is
instant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from ..settings import explain_fields, field_of, option, read_choice, read_fields
from .run_options import RunArguments, load_domains, loading_options

Method = Literal["shot", "shot_im"]


@explain_fields()
@dataclass
class SourceFreeArguments:
    """Arguments of the recipe `adapt_source_free` besides `AdaptationConfig`: which model, which target.

    There is none for a source. `target` is as in `RunArguments`.

    Example:
        >>> SourceFreeArguments(model="runs/news", target="medical.csv").method
        'shot'
    """

    target: str | None = option(
        None,
        "Domains",
        "Unlabelled target: a Hub id, a folder of files or images, a csv, json or parquet file, a pattern such as "
        "data/notes_{split}.csv, sample, or sample:digits.",
    )
    encoding: str | None = field_of(RunArguments, "encoding")
    dry_run: bool = option(False, "Domains", "Read the data and the settings, say what would be done, and stop.")

    model: str | None = option(
        None, "Model", "Hub id or folder of the model that was fine-tuned on the source; with predictions, a backbone."
    )
    model_config: dict | str | None = option(
        None, "Model", "With predictions, instead of a model: settings of a student from scratch; JSON or YAML."
    )
    processor: str | None = field_of(RunArguments, "processor")
    model_revision: str | None = field_of(RunArguments, "model_revision")
    dtype: str | None = field_of(RunArguments, "dtype")
    attn_implementation: str | None = field_of(RunArguments, "attn_implementation")
    trust_remote_code: bool = field_of(RunArguments, "trust_remote_code")

    method: str = option(
        "shot", "Method", "shot: information maximisation and pseudo-labels by centroids; shot_im: without these."
    )
    source_numbers: bool = option(
        True,
        "Method",
        "Read the source's counts in the model's config.json, if any, for the target's class frequencies.",
    )
    correct_start: bool = option(
        False,
        "Method",
        "Correct the start model for believed class frequencies where the adapted one is refused, as it then is if it "
        "lies further from them. Counts alone cannot tell a shift of inputs from one of frequencies.",
    )
    predictions: str | None = option(
        None,
        "Method",
        "Instead of a source model: a csv, json or parquet file with what an interface answered on each target row, a "
        "column of probabilities for each class, or a column label.",
    )
    labels: list[str] = option(
        list, "Method", "Columns of the predictions that are classes; all when absent. Repeat it.", repeated=True
    )
    epsilon: float = option(
        0.1, "Method", "Of predictions that are labels alone: what each leaves to the other classes."
    )

    def __post_init__(self) -> None:
        read_fields(self)
        read_choice("method", self.method, Method)

    def check_domains(self) -> None:
        """Check of target and model.

        Raises:
            ValueError: there is none, or a model from scratch without predictions.
        """
        if not self.target:
            raise ValueError("--target is missing: name the unlabelled target, or `--target sample`.")
        if not self.model and not self.model_config:
            raise ValueError(
                "--model is missing: name the model that was fine-tuned on the source, such as the output folder of "
                "`hftransfer finetune`."
            )
        if self.model_config and not self.predictions:
            raise ValueError(
                "model_config makes a model from scratch, which has learned nothing of the source. Give --model, or "
                "--predictions that a student learns from."
            )

    def load_domains(self, config: Any) -> Any:
        """Target as data sets by split, read once and cached for the other processes.

        Args:
            config: says which columns are read.

        Raises:
            ValueError, FileNotFoundError: as `load_shift`.
        """
        return load_domains(config, {}, self.target, 0.0, self.encoding)

    def start_model(self) -> Any:
        """Source model or backbone, as `adapt_source_free` takes it.

        Raises:
            ValueError: a model and settings of one from scratch, or settings that are no map.
        """
        own = {field.name for field in fields(RunArguments)}
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name in own}
        return RunArguments(**shared).backbone()

    def model_kwargs(self) -> dict[str, Any]:
        """Options of `from_pretrained`."""
        return loading_options(self)
