"""Options of the recipe `choose_source`. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..settings import explain_fields, option, read_fields
from .run_options import DEFAULT_MODEL, sources_by_name


def usual_scores() -> list[str]:
    """Scores beside the probe, where none are named."""
    return ["logme", "h_score", "knn"]


@explain_fields()
@dataclass
class ChooseSourceArguments:
    """Arguments of the recipe `choose_source`: domains, checkpoints, and how they are looked at.

    Example:
        >>> ChooseSourceArguments(source=["books=books.csv", "dvd=dvd.csv"], target="kitchen.csv").question
        'sources'
    """

    source: list[str] = option(
        list,
        "Domains",
        "Labelled set: a Hub id, a folder of files or images, a csv, json or parquet file, a pattern such as "
        "data/news_{split}.csv, or sample; its train split is read. Repeat it, as name=..., for several.",
        repeated=True,
    )
    target: str | None = option(
        None, "Domains", "Unlabelled target, given the same way; its labels, if any, are shown as oracle."
    )
    label_column: str = option("label", "Domains", "Column with the label.")
    text_column: str | None = option(None, "Domains", "Column with the text; found when absent.")
    image_column: str | None = option(None, "Domains", "Column with the image; found when absent.")
    max_rows: int | None = option(2000, "Domains", "Rows of a set, at most; of a larger one as many are drawn.")
    dry_run: bool = option(False, "Domains", "Read the data, print what would be compared, and stop.")

    model: list[str] = option(
        list,
        "Checkpoints",
        "Hub id or folder. Repeat it to rank several on one source; "
        "sentence-transformers/all-MiniLM-L6-v2 when absent.",
        repeated=True,
    )
    scores: list[str] = option(
        usual_scores,
        "Checkpoints",
        "Scores beside the probe, which break ties: logme, h_score, knn, transrate, gbc, parc; the first three when "
        "absent.",
    )
    pooling: str = option("mean", "Checkpoints", "How a row's hidden states become one: mean, cls, max or last.")
    layer: int = option(-1, "Checkpoints", "Layer of the features; -1 is the last.")
    max_length: int | None = option(None, "Checkpoints", "Longest text in tokens; the model's own limit when absent.")
    dtype: str | None = option(None, "Checkpoints", "float32, bfloat16 or float16.")
    per_device_eval_batch_size: int = option(64, "Checkpoints", "Rows at a time.")
    use_cpu: bool = option(False, "Checkpoints", "Even where there is an accelerator.")
    cache_dir: str | None = option(None, "Checkpoints", "Folder where features are kept; the usual one when absent.")

    resamples: int = option(1000, "Ranking", "Bootstrap resamples, over which it is counted how often each is first.")
    seed: int = option(42, "Ranking", "Of drawn rows, folds and resamples.")
    output_dir: str | None = option(
        None, "Ranking", "Folder for choice.json and choice.svg; it must not exist. Nothing is written when absent."
    )

    def __post_init__(self) -> None:
        read_fields(self)

    @property
    def sources(self) -> dict[str, str]:
        """Sources by name; raises `ValueError` for two of a name."""
        return sources_by_name(self.source)

    @property
    def models(self) -> list[str]:
        """Checkpoints, the usual one where none is named."""
        return self.model or [DEFAULT_MODEL]

    @property
    def question(self) -> str:
        """What is asked: `"checkpoints"` for a source, `"sources"` for a target, or the `"relation"` of sources.

        Raises:
            ValueError: options that ask for none of them, or for two.
        """
        if not self.source:
            raise ValueError("--source is missing: name a labelled set, or `--source sample`.")
        if self.target is not None and self.target != "sample" and self.target in self.sources.values():
            raise ValueError(f"--target {self.target} is a source too: there is nothing to choose for it.")
        if len(self.models) > 1:
            if len(self.sources) > 1 or self.target is not None:
                raise ValueError(
                    "--model is given several times, which ranks checkpoints on one labelled set: give one --source "
                    "and no --target, or one --model."
                )
            return "checkpoints"
        if self.target is not None:
            return "sources"
        return "relation" if len(self.sources) > 1 else "checkpoints"

    def reading(self) -> dict[str, Any]:
        """Options that `rank_checkpoints`, `choose_source` and `relate_domains` share."""
        columns = {name: getattr(self, name) for name in ("label_column", "text_column", "image_column")}
        embedding = {name: getattr(self, name) for name in ("pooling", "layer", "max_length", "dtype", "cache_dir")}
        embedding |= {"batch_size": self.per_device_eval_batch_size, "device": "cpu" if self.use_cpu else None}
        return {**columns, "max_rows": self.max_rows, "seed": self.seed, **embedding}
