"""Options of the recipe `finetune` besides the trainer's config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import explain_fields, option
from .run_options import RunArguments


@explain_fields()
@dataclass
class FinetuneArguments(RunArguments):
    """Arguments of the recipe `finetune` besides `AdaptationConfig`: which domains, which model.

    `source` and `target` are as in `RunArguments`.

    Example:
        >>> FinetuneArguments(source=["news=news.csv", "papers=papers.csv"]).sources
        {'news': 'news.csv', 'papers': 'papers.csv'}
    """

    source_only_baseline: bool = option(
        True, "Domains", "Train the same model on the source alone first, for the comparison."
    )
