"""Options of the recipe `few_shot`. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..settings import explain_fields, field_of, option, read_fields
from .choose_source_options import ChooseSourceArguments
from .run_options import DEFAULT_MODEL

PAIR_OPTIONS = {  # by the names of `PairSettings`
    "sampling": "sampling",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "learning_rate": "learning_rate",
    "max_pairs": "max_pairs",
    "save_steps": "save_steps",
}


@explain_fields()
@dataclass
class FewShotArguments:
    """Arguments of the recipe `few_shot`: a source of a few labelled rows, an encoder, and what is made of them.

    Example:
        >>> options = FewShotArguments(source="few.csv", output_dir="runs/few", learning_rate=1e-4)
        >>> options.method, options.pair_settings()
        ('pairs', {'learning_rate': 0.0001, 'seed': 42})
    """

    source: str | None = option(
        None,
        "Domains",
        "Labelled source, a few rows of each class: a Hub id, a folder of files or images, a csv, json or parquet "
        "file, or a pattern such as data/few_{split}.csv. Rows with an empty label are left out; a test split is "
        "scored.",
    )
    label_column: str = option("label", "Domains", "Column with the class.")
    text_column: str | None = field_of(ChooseSourceArguments, "text_column")
    image_column: str | None = field_of(ChooseSourceArguments, "image_column")
    encoding: str | None = option(
        None, "Domains", "Of csv, tsv, json and jsonl files that are not UTF-8, such as latin-1."
    )
    dry_run: bool = option(False, "Domains", "Read the source, check that a model of it can be saved, and stop.")

    model: str = option(DEFAULT_MODEL, "Encoder", "Hub id or folder of a text or image encoder.")
    pooling: str | None = option(
        None, "Encoder", "How hidden states become features: mean, cls, last, head; by the model when absent."
    )
    max_length: int | None = field_of(ChooseSourceArguments, "max_length", "Encoder")
    per_device_eval_batch_size: int = field_of(ChooseSourceArguments, "per_device_eval_batch_size", "Encoder")
    use_cpu: bool = field_of(ChooseSourceArguments, "use_cpu", "Encoder")
    cache_dir: str | None = field_of(ChooseSourceArguments, "cache_dir", "Encoder")

    method: Literal["prototype", "probe", "pairs", "pairs_prototype"] = option(
        "pairs",
        "Method",
        "The nearest prototype; a logistic regression; or one of them after the encoder was tuned on pairs of rows.",
    )
    C: float = option(1.0, "Method", "Inverse strength of the logistic regression's penalty.")
    sampling: Literal["oversampling", "undersampling", "unique"] | None = option(
        None, "Method", "Of pairs of one class and of two; oversampling when absent."
    )
    num_train_epochs: int | None = option(None, "Method", "Of pairs; 1 when absent.")
    per_device_train_batch_size: int | None = option(None, "Method", "Pairs of a step; 16 when absent.")
    learning_rate: float | None = option(None, "Method", "Of the encoder; 2e-5 when absent.")
    max_pairs: int | None = option(None, "Method", "Pairs of an epoch, at most; 10,000 when absent.")
    save_steps: int | None = option(
        None, "Method", "Steps between two states that a stopped run goes on from; 50 when absent."
    )
    seed: int = option(42, "Method", "Of pairs and dropout.")
    output_dir: str | None = option(None, "Method", "Where the model goes; it must not exist.")

    def __post_init__(self) -> None:
        read_fields(self)

    def check(self) -> None:
        """Check that the options name a source, an output folder, and one column of inputs at most.

        Raises:
            ValueError: one of them is missing, or there are two columns.
        """
        if not self.source:
            raise ValueError("--source is missing: name a labelled source, with a few rows of each class.")
        if not self.output_dir and not self.dry_run:
            raise ValueError("--output_dir is missing: name a folder for the model.")
        if self.text_column and self.image_column:
            raise ValueError("text_column and image_column are both given: an encoder reads one of them.")

    def pair_settings(self) -> dict[str, Any] | None:
        """Settings of `PairSettings`, the seed among them; `None` where no encoder is tuned.

        Raises:
            ValueError: an option of pair training, and a method without it.
        """
        given = {name: getattr(self, field) for name, field in PAIR_OPTIONS.items()}
        given = {name: value for name, value in given.items() if value is not None}
        if self.method.startswith("pairs"):
            return {**given, "seed": self.seed}
        if given:
            field = PAIR_OPTIONS[next(iter(given))]
            raise ValueError(f"--{field} is of pair training, and --method {self.method} has none: leave it out.")
        return None
