"""Model card, from plain facts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from .._version import __version__
from ..messages import redacted, redacted_values
from .markdown import Markup, escaped, joined, table_row, table_rule
from .source_free_card import counts_in_config

PIPELINES = {
    "sequence-classification": "text-classification",
    "multi-label-classification": "text-classification",
    "regression": "text-classification",
    "token-classification": "token-classification",
}

PROBLEM_TYPES = {"multi-label-classification": "multi_label_classification", "regression": "regression"}


@dataclass(frozen=True)
class CardFacts:
    """Facts of a model card. `results` maps a row's name to `{column: value}`; "oracle" columns read target labels."""

    name: str
    repo_id: str
    base_model: str
    task: str
    labels: Sequence[str]
    sources: Sequence[str]
    target: str
    objectives: Mapping[str, str]
    papers: Sequence[str]
    trained: str
    settings: Mapping[str, str]
    results: Mapping[str, Mapping[str, float]]
    adapter: bool = False
    modality: str = "text"
    task_name: str = ""  # how people call the task; `task` when empty
    blocks: Sequence[Sequence[str]] = ()  # what trained: a header and rows, as text
    findings: Sequence[str] = ()  # what went wrong in training, a sentence or two each
    oracle_selection: bool = False  # target labels chose the checkpoint
    source_numbers: int = 0  # source validation rows whose counts stand in config.json

    @property
    def left_the_site(self) -> str:
        """What of the source's rows leaves with the model, in a sentence; empty for nothing but the weights."""
        return counts_in_config(self.source_numbers, len(self.labels)) if self.source_numbers else ""

    @property
    def pipeline(self) -> str:
        return "image-classification" if self.modality == "image" else PIPELINES[self.task]

    @property
    def shown_task(self) -> str:
        """Name of the task, with its article."""
        name = self.task_name or self.task
        return f"{'An' if name[0] in 'aeiou' else 'A'} {name}"

    @property
    def shown_base(self) -> str:
        return self.hub_base_model or ("a local checkpoint" if self.base_model else "none: made from a config")

    @property
    def hub_base_model(self) -> str:
        """Base model when it is a Hub id; a path of somebody's machine is nobody else's business."""
        return self.base_model if is_hub_id(self.base_model) else ""

    @property
    def shown_sources(self) -> str:
        return ", ".join(map(shown_dataset, self.sources))

    @property
    def shown_target(self) -> str:
        return shown_dataset(self.target)

    @property
    def columns(self) -> dict[str, str]:
        """Result columns worth a table, with their headings: the headline metrics, not every class's."""
        headline = ("accuracy", "macro_f1", "loss", "mse", "pearson")
        keys = dict.fromkeys(c for row in self.results.values() for c in row if c.endswith(headline))
        return {
            c: Markup(escaped(c.replace("oracle_", "").replace("_", " ")) + " (*oracle*)" * ("oracle" in c))
            for c in keys
        }


def render_card(
    facts: CardFacts,
    tags: Iterable[str] = (),
    datasets: Iterable[str] = (),
    extra_metadata: Mapping[str, Any] | None = None,
) -> str:
    """Model card as the text of a README.md, with its metadata block.

    Args:
        facts: what the card says.
        tags: besides our own.
        datasets: Hub ids, besides those among the facts.
        extra_metadata: of the block; `None` values are left out.
    """
    import jinja2
    import yaml

    names = (name.partition(":")[0] for name in (*facts.sources, facts.target))
    repositories = [name for name in names if "/" in name and is_hub_id(name)]
    meta: dict[str, Any] = {
        "library_name": "peft" if facts.adapter else "transformers",
        "pipeline_tag": facts.pipeline,
        "base_model": facts.hub_base_model,
        "datasets": list(dict.fromkeys([*repositories, *datasets])),
        "tags": sorted({"hftransfer", "domain-adaptation", *facts.objectives, *tags}),
    }
    meta = {key: value for key, value in {**meta, **(extra_metadata or {})}.items() if value}
    versions = shown_versions()
    template = resources.files("hftransfer.reporting").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=escaped
    )
    environment.filters |= {"joined": joined, "table_row": table_row, "table_rule": table_rule}
    load = Markup("\n".join(load_lines(facts)))
    body = environment.from_string(template).render(facts=facts, load=load, versions=versions)
    head = yaml.safe_dump(redacted_values(meta), sort_keys=False)
    return f"---\n{head}---\n\n{body.strip()}\n"


def load_lines(facts: CardFacts, folder: str | None = None) -> list[str]:
    """Lines of Python that load the model without hftransfer.

    Args:
        facts: of the model.
        folder: the model's; its repository when `None`.
    """
    base = facts.hub_base_model or (facts.base_model if folder else "path/to/the/base-model")
    location = folder or (facts.repo_id if "/" in facts.repo_id else f"your-name/{facts.repo_id}")
    location, base = _quoted(location), _quoted(base)
    if not facts.adapter:
        return ["from transformers import pipeline", "", f'model = pipeline("{facts.pipeline}", {location})']
    # An adapter's repository has no config: the base model's says neither how many labels there are nor their names.
    if facts.modality == "image":
        return _image_adapter_lines(facts, location, base)
    auto = f"AutoPeftModelFor{'Token' if facts.pipeline == 'token-classification' else 'Sequence'}Classification"
    return [
        f"from peft import {auto}",
        "from transformers import pipeline",
        "",
        f"model = {auto}.from_pretrained({location}, {_head_options(facts)})",
        f'model = pipeline("{facts.pipeline}", model.merge_and_unload(), tokenizer={location})',
    ]


def _image_adapter_lines(facts: CardFacts, location: str, base: str) -> list[str]:
    """Lines that load an adapter of an image classifier, whose base no class of PEFT finds by itself."""
    auto = "AutoModelForImageClassification"
    return [
        "from peft import PeftModel",
        f"from transformers import {auto}, pipeline",
        "",
        f"model = {auto}.from_pretrained({base}, {_head_options(facts)})",
        f"model = PeftModel.from_pretrained(model, {location}).merge_and_unload()",
        f'model = pipeline("{facts.pipeline}", model, image_processor={location})',
    ]


def _quoted(name: str) -> str:
    """Literal of Python for any text."""
    return json.dumps(redacted(name), ensure_ascii=False)


def _head_options(facts: CardFacts) -> str:
    options = [f"id2label={dict(enumerate(facts.labels))}" if facts.labels else "num_labels=1"]
    options += ["ignore_mismatched_sizes=True"]
    options += [f'problem_type="{kind}"'] if (kind := PROBLEM_TYPES.get(facts.task)) else []
    return ", ".join(options)


def is_hub_id(name: str) -> bool:
    """Whether a name is a repository's (`name` or `owner/name`) and no file or folder here."""
    part = r"[A-Za-z0-9_][\w.-]*"
    return bool(re.fullmatch(rf"{part}(/{part})?", name)) and not _is_file(name)


def _is_file(name: str) -> bool:
    return Path(name).exists() or Path(name).suffix in (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def shown_dataset(name: str) -> str:
    """Name of a data set for strangers: files and folders without the way to them."""
    return name if is_hub_id(name.partition(":")[0]) else Path(name).name


def shown_versions() -> str:
    """Versions of what a model was made with."""
    others = (f"{name} {metadata.version(name)}" for name in ("transformers", "torch"))
    return ", ".join([f"hftransfer {__version__}", *others])
