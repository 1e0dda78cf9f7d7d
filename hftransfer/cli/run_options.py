"""Options that recipes share: which domains, which model. No heavy import, so that `--help` is instant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..settings import explain_fields, option, read_fields, read_setting

if TYPE_CHECKING:
    from ..data.domain_loading import LoadedDomains
    from ..trainers.config import AdaptationConfig

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@explain_fields()
@dataclass
class RunArguments:
    """Arguments that recipes which train share, besides `AdaptationConfig`: which domains, which model.

    `source` and `target` take a Hub id (`owner/name`, `owner/name:config`), a folder, a csv, tsv, json, jsonl or
    parquet file, a folder of images, a pattern with `{split}` in it, or a sample: `sample` for the embedded corpus,
    `sample:digits` for digits as scanned, and `sample:digits_inverted`, `sample:digits_textured` or
    `sample:digits_blurred_rotated` for a shift of them.

    Example:
        >>> RunArguments(source=["news=news.csv", "papers=papers.csv"]).sources
        {'news': 'news.csv', 'papers': 'papers.csv'}
    """

    source: list[str] = option(
        list,
        "Domains",
        "Labelled source: a Hub id, a folder of files or images, a csv, json or parquet file, a pattern such as "
        "data/news_{split}.csv, sample, or sample:digits. Repeat it, as name=..., for several.",
        repeated=True,
    )
    target: str | None = option(None, "Domains", "Unlabelled target, given the same way.")
    validation_fraction: float = option(
        0.1, "Domains", "Share of a source's train split that is held out when it has no validation split."
    )
    encoding: str | None = option(
        None, "Domains", "Encoding of csv, tsv, json and jsonl files that are not UTF-8, such as latin-1."
    )
    dry_run: bool = option(False, "Domains", "Print the plan and stop.")

    model: str | None = option(
        None, "Model", "Hub id or folder of the backbone; for text sentence-transformers/all-MiniLM-L6-v2 when absent."
    )
    model_config: dict | str | None = option(
        None,
        "Model",
        'Instead of a model: settings of one from scratch, {"model_type": "resnet", "hidden_sizes": [16, 32, 64], '
        '"depths": [1, 1, 1]}; JSON or YAML. Images then need image_size, text a processor.',
    )
    processor: str | None = option(
        None, "Model", "Hub id or folder of the tokenizer or image processor; the model's own when absent."
    )
    model_revision: str | None = option(None, "Model", "Branch, tag or commit of the model.")
    dtype: str | None = option(
        None, "Model", "float32, bfloat16 or float16 weights; the checkpoint's own when absent."
    )
    attn_implementation: str | None = option(None, "Model", "eager, sdpa, flash_attention_2 ...")
    trust_remote_code: bool = option(False, "Model", "Run code that comes with the model. Off unless you read it.")
    use_lora: bool = option(
        False, "Model", "LoRA-style partial transfer; targets are read off the structure. Try --learning_rate 1e-3."
    )
    lora_r: int = option(8, "Model", "Rank.")
    lora_alpha: int = option(16, "Model", "Scale.")
    lora_dropout: float = option(0.05, "Model", "Dropout in front of the adapter.")
    lora_target_modules: list[str] = option(list, "Model", "Modules to adapt; every linear of the layers when absent.")

    def __post_init__(self) -> None:
        read_fields(self, but=("validation_fraction",))  # whoever cuts the split reads it

    @property
    def sources(self) -> dict[str, str]:
        """Sources by name, as the field `source` gives them.

        Raises:
            ValueError: two sources of one name.
        """
        return sources_by_name(self.source)

    @property
    def dataset_names(self) -> dict[str, str]:
        """Sources and target by name, as the model card has them."""
        return {**self.sources, "target": self.target or ""}

    def check_domains(self) -> None:
        """Check of the domains.

        Raises:
            ValueError: there is no source, or the target is one of them.
        """
        if not self.source:
            raise ValueError("--source is missing: name a labelled source, or `--source sample`.")
        if self.target and self.target != "sample" and self.target in self.sources.values():
            raise ValueError(f"--target {self.target} is a source too: there is nothing to adapt to.")

    def load_domains(self, config: AdaptationConfig) -> LoadedDomains:
        """Sources and target as data sets by split, read once and cached for the other processes.

        Args:
            config: says which columns are read, and seeds the cut of validation rows.

        Raises:
            ValueError, FileNotFoundError: as `load_shift`.
        """
        return load_domains(config, self.sources, self.target, self.validation_fraction, self.encoding)

    def peft_config(self) -> Any:
        """PEFT's `LoraConfig` with `use_lora`, else `None`."""
        if not self.use_lora:
            return None
        from peft import LoraConfig

        return LoraConfig(
            r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self.lora_target_modules or None,
        )

    def backbone(self) -> Any:
        """Model as the trainer takes it: an id, a folder, or settings of one from scratch.

        Raises:
            ValueError: a model and settings of one from scratch, settings that are no map, or a word on how to load
                what is made.
        """
        if not self.model_config:
            return self.model or DEFAULT_MODEL
        if self.model:
            raise ValueError("model and model_config are both given: one is loaded, the other made. Leave one out.")
        for name in LOADING:
            if getattr(self, name):
                raise ValueError(f"{name} says how a model is loaded, and model_config makes one. Leave one out.")
        settings = read_setting("model_config", self.model_config)
        if not isinstance(settings, dict):
            raise ValueError(f'model_config must be a map, such as {{"model_type": "resnet"}}, not {settings!r}.')
        return settings

    def model_kwargs(self) -> dict[str, Any]:
        """Options of `from_pretrained`, which the trainer hands on."""
        return loading_options(self)


