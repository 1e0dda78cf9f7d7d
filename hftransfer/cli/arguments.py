"""What the `finetune` recipe takes besides the trainer's config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, group: str, text: str) -> Any:
    extra = {"default_factory": default} if callable(default) else {"default": default}
    return field(**extra, metadata={"help": text, "group": group})


@dataclass
class FinetuneArguments:
    """Arguments of `recipes/finetune.py`.

    `source` and `target` take a Hub id (`owner/name`, `owner/name:config`), a folder, a csv, tsv, json, jsonl or
    parquet file, a pattern with `{split}` in it, or `sample` for the embedded corpus.
    """

    source: list[str] = _option(
        list,
        "Domains",
        "Labelled source: a Hub id, a folder, a csv, json or parquet file, a pattern such as data/news_{split}.csv, "
        "or sample. Repeat it, as name=..., for several.",
    )
    target: str | None = _option(None, "Domains", "Unlabelled target, given the same way.")
    validation_fraction: float = _option(
        0.1, "Domains", "Share of a source's train split that is held out when it has no validation split."
    )
    source_only_baseline: bool = _option(
        True, "Domains", "Train the same model on the source alone first, for the comparison."
    )
    dry_run: bool = _option(False, "Domains", "Print the plan and stop.")

    model: str = _option("sentence-transformers/all-MiniLM-L6-v2", "Model", "Hub id or folder of the backbone.")
    model_revision: str | None = _option(None, "Model", "Branch, tag or commit of the model.")
    dtype: str | None = _option(
        None, "Model", "float32, bfloat16 or float16 weights; the checkpoint's own when absent."
    )
    attn_implementation: str | None = _option(None, "Model", "eager, sdpa, flash_attention_2 ...")
    trust_remote_code: bool = _option(False, "Model", "Run code that comes with the model. Off unless you read it.")
    use_lora: bool = _option(False, "Model", "LoRA-style partial transfer; targets are read off the structure.")
    lora_r: int = _option(8, "Model", "Rank.")
    lora_alpha: int = _option(16, "Model", "Scale.")
    lora_dropout: float = _option(0.05, "Model", "Dropout in front of the adapter.")
    lora_target_modules: list[str] = _option(
        list, "Model", "Modules to adapt; every linear of the layers when absent."
    )