LOADING = ("model_revision", "dtype", "attn_implementation", "trust_remote_code")  # how a model is loaded
MODEL_OPTIONS = {  # which model it is, by name: all of their group but LoRA's
    f.name: str(f.metadata["help"])
    for f in fields(RunArguments)
    if f.metadata["help"].group == "Model" and "lora" not in f.name
}


def loading_options(arguments: Any) -> dict[str, Any]:
    """Options of `from_pretrained` among a recipe's arguments, which have the fields of `LOADING`."""
    options = {name.removeprefix("model_"): getattr(arguments, name) for name in LOADING}
    return {name: value for name, value in options.items() if value}


def load_domains(
    config: AdaptationConfig,
    sources: Mapping[str, str],
    target: str | None,
    validation_fraction: float,
    encoding: str | None,
) -> LoadedDomains:
    """Sources and target as data sets by split, read once and cached for the other processes.

    Args:
        config: says which columns are read, and seeds the cut of validation rows.
        sources: by name; none in a run on the target alone.
        target, validation_fraction, encoding: as in `load_shift`.

    Raises:
        ValueError, FileNotFoundError: as `load_shift`.
    """
    from ..data.domain_loading import load_shift

    with config.main_process_first(desc="loading"):
        return load_shift(
            sources,
            target,
            validation_fraction,
            config.seed,
            image_column=config.image_column,
            encoding=encoding,
            label_column=config.label_column,
            text_columns=(config.text_column, config.text_pair_column, config.tokens_column),
        )


def sources_by_name(specs: list[str]) -> dict[str, str]:
    """Sources by name, as the option `--source` gives them. A path that exists is no name with a path.

    Args:
        specs: what each source is, with `name=` in front of it where there are several.

    Raises:
        ValueError: two of a name.

    Example:
        >>> sources_by_name(["news=news.csv", "papers=papers.csv"]), sources_by_name(["news.csv"])
        ({'news': 'news.csv', 'papers': 'papers.csv'}, {'source': 'news.csv'})
    """
    sources: dict[str, str] = {}
    for i, spec in enumerate(specs):
        name, separator, rest = spec.partition("=")
        default_name = "source" if len(specs) == 1 else f"source_{i}"
        name, spec = (name, rest) if separator and name.isidentifier() and not _is_path(spec) else (default_name, spec)
        if name in sources or name == "target":
            raise ValueError(f"--source {spec}: the name {name!r} is taken; give each source a name of its own.")
        sources[name] = spec
    return sources


def _is_path(spec: str) -> bool:
    """Whether a path with "=" in it is there: all of it, or the folder that it starts in."""
    first = spec.split("/")[0]
    splits = ("train", "Train", "TRAIN", "training", "Training")
    return os.path.exists(spec) or any(os.path.exists(first.replace("{split}", split)) for split in splits)
